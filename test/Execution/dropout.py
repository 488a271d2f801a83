"""Dropout: masks are Philox's numbers, and depend on seed, op, step, sample and element alone: not on ranks, accumulation, stage, fusion, recomputation or a restart."""
import dataclasses

import numpy as np

import onnx_writer
import tensors
from harness import Config, add, assert_same_training, execute, expect_refusal, memoize, model_path, scratch, succeed, test, train, train_anew

# ---------------------------------------------------------------------------------------------------------------------
# Philox4x32-10 by numpy
# ---------------------------------------------------------------------------------------------------------------------


def philox(counter, key):
    """Four words; counter and key are sequences of arrays (or numbers) of 32 bits."""
    c, k = [np.asarray(x, np.uint64) for x in counter], [np.uint64(x) for x in key]
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ k[0], p1 & low, (p0 >> np.uint64(32)) ^ c[3] ^ k[1], p0 & low]
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    return [x.astype(np.uint32) for x in c]


def mask(shape, ratio, *, seed=0, op=0, step=0, sample=0):
    """Which elements of one sample are kept."""
    e = np.arange(int(np.prod(shape)), dtype=np.uint64)
    words = np.stack(philox([e // np.uint64(4), np.full_like(e, sample), np.full_like(e, step), np.zeros_like(e)], [seed, op]))
    word = words[(e % np.uint64(4)).astype(int), np.arange(e.size)]
    return (word >= np.uint32(round(ratio * 2 ** 32))).reshape(shape)


@test("dropout/numpy's Philox gives Random123's known answers")
def known_answers():
    for counter, key, expected in (([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"), ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
                                   ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0], "d16cfe09 94fdcceb 5001e420 24126ea1")):
        words = " ".join(f"{int(x):08x}" for x in philox(counter, key))
        assert words == expected, f"philox({counter}, {key}) is {words}, expected {expected}"


# ---------------------------------------------------------------------------------------------------------------------
# Masks of forward plans
# ---------------------------------------------------------------------------------------------------------------------

RATIO, T, C, SAMPLES = 0.25, 6, 20, 8


def dropout(x, y, ratio="ratio", training="true", mask_name=None):
    return onnx_writer.node("Dropout", [x, ratio, training], [y] + ([mask_name] if mask_name else []), f"drop_{y}")


def many_layouts(training=True):
    """One dropout a way in which samples may lie in a value; each output is brought back to [batch, T, C]. Their order is that of the ids."""
    n, integers = onnx_writer.node, lambda name, values: onnx_writer.tensor(name, np.array(values, np.int64))
    nodes = [
        dropout("x", "plain", mask_name="mask"),
        n("Reshape", ["x", "flat"], ["rows"]), dropout("rows", "rows_dropped"), n("Reshape", ["rows_dropped", "whole"], ["flattened"]),
        n("Transpose", ["x"], ["time_first"], perm=[1, 0, 2]), dropout("time_first", "time_dropped"), n("Transpose", ["time_dropped"], ["transposed"], perm=[1, 0, 2]),
        n("Transpose", ["x"], ["last"], perm=[1, 2, 0]), dropout("last", "last_dropped"), n("Transpose", ["last_dropped"], ["batch_last"], perm=[2, 0, 1]),
        n("Reshape", ["time_first", "flat"], ["time_rows"]), dropout("time_rows", "time_rows_dropped"), n("Reshape", ["time_rows_dropped", "time_whole"], ["time_back"]),
        n("Transpose", ["time_back"], ["time_flattened"], perm=[1, 0, 2]),
        n("Relu", ["positions"], ["table"]), dropout("table", "table_dropped"), n("Mul", ["x", "zero"], ["nothing"]), n("Add", ["table_dropped", "nothing"], ["shared"]),
        n("Split", ["x", "halves"], ["left", "right"], axis=2), dropout("right", "right_dropped"), n("Concat", ["left", "right_dropped"], ["sliced"], axis=2),
    ]
    initializers = [onnx_writer.tensor("ratio", np.float32(RATIO)[()] * np.ones((), np.float32)), onnx_writer.tensor("true", np.array(training)), onnx_writer.tensor("zero", np.zeros((), np.float32)),
                    integers("flat", [-1, C]), integers("whole", [-1, T, C]), integers("time_whole", [T, -1, C]), integers("halves", [C - 7, 7]),
                    onnx_writer.tensor("positions", np.ones((1, T, C), np.float32))]
    outputs = [onnx_writer.value(name, ["batch", T, C]) for name in ("plain", "flattened", "transposed", "batch_last", "time_flattened", "shared", "sliced")]
    return onnx_writer.model(nodes, initializers, [onnx_writer.value("x", ["batch", T, C])], outputs + [onnx_writer.value("mask", ["batch", T, C], onnx_writer.BOOL)])


@memoize
def forward(micro, ranks, flags, seed, accum=1, training=True):
    """Outputs of all samples, which are ones."""
    folder = scratch("dropout")
    (folder / "model.onnx").write_bytes(many_layouts(training))
    tensors.save(folder / "data.safetensors", {"x": np.ones((SAMPLES, T, C), np.float32)})
    succeed(["zopt", "--mode=forward", f"--micro-batch={micro}", f"--grad-accum={accum}", *flags, folder / "model.onnx", "-o", folder / "plan.mlir"])
    succeed(["zrun", folder / "plan.mlir", "--nproc", ranks, "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--outputs", folder / "out", "--seed", seed])
    return tensors.load(folder / "out")


def expected(batch, seed):
    """What `forward` gives where `batch` samples make a step."""
    scale = np.float32(1 / (1 - RATIO))
    out = {name: np.ones((SAMPLES, T, C), np.float32) for name in ("plain", "flattened", "transposed", "batch_last", "time_flattened", "shared", "sliced")}
    for i in range(SAMPLES):
        place = dict(seed=seed, step=i // batch, sample=i % batch)
        for op, name in enumerate(("plain", "flattened", "transposed", "batch_last", "time_flattened")):
            out[name][i] = mask((T, C), RATIO, op=op, **place) * scale
        out["shared"][i] = mask((T, C), RATIO, op=5, seed=seed, step=i // batch) * scale
        out["sliced"][i, :, C - 7:] = mask((T, 7), RATIO, op=6, **place) * scale
    out["mask"] = out["plain"] != 0
    return out


def check_masks(micro, ranks, flags=(), seed=0, accum=1):
    ours, theirs = forward(micro, ranks, flags, seed, accum), expected(micro * ranks * accum, seed)
    assert ours.keys() == theirs.keys(), f"outputs {sorted(ours)}, expected {sorted(theirs)}"
    for name, values in theirs.items():
        wrong = np.argwhere(ours[name] != values)
        assert ours[name].shape == values.shape and not len(wrong), f"output '{name}' differs from Philox's mask at {len(wrong)} of {values.size} places, first at {wrong[0]}"


add("dropout/masks/a batch of 8", check_masks, 8, 1)
add("dropout/masks/4 ranks of 2", check_masks, 2, 4)
add("dropout/masks/2 ranks of 2, twice", check_masks, 2, 2, accum=2)
add("dropout/masks/8 ranks of 1", check_masks, 1, 8)
add("dropout/masks/4 steps of 2", check_masks, 2, 1)
add("dropout/masks/another seed", check_masks, 4, 2, seed=(1 << 31) + 12345)
add("dropout/masks/without fusion", check_masks, 4, 1, flags=("--no-fuse", "--nproc=1", "--threads=1"))
add("dropout/masks/without raising", check_masks, 4, 2, flags=("--no-raise",))


@test("dropout/--training-mode: eval is the identity, and train trains what was exported for inference")
def training_modes():
    for output in forward(4, 2, ("--training-mode=eval",), 0).values():
        assert np.all(output == 1), "a dropout in inference changed an element"
    exported = forward(4, 2, (), 0, 1, False)
    assert all(np.all(output == 1) for output in exported.values()), "a dropout exported for inference changed an element"
    forced = forward(4, 2, ("--training-mode=train",), 3, 1, False)
    for name, values in expected(8, 3).items():
        assert np.array_equal(forced[name], values), f"output '{name}' is not dropped as in training"


@test("dropout/samples that cannot be told apart are refused, at once and by name")
def mixed():
    n = onnx_writer.node
    nodes = [n("ReduceSum", ["x", "axes"], ["sum"], "over_samples"), dropout("sum", "a"), n("Transpose", ["x"], ["xt"], perm=[1, 0]), n("MatMul", ["x", "xt"], ["pairs"], "all_pairs"), dropout("pairs", "b")]
    folder = scratch("mixed")
    initializers = [onnx_writer.tensor("ratio", np.full((), 0.5, np.float32)), onnx_writer.tensor("true", np.array(True)), onnx_writer.tensor("axes", np.array([0], np.int64))]
    (folder / "model.onnx").write_bytes(onnx_writer.model(nodes, initializers, [onnx_writer.value("x", ["batch", 5])], [onnx_writer.value("a", [1, 5]), onnx_writer.value("b", ["batch", "batch"])]))
    refused = execute(["zopt", "--mode=forward", "--micro-batch=4", folder / "model.onnx", "-o", folder / "plan.mlir"])
    expect_refusal(refused, 1, r"drop_a.*4 samples of the micro-batch apart, which 'train.reduce_sum' mixes \(node '.*over_samples'\)", r"drop_b.*which 'train.matmul' mixes \(node '.*all_pairs'\)")


# ---------------------------------------------------------------------------------------------------------------------
# Statistics and gradients
# ---------------------------------------------------------------------------------------------------------------------

WIDE = 1 << 18


def wide_model(ratio):
    """loss = sum(dropout(w + 0 * x) * c): the gradient of w is the mask, scaled, times c."""
    n = onnx_writer.node
    rng = np.random.default_rng(3)
    weights = {"w": rng.standard_normal(WIDE).astype(np.float32), "c": rng.standard_normal(WIDE).astype(np.float32)}
    nodes = [n("Mul", ["x", "zero"], ["nothing"]), n("Add", ["w", "nothing"], ["input"]), dropout("input", "dropped"), dropout("dropped", "twice"), n("Mul", ["twice", "c"], ["product"]),
             n("ReduceSum", ["product", "axes"], ["loss"], keepdims=0)]
    initializers = [onnx_writer.tensor("ratio", np.full((), ratio, np.float32)), onnx_writer.tensor("true", np.array(True)), onnx_writer.tensor("zero", np.zeros((), np.float32)),
                    onnx_writer.tensor("axes", np.array([0, 1], np.int64)), *(onnx_writer.tensor(name, values) for name, values in weights.items())]
    return onnx_writer.model(nodes, initializers, [onnx_writer.value("x", ["batch", WIDE])], [onnx_writer.value("loss", [])]), weights


@test("dropout/the gradient is dropout of the cotangent by the same masks; they keep as many as they should and know nothing of one another")
def gradient():
    folder, ratio = scratch("gradient"), 0.1
    model, weights = wide_model(ratio)
    (folder / "model.onnx").write_bytes(model)
    tensors.save(folder / "data.safetensors", {"x": np.zeros((2, WIDE), np.float32)})
    succeed(["zopt", "--mode=gradient", "--loss=output:loss", "--micro-batch=2", "--train-only=w", folder / "model.onnx", "-o", folder / "plan.mlir"])
    succeed(["zrun", folder / "plan.mlir", "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--steps", 1, "--gradients-out", folder / "g", "--seed", 5])
    ours = tensors.load(folder / "g")["w"].astype(np.float64)
    exact = float(np.float32(ratio))
    masks = [[mask(WIDE, exact, seed=5, op=op, sample=sample) for op in (0, 1)] for sample in (0, 1)]
    theirs = sum(a & b for a, b in masks) / (1 - exact) ** 2 * weights["c"]
    assert np.allclose(ours, theirs, rtol=1e-6, atol=0), f"the gradient is off by {np.abs(ours - theirs).max():.3g}"
    for sample in (0, 1):
        for kept in masks[sample]:
            check_rate(kept.mean(), 1 - exact, WIDE)
        check_rate((masks[sample][0] & masks[sample][1]).mean(), (1 - exact) ** 2, WIDE)
    check_rate((masks[0][0] & masks[1][0]).mean(), (1 - exact) ** 2, WIDE)


def check_rate(rate, probability, count):
    sigma = (probability * (1 - probability) / count) ** 0.5
    assert abs(rate - probability) < 5 * sigma, f"{rate:.6f} are kept, expected {probability:.6f} within 5 * {sigma:.2g}"


# ---------------------------------------------------------------------------------------------------------------------
# Training: gpt2-dropout is gpt2-tiny exported in training mode (dropout 0.1), without its weights
# ---------------------------------------------------------------------------------------------------------------------

BASE = Config("gpt2-dropout", micro=8, steps=8, run_flags=("--init=gpt2", "--seed=7", "--shuffle"))


def same(a, b):
    assert_same_training(train(a), train(b))


def close(a, b):
    """I2: the same masks, or losses would differ by percents."""
    worst = max(abs(x - y) / abs(x) for x, y in zip(train(a).losses, train(b).losses))
    assert worst <= 1e-5, f"losses differ by {worst:.3g} relative"


SHARDED = dataclasses.replace(BASE, micro=2, ranks=2, accum=2)
for stage in (1, 2, 3):
    add(f"I1/gpt2-dropout/stage{stage}", same, SHARDED, dataclasses.replace(SHARDED, stage=stage))
add("I1/gpt2-dropout/no fusion", same, SHARDED, dataclasses.replace(SHARDED, fuse=False))
add("I1/gpt2-dropout/bf16, stage 3", same, dataclasses.replace(SHARDED, precision="bf16"), dataclasses.replace(SHARDED, precision="bf16", stage=3))
add("I2/gpt2-dropout/2 ranks, 2 micro-steps", close, BASE, SHARDED)
add("I2/gpt2-dropout/8 micro-steps of 1", close, BASE, dataclasses.replace(BASE, micro=1, accum=8))
add("I2/gpt2-dropout/4 ranks, stage 3", close, BASE, dataclasses.replace(BASE, micro=2, ranks=4, stage=3))
for policy in ("selective", "full"):
    add(f"I3/gpt2-dropout/{policy}", same, SHARDED, dataclasses.replace(SHARDED, flags=SHARDED.flags + (f"--recompute={policy}",)))


@test("dropout/gpt2-dropout learns, by another curve than without dropout")
def learns():
    config = dataclasses.replace(BASE, steps=40, flags=("--clip=1", "--lr=3e-3"))
    run, other = train(config), train(dataclasses.replace(config, flags=config.flags + ("--training-mode=eval",)))
    assert run.losses[-1] < run.losses[0] - 1, f"the loss goes from {run.losses[0]} to {run.losses[-1]}"
    assert all(abs(a - b) > 1e-5 * a for a, b in zip(run.losses, other.losses)), f"losses are {run.losses} with dropout, {other.losses} without"


@test("I5/gpt2-dropout: 4 + 4 steps are 8, and another seed is not gone on with")
def resumes():
    config = dataclasses.replace(SHARDED, stage=3)
    whole = train(config)
    folder = scratch("resume")
    checkpoints = ("--checkpoint-dir", str(folder / "D"), "--resume=auto")
    train_anew(dataclasses.replace(config, steps=4, run_flags=config.run_flags + checkpoints))
    plan = folder / "plan.mlir"
    succeed(["zopt", "--bind=seq=64", *config.zopt_flags(), model_path("gpt2-dropout"), "-o", plan])
    command = ["zrun", plan, "--nproc", 2, "--comm=local", "--threads", 1, "--data", model_path("gpt2-dropout").parent / "batch.safetensors", "--steps", 8, "--init=gpt2", "--shuffle", *checkpoints]
    expect_refusal(execute([*command, "--seed=8"]), 1, r"the seed is 8, but was 7")
    succeed([*command, "--seed=7", "--weights-out", folder / "w"])
    differ = tensors.same_bits(whole.weights, tensors.load(folder / "w"))
    assert not differ, f"{len(differ)} weights differ after a restart: {differ[:5]}"
