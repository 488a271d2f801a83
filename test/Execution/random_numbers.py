"""Operators that draw random numbers: what they draw is Philox's, by seed, op, step, sample and element as dropout has it; and operators on integers whose sign matters, and bits."""
import numpy as np

import onnx_writer as onnx
import tensors
from dropout import philox
from harness import add, execute, expect_refusal, memoize, scratch, succeed, test

SAMPLES, C = 8, 1024
UINT8, INT16, FLOAT16 = 2, 5, 10


def uniform(shape, op, seed, step, sample):
    """Numbers of one sample, in [0, 1)."""
    e = np.arange(int(np.prod(shape)), dtype=np.uint64)
    words = np.stack(philox([e // np.uint64(4), np.full_like(e, sample), np.full_like(e, step), np.zeros_like(e)], [seed, op]))
    return ((words[(e % np.uint64(4)).astype(int), np.arange(e.size)] >> np.uint32(8)) * 2.0 ** -24).reshape(shape)


def normal(shape, op, *place):
    return np.sqrt(-2 * np.log(1 - uniform(shape, op, *place))) * np.cos(2 * np.pi * uniform(shape, op + 1, *place))


NODES = [onnx.node("RandomUniformLike", ["x"], ["uniform"], low=-1.0, high=3.0), onnx.node("RandomNormalLike", ["x"], ["normal"], mean=0.5, scale=2.0),
         onnx.node("RandomNormal", [], ["fixed"], shape=[4, C]), onnx.node("Bernoulli", ["x"], ["coin"]), onnx.node("Multinomial", ["x"], ["class"], sample_size=300, dtype=7),
         onnx.node("RandomUniform", [], ["once"], shape=[1, C]), onnx.node("Mul", ["x", "zero"], ["nothing"]), onnx.node("Add", ["once", "nothing"], ["shared"])]


@memoize
def drawn(micro, ranks):
    """Outputs where a micro-batch is `micro` samples and x holds probabilities."""
    folder = scratch("random")
    x = np.linspace(0, 1, SAMPLES * C, dtype=np.float32).reshape(SAMPLES, C)
    nodes = [onnx.node("RandomNormal", [], ["fixed"], shape=[micro, C]) if i == 2 else node for i, node in enumerate(NODES)]
    outputs = [onnx.value(name, ["batch", C]) for name in ("uniform", "normal", "fixed", "coin", "shared")] + [onnx.value("class", ["batch", 300], onnx.INT64)]
    (folder / "model.onnx").write_bytes(onnx.model(nodes, [onnx.tensor("zero", np.zeros((), np.float32))], [onnx.value("x", ["batch", C])], outputs, opset=22))
    tensors.save(folder / "data.safetensors", {"x": x})
    succeed(["zopt", "--mode=forward", f"--micro-batch={micro}", folder / "model.onnx", "-o", folder / "plan.mlir"])
    succeed(["zrun", folder / "plan.mlir", "--nproc", ranks, "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--outputs", folder / "out", "--seed", 9])
    return x, tensors.load(folder / "out")


def check_numbers(micro, ranks):
    x, out = drawn(micro, ranks)
    batch = micro * ranks
    for i in range(SAMPLES):
        place = 9, i // batch, i % batch
        wanted = {"uniform": uniform((C,), 0, *place) * 4 - 1, "normal": normal((C,), 1, *place) * 2 + 0.5, "fixed": normal((C,), 3, *place), "coin": (uniform((C,), 5, *place) < x[i]) | (x[i] >= 1),
                  "shared": uniform((C,), 7, 9, i // batch, 0)}
        with np.errstate(divide="ignore"):
            wanted["class"] = (x[i] - np.log(-np.log(uniform((300, C), 6, *place)))).argmax(1)
        for name, values in wanted.items():
            if name == "class":  # fp32's logarithm may decide between two that are close
                assert (out[name][i] == values).mean() > 0.99, f"'{name}' of sample {i} differs"
            else:
                assert np.abs(out[name][i] - values).max() < 2e-5, f"'{name}' of sample {i} is off by {np.abs(out[name][i] - values).max()}"


add("random/numbers/a batch of 8", check_numbers, 8, 1)
add("random/numbers/2 ranks of 2", check_numbers, 2, 2)


@test("random/numbers are distributed as they should be")
def distribution():
    x, out = drawn(8, 1)
    n = SAMPLES * C
    for name, mean, deviation in (("uniform", 1, 4 / 12 ** 0.5), ("normal", 0.5, 2), ("fixed", 0, 1)):
        assert abs(out[name].mean() - mean) < 5 * deviation / n ** 0.5 and abs(out[name].std() / deviation - 1) < 0.05, f"'{name}' has mean {out[name].mean()} and deviation {out[name].std()}"
    assert abs(out["coin"].mean() - x.mean()) < 5 * (1 / 6) ** 0.5 / n ** 0.5 and set(np.unique(out["coin"])) == {0, 1}


# An autoencoder with a sampled code, whose loss depends on noise through the parameters.
def autoencoder():
    rng = np.random.default_rng(2)
    weights = [onnx.tensor(name, rng.standard_normal(shape).astype(np.float32) / 4) for name, shape in (("mean", (12, 4)), ("deviation", (12, 4)), ("decoder", (4, 12)))]
    nodes = [onnx.node("MatMul", ["x", "mean"], ["m"]), onnx.node("MatMul", ["x", "deviation"], ["d"]), onnx.node("Exp", ["d"], ["e"]), onnx.node("RandomNormalLike", ["m"], ["n"]), onnx.node("Mul", ["n", "e"], ["s"]),
             onnx.node("Add", ["m", "s"], ["code"]), onnx.node("MatMul", ["code", "decoder"], ["y"]), onnx.node("Sub", ["y", "x"], ["r"]), onnx.node("Mul", ["r", "r"], ["rr"]), onnx.node("ReduceMean", ["rr"], ["loss"], keepdims=0)]
    return onnx.model(nodes, weights, [onnx.value("x", ["batch", 12])], [onnx.value("loss", [])], opset=20)


@memoize
def gradients(micro, ranks, flags):
    folder = scratch("autoencoder")
    (folder / "model.onnx").write_bytes(autoencoder())
    tensors.save(folder / "data.safetensors", {"x": np.random.default_rng(4).standard_normal((8, 12)).astype(np.float32)})
    succeed(["zopt", "--mode=gradient", "--loss=output:loss", f"--micro-batch={micro}", f"--grad-accum={8 // micro // ranks}", *flags, folder / "model.onnx", "-o", folder / "plan.mlir"])
    succeed(["zrun", folder / "plan.mlir", "--nproc", ranks, "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--steps", 1, "--gradients-out", folder / "g", "--seed", 3])
    return tensors.load(folder / "g")


def check_gradients(micro, ranks, flags, bitwise):
    ours, theirs = gradients(micro, ranks, flags), gradients(8, 1, ()) if not bitwise else gradients(micro, ranks, ())
    for name, values in theirs.items():
        error = np.abs(ours[name] - values).max()
        assert np.abs(values).max() > 1e-3 and error <= (0 if bitwise else 1e-5 * np.abs(values).max()), f"the gradient of '{name}' differs by {error}"


add("random/gradients/2 ranks, 2 micro-steps", check_gradients, 2, 2, (), False)
add("random/gradients/stage 3", check_gradients, 2, 2, ("--zero-stage=3",), True)
add("random/gradients/recomputed", check_gradients, 4, 2, ("--recompute=full",), True)


@test("random/noise moves the gradient, and fp64, bf16 and fp16 draw the same")
def precisions():
    exact = gradients(8, 1, ("--fp64",))
    for flags, bound in (((), 1e-5), (("--bf16",), 0.05), (("--fp16", "--loss-scale=16"), 0.01)):
        for name, values in gradients(8, 1, flags).items():
            error = np.abs(values - exact[name]).max() / np.abs(exact[name]).max()
            assert error < bound, f"{flags}: the gradient of '{name}' differs by {error} of its size"


@test("integers/unsigned ones scatter and sort as such, and bits are those of the declared type")
def unsigned():
    folder = scratch("unsigned")
    r = np.random.default_rng(6)
    data, updates, index = r.integers(0, 256, (2, 9)).astype(np.uint8), r.integers(0, 256, (2, 9)).astype(np.uint8), r.integers(0, 9, (2, 9))
    half = r.standard_normal((2, 9)).astype(np.float16)
    nodes = [onnx.node("ScatterElements", ["d", "i", "u"], ["largest"], axis=1, reduction="max"), onnx.node("ScatterElements", ["d", "i", "u"], ["least"], axis=1, reduction="min"), onnx.node("TopK", ["d", "k"], ["top", "places"]),
             onnx.node("BitCast", ["h"], ["bits"], to=INT16), onnx.node("BitCast", ["bits"], ["back"], to=FLOAT16), onnx.node("Neg", ["back"], ["negated"])]
    V = onnx.value
    inputs = [V("d", ["batch", 9], UINT8), V("i", ["batch", 9], onnx.INT64), V("u", ["batch", 9], UINT8), V("h", ["batch", 9], FLOAT16)]
    outputs = [V("largest", ["batch", 9], UINT8), V("least", ["batch", 9], UINT8), V("top", ["batch", 4], UINT8), V("bits", ["batch", 9], INT16), V("negated", ["batch", 9], FLOAT16)]
    (folder / "model.onnx").write_bytes(onnx.model(nodes, [onnx.tensor("k", np.array([4]))], inputs, outputs, opset=26))
    tensors.save(folder / "data.safetensors", {"d": data, "i": index, "u": updates, "h": half})
    largest, least = data.copy(), data.copy()
    for row in range(2):
        np.maximum.at(largest[row], index[row], updates[row])
        np.minimum.at(least[row], index[row], updates[row])
    wanted = {"largest": largest, "least": least, "top": -np.sort(-data.astype(int), axis=1)[:, :4], "bits": half.view(np.int16), "negated": -half}
    for flags in ((), ("--fp64",), ("--bf16",)):
        succeed(["zopt", "--mode=forward", "--micro-batch=2", *flags, folder / "model.onnx", "-o", folder / "plan.mlir"])
        succeed(["zrun", folder / "plan.mlir", "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--outputs", folder / "out"])
        out = tensors.load(folder / "out")
        for name, values in wanted.items():
            if flags != ("--bf16",) or name in ("largest", "least", "top"):
                assert np.array_equal(out[name], values), f"{flags}: '{name}' is\n{out[name]}\nexpected\n{values}"


def refused(nodes, *patterns, initializers=(), opset=26):
    folder = scratch("refused")
    (folder / "model.onnx").write_bytes(onnx.model(nodes, list(initializers), [onnx.value("x", ["batch", 3, 4, 4]), onnx.value("n", [], onnx.INT64)], [onnx.value("y", ["batch"])], opset=opset))
    expect_refusal(execute(["zopt", "--mode=forward", "--micro-batch=2", folder / "model.onnx", "-o", folder / "plan.mlir"]), 1, *patterns)


WINDOW = [onnx.tensor("w", np.ones((2, 3, 2, 2), np.float32)), onnx.tensor("o", np.ones((2, 8, 3, 4), np.float32))]
SUMMED = onnx.body([onnx.node("ReduceSum", ["s"], ["t"])], [onnx.value("s", [])], [onnx.value("t", [])])
for name, nodes, pattern, initializers in (
        ("DeformConv's offsets", [onnx.node("DeformConv", ["x", "w", "o"], ["y"], "deform")], r"deform.*offsets \[2, 8, 3, 4\] do not fit 1 groups of a window \[2, 2\] and an output \[2, 2, 3, 3\]", WINDOW),
        ("DeformConv's offset groups", [onnx.node("DeformConv", ["x", "w", "o"], ["y"], "deform", offset_group=2)], r"deform.*offset_group 2, which does not divide 3 channels", WINDOW),
        ("BitCast's width", [onnx.node("BitCast", ["x"], ["y"], "bits", to=INT16)], r"bits.*takes 32 bits for 16", ()),
        ("MelWeightMatrix of data", [onnx.node("MelWeightMatrix", ["n"] * 5, ["y"], "mel")], r"mel.*needs five numbers that are known when the model is imported", ()),
        ("FlexAttention's body", [onnx.node("FlexAttention", ["x", "x", "x"], ["y"], "flex", domain="ai.onnx.preview", score_mod=SUMMED)], r"flex.*'score_mod' makes \[1, 1, 1, 1\] of \[2, 3, 4, 4\]", ()),
        ("RandomNormal without a shape", [onnx.node("RandomNormal", [], ["y"], "noise")], r"noise.*has no shape", ()),
        ("MaxRoiPool's regions", [onnx.node("MaxRoiPool", ["x", "r"], ["y"], "roi", pooled_shape=[2, 2])], r"roi.*cannot pool regions \[1, 4\] of \[2, 3, 4, 4\]", [onnx.tensor("r", np.ones((1, 4), np.float32))])):
    add(f"operators refused/{name}", lambda nodes=nodes, pattern=pattern, initializers=initializers: refused(nodes, pattern, initializers=initializers))


@memoize
def sampled(*flags):
    """An image of 2 x 200 elements, read at places between them: under bf16, places behind the 128th would be a multiple of 1."""
    folder = scratch("sampled")
    r = np.random.default_rng(8)
    image, grid = np.cumsum(r.standard_normal((2, 3, 2, 200)), axis=3).astype(np.float32), np.stack([r.uniform(0.5, 0.95, (2, 1, 50)), r.uniform(-0.4, 0.4, (2, 1, 50))], -1).astype(np.float32)
    moved = np.tile(np.asarray([0.25, -0.375], np.float32)[None, :, None, None], (2, 1, 2, 200))
    nodes = [onnx.node("GridSample", ["x", "g"], ["grid"]), onnx.node("DeformConv", ["x", "w", "o"], ["deformed"]),
             onnx.node("RoiAlign", ["x", "boxes", "of"], ["aligned"], output_height=1, output_width=9, sampling_ratio=1)]
    constants = [onnx.tensor("w", np.ones((1, 3, 1, 1), np.float32)), onnx.tensor("boxes", np.asarray([[150.3, 0, 169.8, 2]] * 2, np.float32)), onnx.tensor("of", np.arange(2))]
    V = onnx.value
    (folder / "model.onnx").write_bytes(onnx.model(nodes, constants, [V("x", ["batch", 3, 2, 200]), V("g", ["batch", 1, 50, 2]), V("o", ["batch", 2, 2, 200])],
                                                   [V("grid", ["batch", 3, 1, 50]), V("deformed", ["batch", 1, 2, 200]), V("aligned", [2, 3, 1, 9])], opset=20))
    tensors.save(folder / "data.safetensors", {"x": image, "g": grid, "o": moved})
    succeed(["zopt", "--mode=forward", "--micro-batch=2", *flags, folder / "model.onnx", "-o", folder / "plan.mlir"])
    succeed(["zrun", folder / "plan.mlir", "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--outputs", folder / "out"])
    return tensors.load(folder / "out")


@test("sampling/places are fp32 under --bf16 and --fp16")
def places():
    exact = sampled()
    for flag in ("--bf16", "--fp16"):
        for name, values in sampled(flag).items():
            error = np.linalg.norm(np.asarray(values, np.float64) - exact[name]) / np.linalg.norm(exact[name])
            assert error < 2.0 ** -7, f"{flag}: '{name}' is off by {error} of its size"
