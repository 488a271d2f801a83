"""If, Loop, Scan, sequences and recurrent nets, which import writes out: forward values against NumPy, gradients against the same graph written by hand, and what is refused."""
import re

import numpy as np

import onnx_writer as onnx
import tensors
from harness import add, execute, expect_refusal, scratch, succeed


def array(name, *values, dtype=np.int64):
    return onnx.tensor(name, np.asarray(values[0] if len(values) == 1 else values, dtype))


def forward(model, inputs, *flags):
    """Outputs of one sample."""
    folder = scratch("control-flow")
    (folder / "m.onnx").write_bytes(model)
    tensors.save(folder / "data.safetensors", inputs)
    succeed(["zopt", "--mode=forward", *flags, folder / "m.onnx", "-o", folder / "plan.mlir"])
    succeed(["zrun", folder / "plan.mlir", "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--outputs", folder / "out"])
    return tensors.load(folder / "out")


def gradients(model, inputs, *flags):
    folder = scratch("control-flow")
    (folder / "m.onnx").write_bytes(model)
    tensors.save(folder / "data.safetensors", inputs)
    succeed(["zopt", "--mode=gradient", "--loss=output:loss", *flags, folder / "m.onnx", "-o", folder / "plan.mlir"])
    succeed(["zrun", folder / "plan.mlir", "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--steps", 1, "--gradients-out", folder / "g"])
    return tensors.load(folder / "g")


rng = np.random.default_rng(3)
X = rng.standard_normal((1, 4)).astype(np.float32)
V = lambda name, dims=("batch", 4), kind=onnx.FLOAT: onnx.value(name, list(dims), kind)
N = onnx.node


def expect(got, wanted):
    np.testing.assert_allclose(got.reshape(wanted.shape), wanted, rtol=2e-6, atol=2e-6)


def check_if(condition):
    """The branch that a known condition takes, nested, with values from around it; the other one may hold what is not supported."""
    inner = onnx.body([N("Mul", ["x", "x"], ["square"])], [], [V("square")])
    taken = onnx.body([N("Constant", [], ["yes"], value_int=1), N("Cast", ["yes"], ["sure"], to=onnx.BOOL), N("If", ["sure"], ["r"], then_branch=inner, else_branch=inner), N("Add", ["r", "two"], ["a"])], [], [V("a")])
    other = onnx.body([N("NoSuchOperator", ["x"], ["b"])], [], [V("b")])
    branches = {"then_branch": taken, "else_branch": other} if condition else {"then_branch": other, "else_branch": taken}
    model = onnx.model([N("If", ["c"], ["y"], **branches)], [array("c", condition, dtype=np.bool_), array("two", 2, dtype=np.float32)], [V("x")], [V("y")])
    expect(forward(model, {"x": X})["y"], X * X + 2)


def loop_body():
    """state = state / 2 + i while i + 1 < 3; scans state and i."""
    nodes = [N("Cast", ["i"], ["fi"], to=onnx.FLOAT), N("Mul", ["s", "half"], ["t"]), N("Add", ["t", "fi"], ["out"]), N("Add", ["i", "one"], ["next"]), N("Less", ["next", "three"], ["goes"]),
             N("Identity", ["out"], ["scan"]), N("Identity", ["i"], ["count"])]
    return onnx.body(nodes, [V("i", (), onnx.INT64), V("c", (), onnx.BOOL), V("s")], [V("goes", (), onnx.BOOL), V("out"), V("scan"), V("count", (), onnx.INT64)],
                     [array("half", 0.5, dtype=np.float32), array("one", 1), array("three", 3)])


def check_loop():
    """A loop that a count and its own condition end; scanned values, known ones too."""
    model = onnx.model([N("Loop", ["trips", "", "x"], ["y", "all", "list"], body=loop_body()), N("Unsqueeze", ["list", "zero"], ["counts"]), N("Transpose", ["all"], ["per sample"], perm=[1, 0, 2])], [array("trips", 10), array("zero", [0])], [V("x")], [V("y"), V("per sample", ("batch", 3, 4)), V("counts", (1, 3), onnx.INT64)])
    got = forward(model, {"x": X})
    states, s = [], X
    for i in range(3):
        s = s / 2 + i
        states.append(s)
    expect(got["y"], s)
    expect(got["per sample"], np.stack(states, 1))
    expect(got["counts"], np.arange(3))


