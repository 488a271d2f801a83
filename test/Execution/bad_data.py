"""zrun on data that is wrong: exit code 1 and one line that names file, sample, position and value; nothing half-written."""
import numpy as np

import tensors
from harness import MODELS, add, compile_plan, execute, expect_refusal, memoize, read_metrics, scratch, succeed, test


@memoize
def batch(model):
    """The model's batch, its integers wide enough for values that no model takes."""
    return {name: array.astype(np.int64) if array.dtype.kind == "i" else array for name, array in tensors.load(MODELS / model / "batch.safetensors").items()}


def run(model, data, *flags, steps=2, ranks=1, **options):
    plan = compile_plan(model, "--micro-batch=2")
    return execute(["zrun", plan, "--comm=local", "--nproc", ranks, "--threads", 1, "--data", data, "--steps", steps, *flags], timeout=60, **options)


def refuse(model, change, *patterns, flags=(), code=1):
    """Runs on the model's batch after `change(tensors)`."""
    folder = scratch("data")
    data = {k: v.copy() for k, v in batch(model).items()}
    data = change(data) or data
    tensors.save(folder / "data.safetensors", data)
    out = folder / "weights.safetensors"
    expect_refusal(run(model, folder / "data.safetensors", "--weights-out", out, *flags), code, *patterns)
    assert not out.exists() and not [p for p in folder.iterdir() if p.name.startswith("weights")], f"outputs of a refused run: {sorted(folder.iterdir())}"


def put(name, index, number):
    def change(data):
        data[name][index] = number
    return change


add("bad-data/label out of range", refuse, "mlp-tiny", put("labels", 1, 10), r"labels.*10")
add("bad-data/label negative", refuse, "mlp-tiny", put("labels", 1, -3), r"labels.*-3")
add("bad-data/label out of range in a later sample", refuse, "gpt2-tiny", put("labels", (3, 5), 256), r"labels.*\b3\b.*\b5\b.*256")
add("bad-data/token out of range", refuse, "gpt2-tiny", put("input_ids", (2, 7), 256), r"input_ids.*\b2\b.*\b7\b.*256")
add("bad-data/token far out of range", refuse, "gpt2-tiny", put("input_ids", (0, 0), 1 << 40), r"input_ids.*1099511627776")
add("bad-data/no input", refuse, "mlp-tiny", lambda d: {"labels": d["labels"]}, r"input|image|x")
add("bad-data/no labels", refuse, "mlp-tiny", lambda d: {k: v for k, v in d.items() if k != "labels"}, r"labels")
add("bad-data/fewer labels than samples", refuse, "mlp-tiny", lambda d: {**d, "labels": d["labels"][:-1]}, r"labels|first dimension|samples")
add("bad-data/too few samples for one step", refuse, "mlp-tiny", lambda d: {k: v[:1] for k, v in d.items()}, r"\b1\b")


def reshape(data):
    name = next(k for k in data if k != "labels")
    return {**data, name: data[name].reshape(len(data[name]), -1)[:, :-1].copy()}


add("bad-data/wrong shape", refuse, "mlp-tiny", reshape, r"shape|\[")
add("bad-data/wrong sequence length", refuse, "gpt2-tiny", lambda d: {k: v[:, :-1].copy() for k, v in d.items()}, r"shape|\[|length")
add("bad-data/floats where indices belong", refuse, "gpt2-tiny", lambda d: {**d, "input_ids": d["input_ids"].astype(np.float32)}, r"input_ids")
add("bad-data/labels that are not shifted", refuse, "gpt2-tiny", lambda d: {**d, "labels": d["input_ids"].copy()}, r"shift")


@test("bad-data/labels that are not shifted, on purpose")
def unshifted_on_purpose():
    folder = scratch("data")
    data = batch("gpt2-tiny")
    tensors.save(folder / "data.safetensors", {**data, "labels": data["input_ids"]})
    done = run("gpt2-tiny", folder / "data.safetensors", "--no-shift-labels")
    assert done.code == 0, f"--no-shift-labels was refused: {done}"


def refuse_file(content, *patterns, suffix="safetensors"):
    folder = scratch("data")
    path = folder / f"data.{suffix}"
    if content is not None:
        path.write_bytes(content)
    expect_refusal(run("mlp-tiny", path), 1, r"data\." + suffix, *patterns)


