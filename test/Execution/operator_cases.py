"""Cases of ONNX operators whose gradients PyTorch gave once (operator_gradients.safetensors, written by scripts/record-operator-gradients.py).

Each is an operator with attributes, operands (float ones are differentiated; others are constants; None is left out) and what it is in PyTorch: an expression over a, b, c, ... The gradient is that of
sum(out * weights) for fixed weights. Shapes have one, several and no axes of size 1; operands at kinks (0 for relu, equal ones for max) are among them. arranging_cases.py has more of them.
"""
import itertools
import zlib

import numpy as np

SHAPES = ((3, 4), (2, 1, 3), (5,))
SKETCH = 3  # products a gradient


class Case:
    """outputs: what the operator's are called; "y" is the one. constant: float operands that are not differentiated. nodes(name): the graph of a case of several nodes, whose values are called name("a") for
    the first operand and so on and name("y") for the result; more: further operands of it."""

    def __init__(self, op, operands, torch, domain="", outputs=("y",), constant=(), nodes=None, more=(), **attributes):
        self.op, self.operands, self.torch, self.domain, self.attributes = op, [*operands, *more], torch, domain, attributes
        self.outputs, self.constant, self.nodes = outputs, constant, nodes
        self.name = f"{domain}{domain and '.'}{op} {' '.join(f'{k}={v}' for k, v in attributes.items())}({', '.join('none' if o is None else 'x'.join(map(str, o.shape)) or 'scalar' for o in self.operands)})"
        if op in ("Compress", "Gather", "GatherElements", "GatherND", "OneHot", "Slice", "TensorScatter"):  # what distinguishes them is in a constant
            self.name += f" {self.torch}"


def rng(text):
    return np.random.default_rng(zlib.crc32(text.encode()))


def draw(kind, shape, seed):
    r = rng(f"{seed} {kind} {shape}")
    x = r.standard_normal(shape)
    if kind == "kinks":  # small integers and halves
        x = r.integers(-4, 5, shape) / 2
    elif kind == "positive":
        x = 0.5 + np.abs(x)
    elif kind == "inside 1":
        x = r.uniform(-0.8, 0.8, shape)
    elif kind == "above 1":
        x = 1.2 + np.abs(x)
    elif kind == "zeros":  # some
        x = np.where(r.random(shape) < 0.4, 0, x)
    return np.asarray(x, np.float32)


def integers(*values):
    return np.asarray(values, np.int64)