def tanh_steps(unrolled):
    """h = tanh(h W) three times; the loss is a sum."""
    w = array("w", rng_matrix(), dtype=np.float32)
    if unrolled:
        nodes = []
        for i in range(3):
            nodes += [N("MatMul", [f"h{i}" if i else "x", "w"], [f"p{i}"]), N("Tanh", [f"p{i}"], [f"h{i + 1}"])]
        last = "h3"
    else:
        inner = onnx.body([N("MatMul", ["s", "w"], ["p"]), N("Tanh", ["p"], ["o"]), N("Identity", ["c"], ["c2"])], [V("i", (), onnx.INT64), V("c", (), onnx.BOOL), V("s")], [V("c2", (), onnx.BOOL), V("o")])
        nodes, last = [N("Loop", ["trips", "", "x"], ["h"], body=inner)], "h"
    nodes.append(N("ReduceSum", [last, "axis"], ["loss"], keepdims=0))
    return onnx.model(nodes, [w, array("trips", 3), array("axis", [1])], [V("x")], [onnx.value("loss", ["batch"])])


def rng_matrix():
    return np.random.default_rng(8).standard_normal((4, 4)) / 2


def check_loop_gradient():
    """A loop's gradient is that of the steps written one after another, to the bit."""
    looped, written = gradients(tanh_steps(False), {"x": X}), gradients(tanh_steps(True), {"x": X})
    assert looped.keys() == written.keys() == {"w"}, f"gradients of {looped.keys()} and {written.keys()}"
    assert np.array_equal(looped["w"], written["w"]), "the gradients differ"


def check_scan():
    """Running sums in both directions over the second axis."""
    inner = onnx.body([N("Add", ["s", "v"], ["t"]), N("Identity", ["t"], ["u"])], [V("s", (1,)), V("v", (1,))], [V("t", (1,)), V("u", (1,))])
    nodes = [N("Scan", ["zero", "x"], [f"end{d}", f"sums{d}"], body=inner, num_scan_inputs=1, scan_input_axes=[1], scan_input_directions=[d], scan_output_axes=[1], scan_output_directions=[d]) for d in (0, 1)]
    model = onnx.model(nodes, [array("zero", [0], dtype=np.float32)], [V("x")], [V("sums0"), V("sums1"), V("end1", (1,))])
    got = forward(model, {"x": X})
    expect(got["sums0"], np.cumsum(X, 1))
    expect(got["sums1"], np.cumsum(X[:, ::-1], 1)[:, ::-1])
    expect(got["end1"], X.sum(1))


def check_sequences():
    """Sequences and optionals that are lists at import."""
    nodes = [N("SplitToSequence", ["x", "two"], ["parts"], axis=1), N("SequenceAt", ["parts", "minus"], ["last"]), N("Neg", ["last"], ["negative"]), N("SequenceInsert", ["parts", "negative", "zero"], ["more"]),
             N("SequenceLength", ["more"], ["length"]), N("ConcatFromSequence", ["more"], ["joined"], axis=1), N("Optional", ["joined"], ["maybe"]), N("OptionalHasElement", ["maybe"], ["has"]),
             N("OptionalGetElement", ["maybe"], ["value"]), N("Cast", ["length"], ["flength"], to=onnx.FLOAT), N("Mul", ["value", "flength"], ["y"])]
    model = onnx.model(nodes, [array("two", 2), array("minus", -1), array("zero", 0)], [V("x")], [V("y", ("batch", 6))])
    expect(forward(model, {"x": X})["y"], 3 * np.concatenate([-X[:, 2:], X], 1))


ONE = array("one", 1)
SIMPLE = onnx.body([N("Identity", ["s"], ["t"]), N("Identity", ["c"], ["d"])], [V("i", (), onnx.INT64), V("c", (), onnx.BOOL), V("s")], [V("d", (), onnx.BOOL), V("t")])


