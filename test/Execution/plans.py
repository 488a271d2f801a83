"""Plans as files: they round-trip, are the same every time, carry no weights, and every wrong edit is caught before a step runs."""
import math
import re
import shutil

import numpy as np

import onnx_writer as onnx
import tensors
from harness import MODELS, add, compile_hiding, compile_plan, execute, expect_refusal, model_path, scratch, succeed, test

GRAPHS = MODELS.parent / "Graphs"


def round_trip(model, *flags):
    path = compile_plan(model, *flags)
    again = path.parent / "again.mlir"
    succeed(["zopt", path, "-o", again])
    assert again.read_text() == path.read_text(), "a plan is printed otherwise than it was read"


for model in ("gpt2-tiny", "llama-tiny", "mlp-tiny"):
    add(f"plan/round trip/{model}/portable", round_trip, model, "--zero-stage=3", "--bf16")
    add(f"plan/round trip/{model}/final", round_trip, model, "--zero-stage=2", "--nproc=4", "--threads=1")


@test("plan/the same every time")
def deterministic():
    folder = scratch("same")
    for name in "ab":
        succeed(["zopt", "--zero-stage=3", "--nproc=4", "--threads=1", model_path("gpt2-tiny"), "-o", folder / f"{name}.mlir"])
    assert (folder / "a.mlir").read_text() == (folder / "b.mlir").read_text(), "two compilations of one model differ"


def no_large_literal(model, *flags):
    text = compile_plan(model, *flags).read_text()
    assert "dense_resource" not in text, "a plan carries a blob"
    literals = re.findall(r"dense<([^>]*)> : tensor<((?:\d+x)*)([a-z]+)(\d+)>", text)
    for value, shape, kind, bits in literals:
        elements = math.prod(map(int, shape.split("x")[:-1])) if value.startswith(("[", '"')) else 1  # otherwise a splat
        assert elements * max(8, int(bits)) // 8 <= 1024, f"a literal of {elements} elements of {kind}{bits}: {value[:80]}..."


for model in ("gpt2-tiny", "gpt2-tiny-ts", "llama-tiny", "llama-tiny-raw", "llama-tiny-op23"):
    add(f"plan/no literal over 1 KiB/{model}", no_large_literal, model, "--zero-stage=3")


@test("plan/gpt2-1.5b's portable plan is below 4 MB")
def small_plan():
    folder = scratch("large")
    succeed(["zopt", "--zero-stage=3", "--bf16", GRAPHS / "gpt2-1.5b.onnx", "-o", folder / "plan.mlir"])
    size = (folder / "plan.mlir").stat().st_size
    assert size < 4_000_000, f"{size} bytes"


def same_memory(graph, *flags):
    """Moving collectives apart from what they wait for takes no memory (lib/Conversion/ZeroToPlan/WidenSchedule.cpp)."""
    for stage in (1, 2, 3):
        for ranks in (4, 8, 16):
            plans = [compile_hiding(least, graph, f"--zero-stage={stage}", f"--nproc={ranks}", "--threads=1", *flags) for least in (-1, 1 << 20)]
            arenas = [int(re.search(r"plan\.arena @device device (\d+)", plan.read_text()).group(1)) for plan in plans]
            assert arenas[1] <= arenas[0], f"stage {stage} on {ranks} ranks: {arenas[0]} bytes, and {arenas[1]} with collectives moved apart"


for name in ("gpt2-124m", "gpt2-1.5b"):
    add(f"plan/collectives move within the same memory/{name}", same_memory, GRAPHS / f"{name}.onnx", "--bf16", "--target=cuda", "--micro-batch=4")


@test("plan/weights are found relative to the plan, and a changed file is refused")
def weights_by_reference():
    folder = scratch("weights")
    for name in ("model.onnx", "model.onnx.data"):
        shutil.copy(MODELS / "llama-tiny" / name, folder / name)
    succeed(["zopt", folder / "model.onnx", "-o", folder / "plan.mlir"])
    moved = folder.parent / (folder.name + "-moved")
    folder.rename(moved)
    run = ["zrun", moved / "plan.mlir", "--comm=local", "--steps", 1]
    succeed(run)
    data = bytearray((moved / "model.onnx.data").read_bytes())
    data[5000:5004] = bytes(4)
    (moved / "model.onnx.data").write_bytes(data)
    expect_refusal(execute(run, timeout=30), 1, r"model\.onnx\.data")
    (moved / "model.onnx.data").write_bytes(data[:-4])
    expect_refusal(execute(run, timeout=30), 1, r"model\.onnx\.data")
    (moved / "model.onnx.data").unlink()
    expect_refusal(execute(run, timeout=30), 1, r"model\.onnx\.data")


# ---------------------------------------------------------------------------------------------------------------------
# Wrong edits by hand
# ---------------------------------------------------------------------------------------------------------------------

def substitute(pattern, replacement, count=1):
    return lambda text: re.sub(pattern, replacement, text, count=count, flags=re.M)


def add_to(pattern, number):
    """`pattern` has groups before, number, after."""
    return lambda text: re.sub(pattern, lambda m: m[1] + str(int(m[2]) + number) + m[3], text, count=1, flags=re.M)


def commands(text, sequence="micro_step"):
    """Lines before, of, and after the commands of a sequence."""
    lines = text.split("\n")
    begin = next(i for i, line in enumerate(lines) if f"plan.sequence @{sequence}" in line) + 1
    end = next(i for i in range(begin, len(lines)) if lines[i].startswith("  }"))
    return lines[:begin], lines[begin:end], lines[end:]


