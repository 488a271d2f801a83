"""What users type and get: the flags, files and records of INTERFACE that no other module looks at."""
import json
import re

import numpy as np

import tensors
from harness import EXAMPLES, MODELS, Config, compile_plan, execute, expect_refusal, read_metrics, reference, scratch, succeed, test, train
from onnx_writer import model, node, tensor, value

MLP = MODELS / "mlp-tiny" / "batch.safetensors"
TEXT = EXAMPLES / "gpt2-text" / "text.txt"


def mlp_plan(*flags):
    return compile_plan("mlp-tiny", "--micro-batch=4", *flags)


def run(plan, *flags, **options):
    return succeed(["zrun", plan, "--comm=local", "--threads", 1, *flags], **options)


@test("metrics/records have the fields of the interface")
def metrics_fields():
    result = train(Config("gpt2-tiny", ranks=2, micro=4, steps=5))
    assert result.start.keys() >= {"time", "plan", "nproc", "comm", "target", "planned_peak", "parameters", "buckets"}, result.start
    assert result.start["nproc"] == 2 and result.start["comm"] == "local" and result.start["target"] == "cpu", result.start
    assert result.start["parameters"] == reference("gpt2-tiny")["parameters"], result.start
    assert result.start["planned_peak"].keys() == result.end["measured_peak"].keys() == {"device", "host", "file"}, result.start
    sequence = tensors.load(MODELS / "gpt2-tiny" / "batch.safetensors")["input_ids"].shape[1]
    for number, step in enumerate(result.steps, 1):
        assert step.keys() >= {"time", "step", "epoch", "samples", "tokens", "loss", "grad_norm", "lr", "skipped", "step_ms", "samples_per_s", "tokens_per_s"}, step
        assert (step["step"], step["samples"], step["tokens"], step["lr"], step["skipped"]) == (number, 8 * number, 8 * number * sequence, 0.001, False), step
    assert result.end["steps"] == 5, result.end


@test("metrics/epochs: what is left at the end of an epoch is dropped, and that is said")
def epochs():
    folder = scratch("epochs")
    data = {k: v[:10] for k, v in tensors.load(MLP).items()}
    tensors.save(folder / "ten.safetensors", data)
    done = run(mlp_plan(), "--data", folder / "ten.safetensors", "--epochs", 2, "--metrics", folder / "m")
    steps = read_metrics(folder / "m")[1]
    assert [s["epoch"] for s in steps] == [0, 0, 1, 1], f"two steps of four samples in each of two epochs of ten: {steps}"
    assert re.search(r"\b2 samples\b|\b2\b.*dropped", done.stderr), f"does not say that 2 samples are dropped: {done}"


@test("run/repeats bit for bit")
def repeats():
    folder = scratch("repeat")
    for name in ("a", "b"):
        run(mlp_plan("--zero-stage=2"), "--nproc", 2, "--data", MLP, "--steps", 4, "--shuffle", "--seed", 5, "--weights-out", folder / name)
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes(), "two runs of one command differ"


@test("run/--shuffle and --seed change the order of samples")
def shuffle():
    folder = scratch("shuffle")
    losses = {}
    for name, flags in {"in order": (), "seed 1": ("--shuffle", "--seed", 1), "seed 2": ("--shuffle", "--seed", 2)}.items():
        run(mlp_plan(), "--data", MLP, "--steps", 2, "--metrics", folder / name, *flags)
        losses[name] = [s["loss"] for s in read_metrics(folder / name)[1]]
    assert len({tuple(v) for v in losses.values()}) == 3, f"the same samples in the same order: {losses}"


@test("run/threads a rank do not change the bits")
def threads():
    folder = scratch("threads")
    for count in (1, 2, 3):
        succeed(["zrun", compile_plan("gpt2-tiny", "--micro-batch=4"), "--comm=local", "--threads", count, "--data", MODELS / "gpt2-tiny" / "batch.safetensors", "--steps", 3, "--weights-out", folder / f"w{count}"])
    one = tensors.load(folder / "w1")
    for count in (2, 3):
        differ = tensors.same_bits(one, tensors.load(folder / f"w{count}"))
        assert not differ, f"{len(differ)} weights differ between 1 and {count} threads: {differ[:3]}"


