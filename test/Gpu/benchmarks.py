"""Throughput beside PyTorch's best mode in the same call, planned peak beside PyTorch's, time to the first step, idle time inside a step.

A row is one model shape: zopt's portable plan, run by zrun with --init=gpt2, bf16, AdamW, clipping at 1, metrics on, synthetic batches; and torch_train.py's rows.
zopt's figure is the median of `step_ms` after the first SKIP steps, PyTorch's the median that torch_train.py prints.
"""
import json
import re
import shutil
import statistics
import time
from dataclasses import dataclass

from device import ROOT, Device, find_graph
from harness import execute, model_path, read_metrics, scratch, succeed

SKIP, STEPS = 5, 25  # steps not counted, steps counted
GIB = 1 << 30


@dataclass(frozen=True)
class Row:
    name: str  # graph and peer
    batch: int
    seq: int
    modes: tuple  # of the peer; the best counts
    must: float  # PyTorch's time over ours
    goal: float
    peer: str = ""
    flags: tuple = ()  # zopt's
    comm: str = ""

    @property
    def label(self):
        return f"{self.name} B{self.batch} T{self.seq}" + (f" {' '.join(self.flags)}" if self.flags else "") + (f" {self.comm}" if self.comm else "")


ROWS = (
    Row("gpt2-124m", 32, 1024, ("compile",), 1.12, 1.25),
    Row("gpt2-355m", 16, 1024, ("compile",), 1.12, 1.25),
    Row("gpt2-1.5b", 8, 1024, ("compile",), 1.15, 1.28),
    Row("llama-1.1b", 4, 4096, ("compile",), 1.05, 1.12),
    Row("gpt2-124m", 4, 512, ("overhead", "compile"), 1.15, 1.30),
    Row("resnet50", 256, 1, ("compile",), 1.0, 1.1),  # images: a sequence of 1
    # Less memory: 0.8 of PyTorch's is wanted, the time is what it is.
    Row("gpt2-124m", 32, 1024, ("compile",), 0, 0, flags=("--recompute=selective",)),
    Row("gpt2-1.5b", 8, 1024, ("compile",), 0, 0, flags=("--recompute=selective",)),
    Row("gpt2-1.5b", 8, 1024, ("compile",), 0, 0, flags=("--recompute=full",)),
    Row("llama-1.1b", 4, 4096, ("compile",), 0, 0, flags=("--recompute=selective",)),
)
NCCL_ROW = Row("gpt2-124m", 32, 1024, (), 0.98, 1.0, flags=("--zero-stage=3",), comm="nccl")
CPU_ROWS = (Row("gpt2-text", 4, 64, ("eager",), 0, 0), Row("gpt2-124m", 1, 16, ("eager",), 0, 0, flags=("--zero-stage=3",)))


class Options:
    """Set once by run.py."""
    rows = ""  # names, separated by commas; empty: all
    peers = True
    torch_python = "python3"
    known_peers = None  # a file with the peer's results of an earlier call on this machine
    autotune = False
    traces = None  # a folder that keeps each row's trace and final plan
    kernels = False


def compile_row(row, folder):
    graph = model_path(row.name) if row.name == "gpt2-text" else find_graph(row.name)
    assert graph, f"{row.name}.onnx is nowhere here (--graphs names its folder)"
    plan = folder / "plan.mlir"
    begin = time.time()
    succeed(["zopt", "--bf16", f"--micro-batch={row.batch}", *([f"--bind=seq={row.seq}"] if row.seq > 1 else []), "--clip=1", "--lr=3e-4", "--betas=0.9,0.95", "--weight-decay=0.1", *row.flags, graph, "-o", plan],
            timeout=300)
    return plan, time.time() - begin


