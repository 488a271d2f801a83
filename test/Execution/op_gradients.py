"""Gradients of ONNX operators against PyTorch's autograd, recorded in test/Models/op-gradients.safetensors by scripts/record-op-gradients.py.

All cases are one model: the loss is the sum over cases of sum(c * op(w...)) for parameters w and fixed weights c; gradients are those of w, in f64. A case also compares its forward
value, so that both sides mean the same op.
"""
import math
import zlib

import numpy as np

import onnx_writer as onnx
import tensors
from harness import MODELS, add, memoize, scratch, succeed

RECORD = MODELS / "op-gradients.safetensors"


class Case:
    """`parameters`: {name: shape}; `nodes(case)`: ONNX nodes from them to the value `y` of shape `out`."""

    def __init__(self, name, parameters, out, nodes, kind="normal"):
        self.name, self.shapes, self.out, self.make, self.kind = name, parameters, tuple(out), nodes, kind
        self.constants, self.list = [], []

    def draw(self):
        """Parameters and the result's weights, the same ones wherever they are drawn."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        def values(shape):
            if self.kind == "apart":  # no ties
                return (rng.permutation(math.prod(shape)).reshape(shape) / 8 - 1).astype(np.float32)
            if self.kind == "grid":  # inside and outside [-1, 1]
                return rng.uniform(-1.3, 1.3, shape).astype(np.float32)
            return rng.standard_normal(shape).astype(np.float32)
        return {name: values(shape) for name, shape in self.shapes.items()}, rng.standard_normal(self.out).astype(np.float32)

    def constant(self, array):
        name = f"{self.name}/constant{len(self.constants)}"
        self.constants.append(onnx.tensor(name, np.asarray(array)))
        return name

    def op(self, op, inputs, outputs="y", **attributes):
        """Names are the case's own, but for constants' and what is empty."""
        qualify = lambda n: n if not n or "/" in n else f"{self.name}/{n}"
        outputs = [outputs] if isinstance(outputs, str) else outputs
        self.list.append(onnx.node(op, [qualify(i) for i in inputs], [qualify(o) for o in outputs], f"{self.name}/{op}{len(self.list)}", **attributes))


def case(name, parameters, out, op, constants=(), kind="normal", outputs="y", **attributes):
    """One node. Operands: a parameter's name, an array, or None."""
    def nodes(c):
        operands = constants or list(parameters)
        c.op(op, ["" if o is None else o if isinstance(o, str) else c.constant(o) for o in operands], outputs, **attributes)
    return Case(name, parameters, out, nodes, kind)


I = lambda *values: np.asarray(values, np.int64)
F = lambda *values: np.asarray(values, np.float32)


def recurrent(op, direction, gates, *, hidden=3, length=4, batch=2, inputs=2, lengths=None, state=True, **attributes):
    d = 2 if direction == "bidirectional" else 1
    shapes = {"x": (length, batch, inputs), "w": (d, gates * hidden, inputs), "r": (d, gates * hidden, hidden), "b": (d, 2 * gates * hidden)}
    operands = ["x", "w", "r", "b", None if lengths is None else np.asarray(lengths, np.int64)]
    if state:
        shapes["h"] = (d, batch, hidden)
        operands.append("h")
        if op == "LSTM":
            shapes["c"] = (d, batch, hidden)
            operands.append("c")
    name = f"{op}/{direction}{'' if lengths is None else ' lengths'}{''.join(' ' + a for a in attributes)}"
    return case(name, shapes, (length, d, batch, hidden), op, operands, direction=direction, hidden_size=hidden, **attributes)