@test("run/without --data: synthetic batches, and that is said")
def synthetic():
    done = run(mlp_plan(), "--steps", 2)
    assert "synthetic" in done.stderr, f"does not say that batches are synthetic: {done}"


@test("run/a run that keeps nothing says so")
def keeps_nothing():
    done = run(mlp_plan(), "--data", MLP, "--steps", 1)
    assert re.search(r"weights|keep|kept|saved", done.stderr), f"does not say that nothing is kept: {done}"
    assert done.stdout == "", f"stdout carries only what was asked for: {done.stdout!r}"


@test("run/--weights-out read back by --weights continues from there")
def weights_round_trip():
    folder = scratch("weights")
    plan = compile_plan("mlp-tiny", "--micro-batch=4", "--optimizer=sgd", "--lr=0.05")  # no optimizer state: two halves make the whole
    data = tensors.load(MLP)
    tensors.save(folder / "second.safetensors", {k: v[8:16] for k, v in data.items()})
    run(plan, "--data", MLP, "--steps", 4, "--weights-out", folder / "whole")
    run(plan, "--data", MLP, "--steps", 2, "--weights-out", folder / "half")
    run(plan, "--data", folder / "second.safetensors", "--steps", 2, "--weights", folder / "half", "--weights-out", folder / "resumed")
    assert not tensors.same_bits(tensors.load(folder / "whole"), tensors.load(folder / "resumed")), "training in two halves gives other weights"


@test("run/--weights-out without steps of change gives the model's own weights")
def unchanged_weights():
    folder = scratch("weights")
    plan = compile_plan("gpt2-tiny", "--optimizer=sgd", "--lr=0", "--zero-stage=3", "--bf16")
    run(plan, "--nproc", 3, "--data", MODELS / "gpt2-tiny" / "batch.safetensors", "--steps", 1, "--weights-out", folder / "w")
    expected = reference("gpt2-tiny")["trainable"]
    weights = tensors.load(folder / "w")
    assert set(expected) <= weights.keys(), f"missing: {set(expected) - weights.keys()}"
    assert all(w.dtype == np.float32 for w in weights.values()), "weights are written as fp32"
    raw = (MODELS / "gpt2-tiny" / "model.onnx").read_bytes()
    for name in expected:  # masters start from the unrounded weights, which stand in the file as they are
        assert weights[name].tobytes() in raw, f"'{name}' is not what the model file holds"


@test("run/--names=source")
def source_names():
    folder = scratch("names")
    run(compile_plan("llama-tiny"), "--data", MODELS / "llama-tiny" / "batch.safetensors", "--steps", 1, "--names=source", "--weights-out", folder / "source")
    run(compile_plan("llama-tiny"), "--data", MODELS / "llama-tiny" / "batch.safetensors", "--steps", 1, "--weights-out", folder / "onnx")
    source, onnx = tensors.load(folder / "source"), tensors.load(folder / "onnx")
    for name, entry in reference("llama-tiny")["name_map"].items():
        assert name in source, f"'{name}' is not among {sorted(source)[:5]}..."
        theirs = onnx[entry["initializer"]]
        assert np.array_equal(source[name], theirs.T if entry["transposed"] else theirs), f"'{name}' is not '{entry['initializer']}'"


@test("run/--init=gpt2 trains from scratch")
def init_gpt2():
    folder = scratch("init")
    plan = compile_plan("gpt2-tiny", "--optimizer=sgd", "--lr=0")
    run(plan, "--data", MODELS / "gpt2-tiny" / "batch.safetensors", "--steps", 1, "--init=gpt2", "--weights-out", folder / "w")
    for name, w in tensors.load(folder / "w").items():
        if ".ln_" in name and name.endswith("weight"):
            assert (w == 1).all(), f"norm scale '{name}' is not 1"
        elif name.endswith("bias"):
            assert (w == 0).all(), f"bias '{name}' is not 0"
        else:
            assert 0.015 < w.std() < 0.025, f"'{name}' has standard deviation {w.std():.4f}, expected 0.02"


