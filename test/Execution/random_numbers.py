"""Operators that draw random numbers: what they draw is Philox's, by seed, op, step, sample and element as dropout has it."""
import numpy as np

import onnx_writer as onnx
import tensors
from dropout import mask, philox
from harness import add, memoize, scratch, succeed, test

SAMPLES, C = 8, 1024


def uniform(shape, op, seed, step, sample):
    """Numbers of one sample, in [0, 1)."""
    e = np.arange(int(np.prod(shape)), dtype=np.uint64)
    words = np.stack(philox([e // np.uint64(4), np.full_like(e, sample), np.full_like(e, step), np.zeros_like(e)], [seed, op]))
    return ((words[(e % np.uint64(4)).astype(int), np.arange(e.size)] >> np.uint32(8)) * 2.0 ** -24).reshape(shape)


def normal(shape, op, *place):
    """Box and Muller's two numbers of each pair."""
    u, v = uniform(shape, op, *place).reshape(-1, 2).T
    return (np.sqrt(-2 * np.log(1 - u)) * [np.cos(2 * np.pi * v), np.sin(2 * np.pi * v)]).T.reshape(shape)


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
        wanted = {"uniform": uniform((C,), 0, *place) * 4 - 1, "normal": normal((C,), 1, *place) * 2 + 0.5, "fixed": normal((C,), 2, *place), "coin": (uniform((C,), 3, *place) < x[i]) | (x[i] >= 1),
                  "shared": uniform((C,), 5, 9, i // batch, 0)}
        with np.errstate(divide="ignore"):
            wanted["class"] = (x[i] - np.log(-np.log(uniform((300, C), 4, *place)))).argmax(1)
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


def check_stochastic_depth(raised):
    """A branch that timm and torchvision drop by [u < p] / p: as a dropout once it is raised, and with its own numbers where it is not."""
    folder, p = scratch("depth"), np.float32(0.75)
    nodes = [onnx.node("RandomUniform", [], ["u"], shape=[4, 1]), onnx.node("Less", ["u", "p"], ["kept"]), onnx.node("Cast", ["kept"], ["float"], to=onnx.FLOAT), onnx.node("Div", ["float", "p"], ["scale"]),
             onnx.node("Mul", ["x", "scale"], ["y"])]
    (folder / "model.onnx").write_bytes(onnx.model(nodes, [onnx.tensor("p", p)], [onnx.value("x", ["batch", C])], [onnx.value("y", ["batch", C])]))
    x = np.random.default_rng(7).standard_normal((SAMPLES, C)).astype(np.float32)
    tensors.save(folder / "data.safetensors", {"x": x})
    succeed(["zopt", "--mode=forward", "--micro-batch=4", *([] if raised else ["--no-raise"]), folder / "model.onnx", "-o", folder / "plan.mlir"])
    succeed(["zrun", folder / "plan.mlir", "--nproc", 2, "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--outputs", folder / "out", "--seed", 9])
    kept = [mask((1,), 0.25, seed=9, sample=i)[0] if raised else uniform((1,), 0, 9, 0, i)[0] < p for i in range(SAMPLES)]
    assert 0 < sum(kept) < SAMPLES
    expected = x * np.array(kept)[:, None] / p
    assert np.abs(tensors.load(folder / "out")["y"] - expected).max() < 1e-6


add("random/stochastic depth/as a dropout", check_stochastic_depth, True)
add("random/stochastic depth/as it is written", check_stochastic_depth, False)


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