CASES = [
    *[case(f"Pad/{mode}", {"x": (3, 4)}, (6, 5), "Pad", ["x", I(1, -1, 2, 2)], mode=mode) for mode in ("constant",)],
    case("Pad/value", {"x": (3, 4), "v": ()}, (4, 6), "Pad", ["x", I(1, 0, 0, 2), "v"]),
    *[case(f"Pad/{mode}", {"x": (1, 3, 4)}, (1, 6, 6), "Pad", ["x", I(0, 1, 1, 0, 2, 1)], mode=mode) for mode in ("reflect", "edge", "wrap")],
    case("Tile", {"x": (2, 3)}, (4, 9), "Tile", ["x", I(2, 3)]),
    case("GatherElements/axis 1", {"x": (3, 4)}, (3, 2), "GatherElements", ["x", np.asarray([[0, 3], [1, 1], [-1, 0]], np.int64)], axis=1),
    case("GatherElements/smaller indices", {"x": (3, 4)}, (2, 3), "GatherElements", ["x", np.asarray([[0, 2, 1], [1, 1, 0]], np.int64)], axis=0),
    case("GatherND/tuples", {"x": (3, 4, 2)}, (3, 2), "GatherND", ["x", np.asarray([[0, 1], [2, 3], [0, 1]], np.int64)]),
    case("GatherND/batch", {"x": (2, 3, 4)}, (2, 4), "GatherND", ["x", np.asarray([[1], [0]], np.int64)], batch_dims=1),
    *[case(f"ScatterElements/{reduction}", {"x": (3, 4), "u": (2, 4)}, (3, 4), "ScatterElements", ["x", np.asarray([[0, 1, 2, 0], [2, 1, 0, 0]], np.int64), "u"], axis=0, reduction=reduction)
      for reduction in ("add", "mul", "max", "min")],
    case("ScatterElements/none", {"x": (3, 4), "u": (3, 2)}, (3, 4), "ScatterElements", ["x", np.asarray([[0, 1], [3, 1], [2, 0]], np.int64), "u"], axis=1),
    case("ScatterND/none", {"x": (4, 3), "u": (2, 3)}, (4, 3), "ScatterND", ["x", np.asarray([[1], [3]], np.int64), "u"]),
    case("ScatterND/add", {"x": (4, 3), "u": (3, 3)}, (4, 3), "ScatterND", ["x", np.asarray([[1], [3], [1]], np.int64), "u"], reduction="add"),
    case("TopK/largest", {"x": (3, 6)}, (3, 2), "TopK", ["x", I(2)], kind="apart", outputs=["y", "i"]),
    case("TopK/smallest of axis 0", {"x": (5, 2)}, (3, 2), "TopK", ["x", I(3)], kind="apart", outputs=["y", "i"], axis=0, largest=0),
    case("DepthToSpace", {"x": (1, 8, 2, 3)}, (1, 2, 4, 6), "DepthToSpace", ["x"], blocksize=2, mode="CRD"),
    case("SpaceToDepth", {"x": (1, 2, 4, 6)}, (1, 8, 2, 3), "SpaceToDepth", ["x"], blocksize=2),
    case("Col2Im", {"x": (1, 8, 9)}, (1, 2, 4, 4), "Col2Im", ["x", I(4, 4), I(2, 2)]),
    case("Col2Im/strides", {"x": (1, 4, 4)}, (1, 1, 4, 4), "Col2Im", ["x", I(4, 4), I(2, 2)], strides=[2, 2], dilations=[2, 2], pads=[1, 1, 1, 1]),
    case("Trilu", {"x": (3, 4)}, (3, 4), "Trilu", ["x", np.asarray(1, np.int64)], upper=0),
    case("Slice/backwards", {"x": (5, 3)}, (2, 3), "Slice", ["x", I(4, -1), I(0, -9), I(0, 1), I(-2, -1)]),
    case("Resize/linear", {"x": (1, 2, 3, 4)}, (1, 2, 6, 7), "Resize", ["x", None, None, I(1, 2, 6, 7)], mode="linear"),
    case("Resize/linear corners", {"x": (1, 1, 3, 4)}, (1, 1, 5, 7), "Resize", ["x", None, None, I(1, 1, 5, 7)], mode="linear", coordinate_transformation_mode="align_corners"),
    case("Resize/cubic", {"x": (1, 1, 4, 5)}, (1, 1, 7, 8), "Resize", ["x", None, None, I(1, 1, 7, 8)], mode="cubic"),
    case("Resize/antialiased", {"x": (1, 1, 9, 8)}, (1, 1, 4, 3), "Resize", ["x", None, None, I(1, 1, 4, 3)], mode="linear", antialias=1, exclude_outside=1),
    case("Resize/nearest", {"x": (1, 2, 3, 2)}, (1, 2, 6, 6), "Resize", ["x", None, F(1, 1, 2, 3)], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    *[case(f"GridSample/{mode} {padding} {corners}", {"x": (2, 3, 4, 5), "g": (2, 3, 2, 2)}, (2, 3, 3, 2), "GridSample", ["x", "g"], kind="grid", mode=mode, padding_mode=padding, align_corners=corners)
      for mode in ("linear", "cubic") for padding in ("zeros", "border", "reflection") for corners in (0, 1)],
    case("GridSample/nearest zeros 0", {"x": (1, 2, 4, 5), "g": (1, 3, 2, 2)}, (1, 2, 3, 2), "GridSample", ["x", "g"], kind="grid", mode="nearest"),
    *[case(f"AffineGrid/{corners}", {"t": (2, 2, 3)}, (2, 3, 4, 2), "AffineGrid", ["t", I(2, 1, 3, 4)], align_corners=corners) for corners in (0, 1)],
    *[case(f"Einsum/{equation}", {f"o{i}": shape for i, shape in enumerate(shapes)}, out, "Einsum", equation=equation) for equation, shapes, out in (
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 2)], (2, 3, 2)), ("bhtd,bhsd->bhts", [(1, 2, 3, 2), (1, 2, 4, 2)], (1, 2, 3, 4)), ("ii->i", [(3, 3)], (3,)), ("ij->", [(2, 3)], ()),
        ("i,j,ij->ji", [(2,), (3,), (2, 3)], (3, 2)), ("...ij,...jk->...ik", [(2, 1, 3, 4), (3, 4, 2)], (2, 3, 3, 2)), ("bi,bi,ij->j", [(2, 3), (2, 3), (3, 4)], (4,)))],
    recurrent("RNN", "forward", 1), recurrent("RNN", "bidirectional", 1, activations=["Relu", "Relu"]),
    recurrent("LSTM", "forward", 4), recurrent("LSTM", "bidirectional", 4), recurrent("LSTM", "bidirectional", 4, lengths=[4, 2], state=False),
    recurrent("GRU", "forward", 3, linear_before_reset=1), recurrent("GRU", "bidirectional", 3, linear_before_reset=1, lengths=[3, 4]),
]