@test("run/--dry-run runs no step")
def dry_run():
    folder = scratch("dry")
    run(mlp_plan(), "--data", MLP, "--steps", 2, "--dry-run", "--weights-out", folder / "w", "--metrics", folder / "m")
    assert not (folder / "w").exists(), "a dry run wrote weights"
    expect_refusal(execute(["zrun", mlp_plan(), "--comm=local", "--data", folder / "nowhere.safetensors", "--dry-run"], timeout=30), 1, r"nowhere")


@test("run/--doctor")
def doctor():
    done = succeed(["zrun", "--doctor"])
    assert re.search(r"(?i)cpu", done.stdout) and re.search(r"(?i)mpi", done.stdout), f"names neither CPU nor MPI: {done.stdout}"


@test("run/--trace is a Chrome trace of every rank")
def trace():
    folder = scratch("trace")
    run(compile_plan("gpt2-tiny", "--zero-stage=3"), "--nproc", 2, "--data", MODELS / "gpt2-tiny" / "batch.safetensors", "--steps", 3, "--trace", folder / "t.json")
    content = json.loads((folder / "t.json").read_text())
    events = content["traceEvents"] if isinstance(content, dict) else content
    complete = [e for e in events if e.get("ph") == "X"]
    assert {e["pid"] for e in complete} == {0, 1}, "events of ranks 0 and 1"
    assert any("gather" in e["name"] for e in complete), "no gather in the trace of a sharded run"


@test("run/--save-plan is the final plan, and runs as it stands to the same bits")
def save_plan():
    folder = scratch("save")
    base = ["--nproc", 2, "--data", MLP, "--steps", 3]
    run(mlp_plan("--zero-stage=3"), *base, "--save-plan", folder / "final.mlir", "--weights-out", folder / "a")
    succeed(["zopt", "--verify-plan", folder / "final.mlir", "-o", folder / "ignored.mlir"])
    # References to weights are relative to the plan.
    run(folder / "final.mlir", *base, "--weights-out", folder / "b")
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes(), "the saved plan trains otherwise"


@test("forward/--outputs: the logits of every sample")
def forward():
    folder = scratch("forward")
    plan = compile_plan("mlp-tiny", "--mode=forward", "--micro-batch=4")
    data = {k: v[:8] for k, v in tensors.load(MLP).items()}
    tensors.save(folder / "data.safetensors", data)
    run(plan, "--nproc", 2, "--data", folder / "data.safetensors", "--outputs", folder / "out")
    logits = tensors.load(folder / "out")["logits"].astype(np.float64)
    assert logits.shape == (8, 10), f"logits of 8 samples and 10 classes, but got {logits.shape}"
    shifted = logits - logits.max(1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(8), data["labels"]]
    train_run = train(Config("mlp-tiny", micro=8, steps=1))
    assert abs(losses.mean() - train_run.losses[0]) <= 1e-6, f"cross entropy of the outputs is {losses.mean()!r}, the first step's loss {train_run.losses[0]!r}"


