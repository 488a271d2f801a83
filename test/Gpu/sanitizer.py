"""compute-sanitizer finds nothing in two steps of the small models: memcheck, racecheck, initcheck, synccheck."""
import re

from device import Device, find_program, specialization
from harness import MODELS, Settings, add, compile_plan, execute, scratch, succeed

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
CASES = [("gpt2-tiny", 0, "fp32"), ("gpt2-tiny", 3, "bf16"), ("llama-tiny", 3, "fp32"), ("llama-tiny", 0, "bf16"), ("mlp-tiny", 1, "fp32")]
# Barriers are matters inside a kernel: only ours are looked at. What initcheck knows of memory needs every kernel's writes. Under racecheck cuDNN's attention ends with an internal error of the sanitizer, unless its kernels are named as
# not to be looked at ("--kernel-regex" with ours instead does not keep it from that).
FILTERS = {"memcheck": [], "initcheck": [], "racecheck": ["--kernel-regex-exclude", "kns=cudnn"], "synccheck": ["--kernel-regex", "kns=zopt_"]}
OURS = r"zopt_\w*"  # our kernels' names; others are libraries', of which initcheck does not know which bytes they mean to read

found = []  # lines for the table


def command(model, stage, precision, folder):
    flags = [f"--zero-stage={stage}", "--micro-batch=2", "--clip=1", *specialization(Device.target, 1)]
    if precision != "fp32":
        flags.append(f"--{precision}")
    return ["zrun", compile_plan(model, *flags), "--nproc", 1, "--comm=local", "--threads", 1, f"--target={Device.target}", "--data", MODELS / model / "batch.safetensors", "--steps", 2,
            "--metrics", folder / "metrics.jsonl"]


def check(tool, model, stage, precision):
    program = find_program("compute-sanitizer")
    assert program, "compute-sanitizer is not here: it comes with CUDA's toolkit"
    folder = scratch("sanitizer")
    run = command(model, stage, precision, folder)
    succeed(run, timeout=300)  # compiles into the cache, which the sanitizer's run reads
    for only in [FILTERS[tool], []] if FILTERS[tool] else [[]]:  # a sanitizer that does not know the filter checks all
        done = execute([program, "--tool", tool, *only, "--print-limit", 20, "--error-exitcode", 99, "--target-processes", "all", Settings.tools / run[0], *run[1:]],
                       timeout=300, ZOPT_CUDA_GRAPH="0")  # zrun launches its ranks as processes: a sanitizer that follows the application alone waits forever
        text = done.stdout + done.stderr
        summary = re.search(r"(?:ERROR|RACECHECK) SUMMARY: (.*)", text)
        if summary:
            break
    assert summary, f"compute-sanitizer gave no summary: {done}\n{done.stdout[-3000:]}"
    ours = len(re.findall(rf"^=.*\bat (?:\S*::)?{OURS}\+", text, re.M))
    found.append(f"{tool:10} {model:11} stage {stage} {precision}: {summary[1]}; in our kernels {ours}")
    reports = "\n".join(line for line in text.splitlines() if line.startswith("="))[:4000]
    if tool == "initcheck":
        assert ours == 0 and done.code in (0, 99), f"{ours} reports in our kernels (exit code {done.code}):\n{reports}"
    else:
        assert done.code == 0, f"exit code {done.code}, {summary[0]}:\n{reports}"


def register():
    if Device.target != "cuda":
        return
    for tool in ("memcheck", "racecheck") if Device.quick else TOOLS:
        for model, stage, precision in CASES[:3:2] if Device.quick else CASES:
            add(f"sanitizer/{tool}/{model}/stage{stage}/{precision}", check, tool, model, stage, precision)


def summary():
    return sorted(found)