def build(cases):
    nodes, initializers, results, weights = [], [], [], {}
    for c in cases:
        c.constants, c.list = [], []
        parameters, factors = c.draw()
        c.make(c)
        for name, array in parameters.items():
            initializers.append(onnx.tensor(f"{c.name}/{name}", array))
        weights[c.name] = (parameters, factors)
        c.op("Mul", ["y", c.constant(factors)], "product")
        c.op("ReduceSum", ["product"], "total", keepdims=0)
        initializers += c.constants
        nodes += c.list
        results.append(f"{c.name}/total")
    nodes += [onnx.node("Sum", results, ["sum"]), onnx.node("Add", ["sum", "zero"], ["plus"]), onnx.node("ReduceSum", ["plus", "axis"], ["loss"], keepdims=0)]
    nodes.insert(0, onnx.node("Mul", ["x", "none"], ["zero"]))
    initializers += [onnx.tensor("none", np.zeros(1, np.float32)), onnx.tensor("axis", I(1))]
    outputs = [onnx.value("loss", ["batch"])] + [onnx.value(f"{c.name}/total", []) for c in cases]
    return onnx.model(nodes, initializers, [onnx.value("x", ["batch", 1])], outputs, opset=20)


@memoize
def run():
    folder = scratch("op-gradients")
    (folder / "cases.onnx").write_bytes(build(CASES))
    tensors.save(folder / "x.safetensors", {"x": np.zeros((1, 1), np.float32)})
    names = "|".join(sorted({n for c in CASES for n in c.shapes}))
    succeed(["zopt", "--mode=gradient", "--fp64", "--loss=output:loss", f"--train-only=.*/({names})", folder / "cases.onnx", "-o", folder / "plan.mlir"])
    succeed(["zrun", folder / "plan.mlir", "--comm=local", "--threads", 1, "--data", folder / "x.safetensors", "--steps", 1, "--gradients-out", folder / "gradients"])
    return tensors.load(folder / "gradients"), tensors.load(RECORD)


def check(c):
    ours, theirs = run()
    for name, shape in c.shapes.items():
        key = f"{c.name}/{name}"
        mine, expected = ours.get(key, np.zeros(shape)).astype(np.float64), theirs[key].astype(np.float64)
        assert mine.shape == expected.shape, f"gradient of '{key}' has shape {mine.shape}, PyTorch's {expected.shape}"
        error, scale = np.abs(mine - expected).max(initial=0), max(1.0, np.abs(expected).max(initial=0))
        assert error <= 2e-6 * scale, f"gradient of '{key}' is off by {error:.3g}: {mine.ravel()[:6]} instead of {expected.ravel()[:6]}"


for c in CASES:
    add(f"I7/autograd/{c.name}", check, c)