def deep(levels):
    body = flat = onnx.body([N("Identity", ["x"], ["r"])], [], [V("r")])
    for _ in range(levels):
        body = onnx.body([N("If", ["yes"], ["r"], then_branch=body, else_branch=flat)], [], [V("r")])
    return body


REFUSED = {
    "If on data": (lambda: onnx.model([N("ReduceSum", ["x"], ["s"], keepdims=0), N("Cast", ["s"], ["c"], to=onnx.BOOL), N("If", ["c"], ["y"], "branch", then_branch=deep(0), else_branch=deep(0))], [], [V("x")], [V("y")]),
                   "the condition depends on the data, but it must be known when the model is imported: a training graph has no branches"),
    "Loop too long": (lambda: onnx.model([N("Loop", ["trips", "", "x"], ["y"], "turn", body=SIMPLE)], [array("trips", 5000)], [V("x")], [V("y")]), "runs 5000 iterations; at most 1024 are unrolled"),
    "Loop without end": (lambda: onnx.model([N("Loop", ["", "", "x"], ["y"], "turn", body=SIMPLE)], [], [V("x")], [V("y")]), "runs more than 1024 iterations; at most 1024 are unrolled"),
    "If too deep": (lambda: onnx.model([N("If", ["yes"], ["y"], then_branch=deep(40), else_branch=deep(0))], [array("yes", True, dtype=np.bool_)], [V("x")], [V("y")]), "graphs are nested too deeply"),
    "sequence into Add": (lambda: onnx.model([N("SequenceConstruct", ["x"], ["s"]), N("Add", ["s", "x"], ["y"], "sum")], [], [V("x")], [V("y")]), "operator 'Add' gets a sequence"),
    "sequence output": (lambda: onnx.model([N("SequenceConstruct", ["x"], ["y"])], [], [V("x")], [V("y")]), "the graph's output 'y' is a sequence"),
    "NonZero": (lambda: onnx.model([N("NonZero", ["x"], ["y"], "places")], [], [V("x")], [V("y", (2, 4), onnx.INT64)]), "the result's shape depends on the data: operator 'NonZero' is supported on values that are known"),
    "Pad too large": (lambda: onnx.model([N("Pad", ["x", "pads"], ["y"], "far")], [array("pads", [0, 1 << 50, 0, 0])], [V("x")], [V("y")]), "pads axis 1, which has 4 elements, by 1125899906842624"),
    "Tile too large": (lambda: onnx.model([N("Tile", ["x", "times"], ["y"], "far")], [array("times", [1 << 30, 1 << 30])], [V("x")], [V("y")]), "at most 2^40 elements are supported"),
    "TopK": (lambda: onnx.model([N("TopK", ["x", "k"], ["y", "i"], "best")], [array("k", [9])], [V("x")], [V("y")]), "k is [9], but it must be one number between 1 and the 4 elements of axis 1"),
    "Einsum": (lambda: onnx.model([N("Einsum", ["x"], ["y"], "sum", equation="ij,jk->ik")], [], [V("x")], [V("y")]), "the equation 'ij,jk->ik' is not one of terms of letters for 1 operands"),
    "LSTM": (lambda: onnx.model([N("Unsqueeze", ["x", "axis"], ["x3"]), N("LSTM", ["x3", "w", "r"], ["y"], "cell", hidden_size=2)], [array("axis", [0]), array("w", np.zeros((1, 8, 4)), dtype=np.float32), array("r", np.zeros((1, 8, 3)), dtype=np.float32)], [V("x")], [V("y")]),
             "W is [1, 8, 4], expected [1, 12, 4] of the element type of X"),
}


def check_refused(name):
    make, message = REFUSED[name]
    folder = scratch("refused")
    (folder / "m.onnx").write_bytes(make())
    expect_refusal(execute(["zopt", "--mode=forward", folder / "m.onnx", "-o", folder / "plan.mlir"], timeout=20), 1, re.escape(message))


for condition in (True, False):
    add(f"control-flow/If {condition}", check_if, condition)
add("control-flow/Loop", check_loop)
add("control-flow/Loop gradient", check_loop_gradient)
add("control-flow/Scan", check_scan)
add("control-flow/sequences", check_sequences)
for name in REFUSED:
    add(f"control-flow/refused/{name}", check_refused, name)