def every():
    def unary(op, torch, kinds=("normal", "normal", "normal"), **attributes):
        for kind, shape in zip(kinds, SHAPES):
            yield Case(op, [draw(kind, shape, op)], torch, **attributes)

    kinks = ("kinks", "normal", "kinks")
    for op, torch in (("Abs", "a.abs()"), ("Ceil", "a.ceil()"), ("Floor", "a.floor()"), ("Round", "a.round()"), ("Sign", "a.sign()"), ("Relu", "a.relu()")):
        yield from unary(op, torch, kinks)
    for op, torch in (("Asinh", "a.asinh()"), ("Atan", "a.atan()"), ("Cos", "a.cos()"), ("Cosh", "a.cosh()"), ("Erf", "a.erf()"), ("Exp", "a.exp()"), ("Mish", "F.mish(a)"), ("Neg", "-a"), ("Sigmoid", "a.sigmoid()"),
                      ("Sin", "a.sin()"), ("Sinh", "a.sinh()"), ("Softplus", "F.softplus(a)"), ("Softsign", "F.softsign(a)"), ("Tanh", "a.tanh()"), ("Gelu", "F.gelu(a)")):
        yield from unary(op, torch)
    yield from unary("Gelu", "F.gelu(a, approximate='tanh')", approximate="tanh")
    for op, torch in (("Log", "a.log()"), ("Reciprocal", "a.reciprocal()"), ("Sqrt", "a.sqrt()")):
        yield from unary(op, torch, ("positive",) * 3)
    for op, torch in (("Acos", "a.acos()"), ("Asin", "a.asin()"), ("Atanh", "a.atanh()"), ("Tan", "a.tan()")):
        yield from unary(op, torch, ("inside 1",) * 3)
    yield from unary("Acosh", "a.acosh()", ("above 1",) * 3)
    yield from unary("Celu", "F.celu(a, 1.5)", kinks, alpha=1.5)
    yield from unary("Elu", "F.elu(a, 0.75)", kinks, alpha=0.75)
    yield from unary("Selu", "F.selu(a)", ("normal", "normal", "positive"))
    yield from unary("HardSigmoid", "F.hardtanh(0.25 * a + 0.5, 0, 1)", ("normal",) * 3, alpha=0.25, beta=0.5)
    yield from unary("HardSwish", "F.hardswish(a)", kinks)
    yield from unary("HardSwish", "F.hardswish(a)", kinks)
    yield from unary("LeakyRelu", "F.leaky_relu(a, 0.125)", kinks, alpha=0.125)
    yield from unary("Shrink", "F.softshrink(a, 0.5)", kinks, lambd=0.5, bias=0.5)
    yield from unary("Swish", "F.silu(a)")
    yield from unary("Swish", "a * (1.5 * a).sigmoid()", alpha=1.5)
    yield from unary("ThresholdedRelu", "F.threshold(a, 0.5, 0)", kinks, alpha=0.5)

    pairs = (((3, 4), (3, 4)), ((2, 3, 4), (3, 1)), ((2, 1), (1, 3)))
    for op, torch, left, right in (("Add", "a + b", "normal", "normal"), ("Sub", "a - b", "normal", "normal"), ("Mul", "a * b", "normal", "normal"), ("Div", "a / b", "normal", "positive"),
                                   ("Pow", "a ** b", "positive", "normal"), ("Max", "torch.maximum(a, b)", "kinks", "kinks"), ("Min", "torch.minimum(a, b)", "kinks", "kinks")):
        for a, b in pairs:
            yield Case(op, [draw(left, a, op), draw(right, b, op + "b")], torch)
    for a, b in pairs:
        yield Case("Mod", [draw("normal", a, "Mod") * 4, draw("positive", b, "Modb")], "torch.fmod(a, b)", fmod=1)
        yield Case("Where", [rng(str(a)).random(a) < 0.5, draw("normal", a, "Where"), draw("normal", b, "Whereb")], "torch.where(a, b, c)")
        yield Case("Mean", [draw("normal", a, "Mean"), draw("normal", b, "Meanb"), draw("normal", (1,), "Meanc")], "(a + b + c) / 3")
        yield Case("Sum", [draw("normal", a, "Sum"), draw("normal", b, "Sumb"), draw("normal", (1,), "Sumc")], "a + b + c")
    for shape in SHAPES:
        yield Case("PRelu", [draw("kinks", shape, "PRelu"), draw("normal", shape[-1:], "slopes")], "torch.where(a > 0, a, a * b)")
        yield Case("Clip", [draw("kinks", shape, "Clip"), np.float32(-0.5).reshape(()), np.float32(1).reshape(())], "a.clamp(-0.5, 1)")

    for shape, axes, keep in (((3, 4), (1,), 1), ((2, 3, 4), (0, 2), 0), ((2, 1, 3), (1,), 1)):
        a, keepdims = draw("normal", shape, "reduce"), f"{axes}, keepdim={bool(keep)}"
        ties, some, positive = (draw(kind, shape, "reduce") for kind in ("kinks", "zeros", "positive"))
        product = "a"
        for n, axis in enumerate(sorted(axes, reverse=True)):
            product += f".prod({axis}, keepdim={bool(keep)})"
        for op, x, torch in (("ReduceL1", ties, f"a.abs().sum({keepdims})"), ("ReduceL2", some, f"torch.linalg.vector_norm(a, 2, {keepdims})"), ("ReduceLogSum", positive, f"a.sum({keepdims}).log()"),
                             ("ReduceLogSumExp", a, f"a.logsumexp({keepdims})"), ("ReduceMax", ties, f"a.amax({keepdims})"), ("ReduceMean", a, f"a.mean({keepdims})"), ("ReduceMin", ties, f"a.amin({keepdims})"),
                             ("ReduceProd", some, product), ("ReduceSum", a, f"a.sum({keepdims})"), ("ReduceSumSquare", a, f"a.square().sum({keepdims})")):
            yield Case(op, [x, integers(*axes)], torch, keepdims=keep)
    for shape, axis in (((3, 4), 0), ((2, 3, 1), 1), ((5,), -1)):
        a = draw("normal", shape, "rows")
        yield Case("Softmax", [a], f"a.softmax({axis})", axis=axis)
        yield Case("LogSoftmax", [a], f"a.log_softmax({axis})", axis=axis)
        yield Case("LpNormalization", [a], f"F.normalize(a, 2, {axis})", axis=axis, p=2)
        yield Case("LpNormalization", [a], f"F.normalize(a, 1, {axis})", axis=axis, p=1)
        for op, torch in (("CumSum", "cumsum"), ("CumProd", "cumprod")):
            yield Case(op, [draw("zeros", shape, op), integers(axis)[0]], f"a.{torch}({axis})")
            yield Case(op, [draw("zeros", shape, op), integers(axis)[0]], f"a.flip({axis}).{torch}({axis}).flip({axis})", reverse=1)
    for shape in ((2, 6), (3, 1, 4), (2, 2, 3)):
        vector = [draw("normal", shape[-1:], f"{seed}") for seed in range(2)]
        yield Case("LayerNormalization", [draw("normal", shape, "ln"), *vector], f"F.layer_norm(a, {shape[-1:]}, b, c)")
        yield Case("RMSNormalization", [draw("normal", shape, "rms"), vector[0]], f"F.rms_norm(a, {shape[-1:]}, b, 1e-5)")
    for shape, groups in (((2, 4, 3), 2), ((1, 6, 2, 2), 3), ((3, 2, 1, 5), 1)):
        vector = [draw("normal", shape[1:2], f"{seed}") for seed in range(2)]
        yield Case("GroupNormalization", [draw("normal", shape, "gn"), *vector], f"F.group_norm(a, {groups}, b, c)", num_groups=groups)
        yield Case("InstanceNormalization", [draw("normal", shape, "in"), *vector], "F.instance_norm(a, weight=b, bias=c)")
    for shape in ((2, 3, 2, 2), (1, 2, 3, 1), (3, 1, 2, 2)):
        yield Case("MeanVarianceNormalization", [draw("normal", shape, "mvn")], "(a - a.mean((0, 2, 3), keepdim=True)) / (a.var((0, 2, 3), correction=0, keepdim=True).sqrt() + 1e-9)")
    for shape in ((3, 3), (2, 2, 2), (1, 4, 4)):
        yield Case("Det", [draw("normal", shape, "det")], "torch.linalg.det(a)")
    for a, b in (((3, 4), (4, 2)), ((2, 1, 3, 4), (5, 4, 2)), ((4,), (4, 3))):
        yield Case("MatMul", [draw("normal", a, "mm"), draw("normal", b, "mmb")], "a @ b")
    for c in ((2,), (3, 1), (3, 2)):
        yield Case("Gemm", [draw("normal", (4, 3), "gemm"), draw("normal", (2, 4), "gemmb"), draw("normal", c, "gemmc")], "0.5 * a.T @ b.T + 2 * c", alpha=0.5, beta=2.0, transA=1, transB=1)
    for shape, labels in (((4, 3), [0, 2, 1, 2]), ((2, 3, 2), [[0, 2], [1, 1]]), ((1, 2), [1])):
        scores, classes = draw("normal", shape, "loss"), draw("positive", shape[1:2], "weights")
        for reduction in ("mean", "sum", "none"):
            yield Case("SoftmaxCrossEntropyLoss", [scores, integers(*labels)], f"F.cross_entropy(a, b, reduction='{reduction}')", reduction=reduction)
        yield Case("SoftmaxCrossEntropyLoss", [scores, integers(*labels), classes], "F.cross_entropy(a, b, c.detach(), ignore_index=2)", reduction="mean", ignore_index=2)
        yield Case("NegativeLogLikelihoodLoss", [scores, integers(*labels), classes], "F.nll_loss(a, b, c.detach())", reduction="mean")

    yield from microsoft()