def edit_commands(function, sequence="micro_step"):
    def edit(text):
        before, body, after = commands(text, sequence)
        return "\n".join(before + function(body) + after)
    return edit


def late_wait(body):
    """The first wait of a collective moves to the end: its result is read while it is in flight."""
    index = next(i for i, line in enumerate(body) if "plan.wait" in line)
    return body[:index] + body[index + 1:] + [body[index]]


def first_writer_last(body):
    index = next(i for i, line in enumerate(body) if "plan.matmul" in line)
    return body[:index] + body[index + 1:] + [body[index]]


def same_offset(text):
    """The second persistent buffer is moved onto the first."""
    found = list(re.finditer(r"plan\.buffer .* at (\d+) bytes .*persistent", text))
    second = found[1]
    return text[:second.start(1)] + found[0][1] + text[second.end(1):]


edits = {
    "an arena that is too small": add_to(r"(plan\.arena @\S+ device )(\d+)()", -64),
    "a buffer past the end of its arena": substitute(r"(plan\.buffer .* at )\d+( bytes)", r"\g<1>1099511627776\2"),
    "a buffer that is not aligned": add_to(r"(plan\.buffer .* at )(\d+)( bytes)", 4),
    "a buffer smaller than what it holds": substitute(r"(plan\.buffer .* bytes )\d+( for activations)", r"\g<1>64\2"),
    "a negative size": substitute(r"(plan\.buffer .* bytes )\d+( for)", r"\1-64\2"),
    "two states in one place": same_offset,
    "a wait that is missing": edit_commands(lambda body: [line for i, line in enumerate(body) if i != next(j for j, l in enumerate(body) if "plan.wait" in l)]),
    "a wait for what was never started": add_to(r"(plan\.wait )(\d+)(.*)", 1000),
    "a wait after the result is read": edit_commands(late_wait),
    "a command after its reader": edit_commands(first_writer_last),
    "a collective started twice": edit_commands(lambda body: [l for line in body for l in ([line, line] if "plan.reduce_scatter" in line or "plan.all_gather" in line else [line])]),
    "a buffer that does not exist": substitute(r"(plan\.launch @\S+ \[)@[^,\]]+", r"\1@nowhere"),
    "a kernel that does not exist": substitute(r"(plan\.launch )@\S+", r"\1@nowhere"),
    "another world size": substitute(r"(plan\.target .*world_size = )4", r"\g<1>3"),
    "a gather of more than a slice": substitute(r"bytes_per_rank \d+", "bytes_per_rank 1048576"),
    "segments that overlap": substitute(r"(#zero\.segment<@[^,]+, \d+, \d+>, #zero\.segment<@[^,]+, )\d+", r"\g<1>0"),
    "a bucket that lives nowhere": substitute(r"^.*plan\.placed_bucket.*\n", ""),
    "a closing brace that is missing": lambda text: re.sub(r"^\}", "", text, flags=re.M),
    "half the file": lambda text: text[:len(text) // 2],
}


def wrong_edit(edit):
    path = compile_plan("gpt2-tiny", "--zero-stage=3", "--bucket-bytes=65536", "--nproc=4", "--threads=1")
    text = path.read_text()
    edited = edit(text)
    assert edited != text, "the edit changed nothing"
    target = scratch("edited") / "plan.mlir"
    target.write_text(edited)
    done = execute(["zopt", "--verify-plan", target, "-o", target.parent / "out.mlir"], timeout=60)
    expect_refusal(done, 1, r"plan\.mlir")
    done = execute(["zrun", target, "--nproc", 4, "--comm=local", "--threads", 1, "--steps", 1, "--init=normal:0.02"], timeout=60)
    expect_refusal(done, 1, r"plan\.mlir")


for name, edit in edits.items():
    add(f"plan/wrong edit/{name}", wrong_edit, edit)


@test("plan/a plan made for another CPU is refused with the remedy")
def other_cpu():
    path = compile_plan("mlp-tiny", "--nproc=1", "--threads=1")
    text = path.read_text()
    target = path.parent / "other.mlir"
    edited = re.sub(r'features = "[^"]*"', 'features = "+never-built-feature"', text)
    assert edited != text
    target.write_text(edited)
    expect_refusal(execute(["zrun", target, "--comm=local", "--threads", 1, "--steps", 1], timeout=30), 1, r"never-built-feature")


@test("plan/a plan of a product alone, which has no kernel, runs")
def no_kernel():
    folder, rng = scratch("product"), np.random.default_rng(3)
    x, w = rng.integers(-8, 9, (4, 8)).astype(np.float32), rng.integers(-8, 9, (8, 3)).astype(np.float32)
    (folder / "model.onnx").write_bytes(onnx.model([onnx.node("MatMul", ["x", "w"], ["y"])], [onnx.tensor("w", w)], [onnx.value("x", ["batch", 8])], [onnx.value("y", ["batch", 3])]))
    tensors.save(folder / "x.safetensors", {"x": x})
    succeed(["zopt", "--mode=forward", "--micro-batch=2", folder / "model.onnx", "-o", folder / "plan.mlir"])
    succeed(["zrun", folder / "plan.mlir", "--comm=local", "--nproc", 2, "--data", folder / "x.safetensors", "--outputs", folder / "y.safetensors"])
    assert np.array_equal(tensors.load(folder / "y.safetensors")["y"], x @ w)
