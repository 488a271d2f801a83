"""--keep-fp32: what it names computes in fp32 on fp32 weights, in the plan and in its numbers; the rest is as it was."""
import re

import numpy as np

import tensors
from harness import HERE, add, execute, expect_refusal, memoize, scratch, succeed, test
from onnx_writer import model, node, tensor, value

IN, HIDDEN, OUT, BATCH = 6, 9, 5, 8


@memoize
def arrays():
    r = np.random.default_rng(9)
    draw = lambda *shape: r.standard_normal(shape).astype(np.float32)
    return {"fc1.weight": draw(IN, HIDDEN), "fc1.bias": draw(HIDDEN), "fc2.weight": draw(OUT, HIDDEN), "x": draw(BATCH, IN), "labels": r.integers(0, OUT, BATCH)}


def write(path):
    """fc2's weight is stored transposed, so that it is moved on its way to the node."""
    nodes = [node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["a"], "fc1"), node("Tanh", ["a"], ["h"], "act"), node("Transpose", ["fc2.weight"], ["w2"], "turn", perm=[1, 0]),
             node("MatMul", ["h", "w2"], ["b"], "fc2"), node("Softmax", ["b"], ["logits"], "probabilities", axis=-1)]
    parameters = [tensor(name, arrays()[name]) for name in ("fc1.weight", "fc1.bias", "fc2.weight")]
    path.write_bytes(model(nodes, parameters, [value("x", ["batch", IN])], [value("logits", ["batch", OUT])]))


def compiled(*flags):
    folder = scratch("keep")
    write(folder / "model.onnx")
    tensors.save(folder / "data.safetensors", {"x": arrays()["x"], "labels": arrays()["labels"]})
    succeed(["zopt", f"--micro-batch={BATCH}", *flags, folder / "model.onnx", "-o", folder / "plan.mlir"])
    return folder


@memoize
def forward(*flags):
    folder = compiled("--mode=forward", *flags)
    succeed(["zrun", folder / "plan.mlir", "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--outputs", folder / "outputs"])
    return tensors.load(folder / "outputs")["logits"], (folder / "plan.mlir").read_text()


@memoize
def gradients(*flags):
    folder = compiled("--mode=gradient", *flags)
    succeed(["zrun", folder / "plan.mlir", "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--steps", 1, "--gradients-out", folder / "gradients"])
    return tensors.load(folder / "gradients"), (folder / "plan.mlir").read_text()


def bf16(x):
    """Rounded to bf16, in f64."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32).astype(np.float64)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def check_all(precision):
    """With every op kept nothing is left of the compute type: outputs and gradients are fp32's, to the bit."""
    kept, plan = forward(f"--{precision}", "--keep-fp32=.*")
    assert not re.search("x(bf16|f16)>", plan), "the plan has values of 16 bits"
    assert kept.tobytes() == forward()[0].tobytes()
    ours, theirs = gradients("--bf16", "--keep-fp32=.*")[0], gradients()[0]
    assert ours.keys() == theirs.keys() and all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


for precision in ("bf16", "fp16"):
    add(f"keep-fp32/{precision}/everything kept is fp32", check_all, precision)


@test("keep-fp32/bf16/by node: fc2 and the softmax behind it compute on fp32 weights")
def by_node():
    a = bf16(bf16(arrays()["x"]) @ bf16(arrays()["fc1.weight"]) + bf16(arrays()["fc1.bias"]))
    h = bf16(np.tanh(a))
    expected = softmax(h @ arrays()["fc2.weight"].astype(np.float64).T)
    kept, plan = forward("--bf16", "--keep-fp32=fc2|probabilities")
    assert np.abs(kept - expected).max() < 1e-6, f"off by {np.abs(kept - expected).max():.3g}"
    # And that is told from what it is without: fp32 weights, and a result that is not rounded.
    assert np.abs(forward("--bf16")[0] - expected).max() > 1e-4
    assert re.search(r"train\.matmul .*tensor<8x9xf32>.* -> tensor<8x5xf32>", plan), "fc2 is not fp32 in the plan"
    assert re.search(r"train\.matmul .*tensor<8x6xbf16>.* -> tensor<8x9xbf16>", plan), "fc1 is not bf16 in the plan"
    assert re.search(r"compute f32.*fc2\.weight", plan) and re.search(r"compute bf16.*fc1\.weight", plan), "the weights' buckets are not of the types that they are read in"


@test("keep-fp32/bf16/by op: the softmax alone")
def by_op():
    _, plan = forward("--bf16", "--keep-fp32=softmax")
    assert re.search(r"train\.softmax .*: tensor<8x5xf32>", plan) and re.search(r"train\.matmul .* -> tensor<8x5xbf16>", plan), plan
    assert forward("--bf16", "--keep-fp32=softmax")[0].tobytes() == forward("--bf16", r"--keep-fp32=train\.softmax")[0].tobytes()


@test("keep-fp32/bf16/the gradient of a kept node's weight is fp32 too")
def gradient():
    kept, plan = gradients("--bf16", "--keep-fp32=fc2")
    assert re.search(r"compute f32 gradient f32.*fc2\.weight", plan), "fc2's gradient is not fp32"
    assert np.array_equal(bf16(gradients("--bf16")[0]["fc2.weight"]), gradients("--bf16")[0]["fc2.weight"]) and not np.array_equal(bf16(kept["fc2.weight"]), kept["fc2.weight"])


@test("keep-fp32/cuda: such a plan compiles")
def cuda():
    folder = compiled("--bf16", "--keep-fp32=fc2|softmax", "--nproc=2", "--target=cuda", "--zero-stage=3")
    assert re.search(r"softmax.*f32", (folder / "plan.mlir").read_text())


def refused(code, pattern, *flags):
    folder = scratch("keep")
    write(folder / "model.onnx")
    expect_refusal(execute(["zopt", *flags, folder / "model.onnx", "-o", folder / "plan.mlir"]), code, pattern)


add("keep-fp32/refused/without a compute type", refused, 2, "--keep-fp32 is a setting of --bf16 and --fp16, which are not given", "--keep-fp32=fc2")
add("keep-fp32/refused/what matches nothing", refused, 1, "keep-fp32 'fc' matches no node and no op of the graph", "--bf16", "--keep-fp32=fc")
add("keep-fp32/refused/what is no expression", refused, 1, r"keep-fp32 '\(' is no regular expression: ", "--bf16", "--keep-fp32=(")


@test("keep-fp32/docs/Precision.md has the table of --list-precision, which has every op")
def table():
    text = (HERE.parent.parent / "docs/Precision.md").read_text()
    assert succeed(["zopt", "--list-precision"]).stdout in text, "the table in docs/Precision.md is not what zopt --list-precision prints"