good = (MODELS / "mlp-tiny" / "batch.safetensors").read_bytes()
add("bad-data/missing file", refuse_file, None)
add("bad-data/empty file", refuse_file, b"")
add("bad-data/truncated file", refuse_file, good[:-100])
add("bad-data/truncated header", refuse_file, good[:40])
add("bad-data/random bytes", refuse_file, np.random.default_rng(3).bytes(5000))
add("bad-data/header length of 2^60", refuse_file, (1 << 60).to_bytes(8, "little") + good[8:])
add("bad-data/offsets past the end", refuse_file, good[:8] + good[8:].replace(b'"data_offsets":[0,', b'"data_offsets":[9,', 1))
add("bad-data/text for a model that reads images", refuse_file, b"some text", suffix="txt")


@test("bad-data/a NaN: the step is skipped, states stay as they were, and the run goes on")
def nan_in_data():
    folder = scratch("data")
    data = {k: v.copy() for k, v in batch("mlp-tiny").items()}
    name = next(k for k in data if k != "labels")
    data[name][2, 0] = np.nan  # sample 2: step 2 of a micro-batch of 2
    tensors.save(folder / "bad.safetensors", data)
    plan = compile_plan("mlp-tiny", "--micro-batch=2")
    weights = {}
    for steps in (1, 2, 3):
        succeed(["zrun", plan, "--comm=local", "--threads", 1, "--data", folder / "bad.safetensors", "--steps", steps, "--weights-out", folder / f"w{steps}",
                 "--metrics", folder / f"m{steps}"])
        weights[steps] = tensors.load(folder / f"w{steps}")
    steps = read_metrics(folder / "m3")[1]
    assert [s["skipped"] for s in steps] == [False, True, False], f"step 2 and only it is skipped: {steps}"
    assert steps[1]["grad_norm"] in ("nan", "inf", "-inf"), f"the norm of the skipped step is not finite: {steps[1]}"
    assert not tensors.same_bits(weights[1], weights[2]), "the skipped step changed weights"
    assert tensors.same_bits(weights[2], weights[3]), "the step after the skipped one changed nothing"
    assert all(np.isfinite(w).all() for w in weights[3].values()), "weights are not finite"


@test("bad-data/a NaN in every step: exit code 3 after ten in a row")
def nan_everywhere():
    folder = scratch("data")
    data = {k: v.copy() for k, v in batch("mlp-tiny").items()}
    name = next(k for k in data if k != "labels")
    data[name][:] = np.nan
    tensors.save(folder / "bad.safetensors", data)
    done = run("mlp-tiny", folder / "bad.safetensors", steps=30)
    expect_refusal(done, 3, r"10|ten")


@test("bad-data/a NaN with --nonfinite=stop")
def nan_stop():
    folder = scratch("data")
    data = {k: v.copy() for k, v in batch("mlp-tiny").items()}
    name = next(k for k in data if k != "labels")
    data[name][2, 0] = np.nan
    tensors.save(folder / "bad.safetensors", data)
    expect_refusal(run("mlp-tiny", folder / "bad.safetensors", "--nonfinite=stop", steps=3), 3, r"step 2|finite")


@test("bad-data/all labels ignored: the step is skipped and said")
def all_ignored():
    folder = scratch("data")
    data = {k: v.copy() for k, v in batch("gpt2-tiny").items()}
    data["labels"][2:4] = -100
    tensors.save(folder / "data.safetensors", data)
    done = run("gpt2-tiny", folder / "data.safetensors", "--metrics", folder / "m", steps=3)
    assert done.code == 0, f"failed: {done}"
    assert [s["skipped"] for s in read_metrics(folder / "m")[1]] == [False, True, False], "step 2 and only it is skipped"


# Weights files.
def refuse_weights(change, *patterns):
    folder = scratch("weights")
    plan = compile_plan("mlp-tiny", "--micro-batch=2")
    succeed(["zrun", plan, "--comm=local", "--steps", 1, "--weights-out", folder / "good.safetensors"])
    weights = tensors.load(folder / "good.safetensors")
    tensors.save(folder / "bad.safetensors", change(weights))
    expect_refusal(execute(["zrun", plan, "--comm=local", "--steps", 1, "--weights", folder / "bad.safetensors"], timeout=30), 1, r"bad\.safetensors", *patterns)


def first(weights):
    return sorted(weights)[0]


add("bad-weights/one missing", refuse_weights, lambda w: {k: v for k, v in w.items() if k != first(w)})
add("bad-weights/wrong shape", refuse_weights, lambda w: {**w, first(w): w[first(w)].ravel()[:-1].copy()})
add("bad-weights/wrong type", refuse_weights, lambda w: {**w, first(w): np.zeros(w[first(w)].shape, np.int64)})