@test("forward/GPT-J's rotary embedding, spelled out, is raised and turns neighbours")
def gptj():
    T, H, D, R = 6, 2, 12, 8  # positions, heads, elements of a head, those that turn
    angles = np.arange(T)[:, None] / 10 ** (np.arange(R // 2) / 2)
    sin, cos = (f(angles).astype(np.float32)[None] for f in (np.sin, np.cos))  # [1, T, R/2]
    integers = lambda name, *values: tensor(name, np.array(values, np.int64))
    nodes = [node("Slice", ["x", "zero", "width", "last"], ["part"]), node("Slice", ["x", "width", "all", "last"], ["rest"])]
    for name in ("sin", "cos"):  # repeat_interleave(table[:, :, None, :], 2, 3)
        nodes += [node("Unsqueeze", [name, "axes"], [name + "1"]), node("Expand", [name + "1", "twice"], [name + "2"]), node("Reshape", [name + "2", "table"], [name + "3"])]
    # rotate_every_two: stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    nodes += [node("Slice", ["part", "zero", "all", "last", "two"], ["even"]), node("Slice", ["part", "one", "all", "last", "two"], ["odd"]), node("Neg", ["odd"], ["minus"]),
              node("Unsqueeze", ["minus", "last"], ["minus1"]), node("Unsqueeze", ["even", "last"], ["even1"]), node("Concat", ["minus1", "even1"], ["stack"], axis=-1),
              node("Reshape", ["stack", "flat"], ["turned"]), node("Mul", ["part", "cos3"], ["straight"]), node("Mul", ["turned", "sin3"], ["across"]),
              node("Add", ["straight", "across"], ["rotated"]), node("Concat", ["rotated", "rest"], ["y"], axis=-1)]
    initializers = [tensor("sin", sin), tensor("cos", cos), integers("zero", 0), integers("one", 1), integers("two", 2), integers("width", R), integers("all", 1 << 60), integers("last", -1),
                    integers("axes", 2, 4), integers("twice", 1, T, 1, R // 2, 2), integers("table", 1, T, 1, R), integers("flat", 0, T, H, R)]
    folder = scratch("gptj")
    (folder / "model.onnx").write_bytes(model(nodes, initializers, [value("x", ["batch", T, H, D])], [value("y", ["batch", T, H, D])]))
    succeed(["zopt", "--mode=forward", "--micro-batch=3", "--freeze=^(sin|cos)$", folder / "model.onnx", "-o", folder / "plan.mlir"])
    assert "{interleaved}" in (folder / "plan.mlir").read_text(), "train.rotary is not in the plan"
    x = np.random.default_rng(1).standard_normal((6, T, H, D)).astype(np.float32)
    tensors.save(folder / "data.safetensors", {"x": x})
    run(folder / "plan.mlir", "--data", folder / "data.safetensors", "--outputs", folder / "out")
    even, odd = x[..., :R:2], x[..., 1:R:2]
    expected = x.copy()
    expected[..., :R:2], expected[..., 1:R:2] = even * cos[:, :, None] - odd * sin[:, :, None], odd * cos[:, :, None] + even * sin[:, :, None]
    y = tensors.load(folder / "out")["y"]
    assert np.abs(y - expected).max() <= 1e-6, f"the largest error is {np.abs(y - expected).max()}"


@test("data/bytes: text trains as it stands")
def text():
    folder = scratch("text")
    plan = compile_plan("gpt2-text", "--micro-batch=2")
    run(plan, "--data", TEXT, "--steps", 3, "--metrics", folder / "a")
    # The same samples as tensors: sample i is bytes [i * 128, i * 128 + 129).
    raw = np.frombuffer(TEXT.read_bytes()[:6 * 128 + 1], np.uint8).astype(np.int64)
    ids = np.stack([raw[i * 128:i * 128 + 128] for i in range(6)])
    labels = np.stack([raw[i * 128 + 1:i * 128 + 129] for i in range(6)])
    tensors.save(folder / "data.safetensors", {"input_ids": ids, "labels": labels})
    run(plan, "--data", folder / "data.safetensors", "--steps", 3, "--metrics", folder / "b")
    a, b = ([s["loss"] for s in read_metrics(folder / name)[1]] for name in "ab")
    assert a == b, f"losses on text are {a}, on the same samples as tensors {b}"


@test("data/tokens: uint16, as nanoGPT writes them")
def tokens():
    folder = scratch("tokens")
    plan = compile_plan("gpt2-text", "--micro-batch=2")
    raw = np.frombuffer(TEXT.read_bytes(), np.uint8)[:20 * 128 + 1]
    (folder / "tokens.bin").write_bytes(raw.astype(np.uint16).tobytes())
    (folder / "text.txt").write_bytes(raw.tobytes())
    run(plan, "--data", folder / "tokens.bin", "--token-dtype=uint16", "--steps", 3, "--metrics", folder / "a")
    run(plan, "--data", folder / "text.txt", "--steps", 3, "--metrics", folder / "b")
    a, b = ([s["loss"] for s in read_metrics(folder / name)[1]] for name in "ab")
    assert a == b, f"losses on tokens are {a}, on the same text {b}"


@test("flags/an unknown flag of zrun is a usage error")
def unknown_flag():
    done = execute(["zrun", mlp_plan(), "--frobnicate"], timeout=20)
    assert done.code == 2 and "frobnicate" in done.stderr, f"expected exit code 2: {done}"


@test("flags/no plan is a usage error")
def no_plan():
    done = execute(["zrun"], timeout=20)
    assert done.code == 2, f"expected exit code 2: {done}"


@test("flags/a plan that is not there")
def missing_plan():
    expect_refusal(execute(["zrun", "nowhere.mlir", "--comm=local"], timeout=20), 1, r"nowhere\.mlir")


@test("flags/zopt --help names every flag of the interface that is built")
def help_text():
    text = succeed(["zopt", "--help"]).stdout
    for flag in ("mode", "zero-stage", "bf16", "fp64", "grad-dtype", "micro-batch", "grad-accum", "global-batch", "bind", "loss", "logits", "labels", "ignore-index", "label-smoothing",
                 "class-axis", "loss-average", "train-only", "freeze", "list-parameters", "tie-weights", "optimizer", "lr", "betas", "eps", "weight-decay", "momentum", "clip", "decay",
                 "no-decay", "nesterov", "param-group", "ema", "schedule", "fp16", "loss-scale", "loss-scale-init-power", "loss-scale-window", "loss-scale-hysteresis",
                 "loss-scale-consecutive-hysteresis", "loss-scale-min", "bucket-bytes", "persist-bytes", "nproc", "target", "threads", "memory-report", "verify-plan", "list-ops", "print-pipeline", "class-weights", "pos-weight", "keep-fp32", "list-precision"):
        assert f"--{flag}" in text, f"--{flag} is not in zopt --help"


@test("zopt/--list-parameters tells what trains and why")
def list_parameters():
    done = succeed(["zopt", "--list-parameters", MODELS / "gpt2-tiny" / "model.onnx"])
    listed = dict(re.findall(r"^(\S+) +\S+\[.*?\] +(trained|constant|frozen) +\S", done.stdout, re.M))
    assert {name for name, what in listed.items() if what == "trained"} == set(reference("gpt2-tiny")["trainable"]) and "constant" in listed.values(), done.stdout


@test("zopt/--list-ops")
def list_ops():
    text = succeed(["zopt", "--list-ops"]).stdout
    for op in ("Gemm", "LayerNormalization", "Softmax", "Gather", "MatMul"):
        assert op in text, f"{op} is not listed"


@test("zopt/--print-pipeline reproduces the run")
def print_pipeline():
    folder = scratch("pipeline")
    flags = ["--zero-stage=3", "--bf16", "--micro-batch=2", "--clip=1"]
    model = MODELS / "gpt2-tiny" / "model.onnx"
    pipeline = succeed(["zopt", *flags, "--print-pipeline", model]).stdout.strip().splitlines()[-1]
    succeed(["zopt", *flags, model, "-o", folder / "a.mlir"])
    succeed(["zopt", "--micro-batch=2", f"--pass-pipeline={pipeline}", model, "-o", folder / "b.mlir"])
    # Locations apart: zopt keeps only node names in a plan, a pipeline keeps what it has.
    a, b = (re.sub(r'^#loc.*\n| loc\((#loc\d*|unknown|"[^"]*"(:\d+:\d+)?)\)', "", (folder / name).read_text(), flags=re.M) for name in ("a.mlir", "b.mlir"))
    assert a == b, "the printed pipeline makes another plan"
