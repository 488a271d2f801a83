"""Operators on element types: integers whose sign matters, bits, operands of several types, places of samples in halves; and forms that are refused."""
import numpy as np

import onnx_writer as onnx
import tensors
from harness import add, execute, expect_refusal, memoize, scratch, succeed, test

UINT8, INT16, INT32, FLOAT16, DOUBLE = 2, 5, 6, 10, 11


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


@test("types/operands of several types meet in the first one's; integers interpolate as reals do and are rounded")
def several_types():
    folder = scratch("types")
    r = np.random.default_rng(11)
    x, d, i = r.standard_normal((2, 3, 4)).astype(np.float32), r.standard_normal((2, 3)), r.integers(-99, 99, (2, 1, 4)).astype(np.int32)
    flags, truth = r.random((2, 5)) < 0.5, r.random((2, 2)) < 0.5
    at = np.asarray([[0, 3], [4, 4]])
    mean, scale = r.standard_normal(3).astype(np.float32), r.uniform(0.5, 1, 3).astype(np.float32)
    n, V = onnx.node, onnx.value
    nodes = [n("Cast", ["mean"], ["mean64"], to=DOUBLE), n("Cast", ["scale"], ["scale64"], to=DOUBLE), n("BatchNormalization", ["x", "scale64", "mean64", "mean64", "scale64"], ["normed"]),
             n("Resize", ["i", "", "factors"], ["resized"], mode="linear", coordinate_transformation_mode="asymmetric"), n("Shrink", ["i"], ["shrunk"], lambd=20.5, bias=3.0),
             n("LayerNormalization", ["x", "ones", "zeros"], ["layer", "", ""], stash_type=DOUBLE), n("ScatterElements", ["flags", "at", "truth"], ["any"], axis=1, reduction="add"),
             n("ScatterElements", ["flags", "at", "truth"], ["all"], axis=1, reduction="mul"), n("RandomUniformLike", ["d"], ["u"], dtype=1), n("Mul", ["d", "d"], ["dd"])]
    constants = [onnx.tensor("mean", mean), onnx.tensor("scale", scale), onnx.tensor("factors", np.asarray([1, 1, 2], np.float32)), onnx.tensor("ones", np.ones(4, np.float32)), onnx.tensor("zeros", np.zeros(4, np.float32))]
    (folder / "model.onnx").write_bytes(onnx.model(nodes, constants, [V("x", ["batch", 3, 4]), V("i", ["batch", 1, 4], INT32), V("flags", ["batch", 5], onnx.BOOL), V("at", ["batch", 2], onnx.INT64), V("truth", ["batch", 2], onnx.BOOL), V("d", ["batch", 3], DOUBLE)],
                                                   [V("normed", ["batch", 3, 4]), V("resized", ["batch", 1, 8], INT32), V("shrunk", ["batch", 1, 4], INT32), V("layer", ["batch", 3, 4]), V("any", ["batch", 5], onnx.BOOL), V("all", ["batch", 5], onnx.BOOL),
                                                    V("dd", ["batch", 3], DOUBLE)], opset=20))
    tensors.save(folder / "data.safetensors", {"x": x, "i": i, "flags": flags, "at": at, "truth": truth, "d": d})
    succeed(["zopt", "--mode=forward", "--micro-batch=2", folder / "model.onnx", "-o", folder / "plan.mlir"])
    succeed(["zrun", folder / "plan.mlir", "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--outputs", folder / "out"])
    out = tensors.load(folder / "out")
    column = lambda v: v[None, :, None].astype(np.float64)
    right = np.concatenate([i[..., 1:], i[..., -1:]], -1)
    either, both = flags.copy(), flags.copy()
    for row, places, values in zip(range(2), at, truth):
        for place, value in zip(places, values):
            either[row, place] |= value
            both[row, place] &= value
    wanted = {"normed": (x - column(mean)) / np.sqrt(column(scale) + 1e-5) * column(scale) + column(mean), "resized": np.stack([i, np.rint((i + right) / 2)], -1).reshape(2, 1, 8),
              "shrunk": np.trunc(np.where(i < -20.5, i + 3.0, np.where(i > 20.5, i - 3.0, 0))), "layer": (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5), "any": either, "all": both, "dd": d * d}
    for name, values in wanted.items():
        assert np.abs(out[name].astype(np.float64) - values).max() < 1e-5, f"'{name}' is\n{out[name]}\nexpected\n{values}"


def mel_matrix(bands, length, rate, low, high):
    """As ONNX's reference has it."""
    edges = 700 * np.expm1((np.arange(bands + 2) * (np.log1p(high / 700) - np.log1p(low / 700)) / (bands + 2) + np.log1p(low / 700)))
    edges, places, matrix = ((length + 1) * edges // rate).astype(int), np.arange(length // 2 + 1), np.zeros((length // 2 + 1, bands))
    for band, (left, peak, right) in enumerate(zip(edges, edges[1:], edges[2:])):
        with np.errstate(divide="ignore", invalid="ignore"):
            matrix[:, band] = np.where(places == peak, 1, np.where((places >= left) & (places < peak), (places - left) / (peak - left), np.where((places > peak) & (places < right), (right - places) / (right - peak), 0)))
    return matrix


@test("types/mel bands that are literals, known and too large for one, and only computed")
def mel_bands():
    folder = scratch("mel")
    nodes, constants, outputs, inputs, data, wanted = [], [], [], [], {}, {}
    for bands, length in ((4, 32), (20, 128), (80, 400)):
        spectrum = np.random.default_rng(bands).random((2, length // 2 + 1)).astype(np.float32)
        arguments = [np.asarray(bands), np.asarray(length), np.asarray(16000), np.asarray(20, np.float32), np.asarray(7600, np.float32)]
        constants += [onnx.tensor(f"{bands}.{i}", value) for i, value in enumerate(arguments)]
        nodes += [onnx.node("MelWeightMatrix", [f"{bands}.{i}" for i in range(5)], [f"mel{bands}"]), onnx.node("MatMul", [f"x{bands}", f"mel{bands}"], [f"y{bands}"])]
        inputs.append(onnx.value(f"x{bands}", ["batch", length // 2 + 1]))
        outputs.append(onnx.value(f"y{bands}", ["batch", bands]))
        data[f"x{bands}"], wanted[f"y{bands}"] = spectrum, spectrum @ mel_matrix(bands, length, 16000, 20, 7600)
    (folder / "model.onnx").write_bytes(onnx.model(nodes, constants, inputs, outputs, opset=20))
    tensors.save(folder / "data.safetensors", data)
    succeed(["zopt", "--mode=forward", "--micro-batch=2", folder / "model.onnx", "-o", folder / "plan.mlir"])
    succeed(["zrun", folder / "plan.mlir", "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--outputs", folder / "out"])
    for name, values in wanted.items():
        error = np.abs(tensors.load(folder / "out")[name] - values).max()
        assert error < 1e-5 * np.abs(values).max(), f"'{name}' is off by {error}"


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