def run_row(row, plan, steps, *flags, **extra):
    """Metrics of a run, the seconds from its start to the end of its first step, and what it printed."""
    folder = scratch("bench")
    command = ["zrun", plan, "--nproc", 1, f"--target={Device.target}", "--init=gpt2", "--steps", steps, "--metrics", folder / "m", *flags]
    if row.comm and Device.target == "cuda":
        command.append(f"--comm={row.comm}")
    begin = time.time()
    done = succeed(command, timeout=400, **extra)
    starts, steps, ends = read_metrics(folder / "m")
    return starts[0], steps, ends[0], steps[0]["time"] - begin, done.stdout


def read_trace(trace):
    """The time in which a traced step, which is launched command by command, had something to run on the device, what part of its time was idle, and its five longest kinds of commands."""
    events = [e for e in json.loads(trace.read_text())["traceEvents"] if e.get("ph") == "X"]
    spans = sorted((e["ts"], e["ts"] + e["dur"]) for e in events)
    busy, end = 0.0, spans[0][0]
    for first, last in spans:
        busy += max(0.0, last - max(first, end))
        end = max(end, last)
    kinds = {}
    for e in events:
        kinds[e["name"]] = kinds.get(e["name"], 0.0) + e["dur"]
    longest = sorted(kinds.items(), key=lambda item: -item[1])[:5]
    return {"busy_ms": busy / 1e3, "idle": 1 - busy / (end - spans[0][0]), "longest": [[name, round(us / 1e3, 3)] for name, us in longest]}


def bandwidths(final, trace):
    """What benchmarks/gpu/kernels.py prints."""
    copy = [] if Device.target == "cuda" else ["--copy-gbs", 20]
    done = execute([Options.torch_python, ROOT / "benchmarks/gpu/kernels.py", final, trace, *copy], timeout=120)
    return done.stdout if done.code == 0 else f"kernels.py failed: {done}"


def zopt_result(row, quick):
    """One run, from empty caches, traced in a step that is not counted; of the first row a second one, for the time to its first step."""
    folder = scratch("row")
    name = re.sub(r"[^A-Za-z0-9.]+", "-", row.label).strip("-")
    final, trace = folder / f"{name}.mlir", folder / f"{name}.json"
    fresh = {"XDG_CACHE_HOME": str(folder / "cache"), "CUDA_CACHE_PATH": str(folder / "cuda")}
    flags = ["--autotune"] if Options.autotune else []
    try:
        plan, compile_seconds = compile_row(row, folder)
        start, steps, end, first, memory = run_row(row, plan, SKIP + (10 if quick else STEPS), "--trace", trace, "--save-plan", final, "--memory-report", *flags, **fresh)
        times = [s["step_ms"] for s in steps[SKIP:]]
        result = {"zopt_s": round(compile_seconds, 2), "ms": statistics.median(times), "min_ms": min(times), "max_ms": max(times), "planned": start["planned_peak"]["device"],
                  "measured": end["measured_peak"]["device"], "first_step_s": round(first, 2), "loss": steps[-1]["loss"], "memory": memory}
        result["tok_s"] = row.batch * row.seq / result["ms"] * 1e3
        result |= read_trace(trace)
        if Options.kernels:
            result["kernels"] = bandwidths(final, trace)
        if Options.traces:
            Options.traces.mkdir(parents=True, exist_ok=True)
            for path in (final, trace):
                shutil.copyfile(path, Options.traces / path.name)
        if row is ROWS[0] and not quick:
            *_, second, _ = run_row(row, plan, 2, *flags, **fresh)
            result["second_first_step_s"] = round(second, 2)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return result


known = {}  # the peer's objects of this call, by what was asked for