def microsoft():
    """What ONNX Runtime's optimizer writes."""
    def case(op, operands, torch, **attributes):
        return Case(op, operands, torch, domain="com.microsoft", **attributes)
    for a, b in (((4, 3), (2, 4)), ((2, 4, 3), (2, 4)), ((2, 1, 4, 1), (3, 2, 4))):
        yield case("FusedMatMul", [draw("normal", a, "fused"), draw("normal", b, "fusedb")], "0.5 * a.mT @ b.mT", alpha=0.5, transA=1, transB=1)
    for shape in ((2, 6), (3, 1, 4), (2, 2, 3)):
        x, skip, gamma, beta, bias = (draw("normal", s, f"skip{i}") for i, s in enumerate((shape, shape, shape[-1:], shape[-1:], shape[-1:])))
        last = shape[-1:]
        yield case("Gelu", [x], "F.gelu(a)")
        yield case("BiasGelu", [x, bias], "F.gelu(a + b)")
        yield case("FastGelu", [x, bias], "F.gelu(a + b, approximate='tanh')")
        yield case("QuickGelu", [x], "a * (1.5 * a).sigmoid()", alpha=1.5)
        yield case("SkipLayerNormalization", [x, skip, gamma, beta, bias], f"F.layer_norm(a + b + e, {last}, c, d, 2 ** -10)", epsilon=2.0 ** -10)
        yield case("SkipSimplifiedLayerNormalization", [x, skip, gamma], f"F.rms_norm(a + b, {last}, c, 2 ** -10)", epsilon=2.0 ** -10)
        yield case("SimplifiedLayerNormalization", [x, gamma], f"F.rms_norm(a, {last}, b, 2 ** -10)", epsilon=2.0 ** -10)
        yield Case("SimplifiedLayerNormalization", [x, gamma], f"F.rms_norm(a, {last}, b, 2 ** -10)", epsilon=2.0 ** -10)
    for batch, queries, keys in ((2, 3, 3), (1, 1, 4), (2, 2, 1)):
        q, k, v = (draw("normal", (batch, n, 4), f"mha{i}") for i, n in enumerate((queries, keys, keys)))
        bias, added = draw("normal", (12,), "mhabias"), draw("normal", (1, 2, queries, keys), "mhamask")
        seen = np.ones((batch, keys), np.int64)
        seen[0, 0] = keys == 1
        attend = "join(F.scaled_dot_product_attention(split(a + d[:4], 2), split(b + d[4:8], 2), split(c + d[8:], 2)"
        yield case("MultiHeadAttention", [q, k, v, bias], f"{attend}))", num_heads=2)
        yield case("MultiHeadAttention", [q, k, v, bias, seen, added], f"{attend}, torch.where(e[:, None, None] != 0, f, -torch.inf)))", num_heads=2)


def numbered():
    """[(number, case)], each name once."""
    import arranging_cases
    import sampling_cases
    seen, result = set(), []
    for case in itertools.chain(every(), arranging_cases.every(), sampling_cases.every()):
        if case.name not in seen:
            seen.add(case.name)
            result.append((len(result), case))
    return result


def differentiated(case):
    """The numbers of the operands that have a gradient: floats, but no class weights, bounds and masks, which are constants."""
    constant = {"MultiHeadAttention": (5,), "SoftmaxCrossEntropyLoss": (2,), "NegativeLogLikelihoodLoss": (2,), "Clip": (1, 2)}.get(case.op, ())
    return [i for i, operand in enumerate(case.operands) if operand is not None and operand.dtype == np.float32 and i not in (*constant, *case.constant)]


def sketch(key, gradient):
    """Products of a gradient with random vectors, in f64, which is what is recorded: an element that differs changes them."""
    return rng(f"sketch of {key}").standard_normal((SKETCH, gradient.size)) @ np.asarray(gradient, np.float64).reshape(-1)


def weights(case, shape):
    return np.asarray(rng(case.name + " weights").standard_normal(shape), np.float32)