def peer_results(row, steps):
    """torch_train.py's objects, one a mode; each is run once."""
    if Options.known_peers and Options.known_peers.exists():
        known.update(json.loads(Options.known_peers.read_text()))
    results = []
    for mode in row.modes:
        spec = f"{row.peer or row.name}:{row.batch}:{mode}:0:{row.seq}"
        if spec not in known:
            command = [Options.torch_python, ROOT / "benchmarks/peers/torch_train.py", "--device", Device.target, "--dtype", "bf16", "--steps", steps, spec]
            done = execute(command, timeout=400)
            lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
            known[spec] = json.loads(lines[-1]) if lines else {"error": done.stderr.strip().splitlines()[-1][:200] if done.stderr.strip() else f"exit code {done.code}"}
        results.append(known[spec])
    if Options.known_peers:
        Options.known_peers.write_text(json.dumps(known, indent=1))
    return results


def table_line(entry):
    ours, best = entry.get("zopt", {}), entry.get("best")
    parts = [f"{entry['row']:34}"]
    parts.append(f"zopt {ours['ms']:8.2f} ms {ours['tok_s']:9.0f} tok/s {ours['planned'] / GIB:6.2f} GiB" if "ms" in ours else f"zopt: {entry.get('error', 'not run')[:80]}")
    if best:
        parts.append(f"| PyTorch {best['mode']} {best['ms']:8.2f} ms {best['tok_s']:9.0f} tok/s {best['peak_gib']:6.2f} GiB first two steps {best['first2_s']} s")
    if best and "ms" in ours:
        marks = f"(must {entry['must']}, goal {entry['goal']}), " if entry["must"] else ""
        parts.append(f"| {best['ms'] / ours['ms']:.3f}x {marks}memory {ours['planned'] / GIB / best['peak_gib']:.2f}x")
    if "first_step_s" in ours:
        parts.append(f"| first step {ours['first_step_s']} s" + (f", again {ours['second_first_step_s']} s" if "second_first_step_s" in ours else ""))
    if "idle" in ours:
        parts.append(f"| busy {ours['busy_ms']:.2f} ms, idle {ours['idle'] * 100:.1f}% of the traced step")
    return " ".join(parts)


def run(deadline, quick, report):
    """Yields one entry a row as it is done; `report` prints its line."""
    rows = (ROWS + (NCCL_ROW,) if Device.target == "cuda" else CPU_ROWS)
    wanted = [name for name in Options.rows.split(",") if name]
    entries, stage_zero = [], None
    for number, row in enumerate(rows):
        if wanted and not any(name == str(number) or name in row.label for name in wanted):
            continue
        entry = {"row": row.label, "must": row.must, "goal": row.goal, "code": "PASS"}
        entries.append(entry)
        try:
            if time.time() > deadline:
                entry |= {"code": "OUT OF TIME", "error": "not begun: no time was left"}
            else:
                entry["zopt"] = zopt_result(row, quick)
        except Exception as error:  # one row must not hide the others
            entry |= {"code": "FAIL", "error": str(error)}
        try:
            if Options.peers and row.modes and time.time() < deadline:
                entry["peers"] = peer_results(row, 10 if quick else 20)
                good = [p for p in entry["peers"] if "ms" in p]
                if not good:
                    raise AssertionError(f"no row of PyTorch's ran: {entry['peers']}")
                entry["best"] = min(good, key=lambda p: p["ms"])
        except Exception as error:
            entry |= {"code": "FAIL", "error": entry.get("error", "") + f"\nPyTorch: {error}"}
        ours = entry.get("zopt", {})
        if row is ROWS[0] and "ms" in ours:
            stage_zero = ours["ms"]
        if row is NCCL_ROW and "ms" in ours and stage_zero:
            entry["of_stage_0"] = stage_zero / ours["ms"]
        report(table_line(entry) + (f" | {entry['of_stage_0']:.3f}x of stage 0" if "of_stage_0" in entry else ""))
        if "error" in entry:
            report("    " + entry["error"].strip().replace("\n", "\n    ")[-1500:])
        for name, ms in ours.get("longest", []):
            report(f"    {ms:9.3f} ms {name}")
        for line in (ours.get("memory", "") + ours.get("kernels", "")).splitlines():
            report("    " + line)
    return entries
