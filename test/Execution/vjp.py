"""I7 for every op: gradients by autodiff in f64 against central differences of every element, and the dot-product identity <w, J v> == <J' w, v>.

A module of the forward level holds a family of cases. Case k computes f_k = sum(c_k * op(w_k + v_k)) for parameters w_k (whose gradient autodiff gives), inputs v_k (which the data
moves, one sample a perturbation) and fixed random weights c_k. One forward run over samples +-eps * e_i gives all central differences of all cases, samples
+-eps * v the directional derivatives <w, J v>; one gradient run at v = 0 gives J' w.
"""
import math

import numpy as np

import tensors
from harness import add, memoize, scratch, succeed

EPSILON = 2.0 ** -12  # central differences are off by eps^2 f''' / 6, about 1e-8
RELATIVE, ABSOLUTE = 2e-6, 2e-7


def mlir(shape, element="f32"):
    return f"tensor<{'x'.join([*map(str, shape), element])}>"


def constant(values):
    """A train.constant of integers, booleans or fp32 numbers."""
    values = np.asarray(values)
    element, spell = {"i": ("i64", str), "b": ("i1", lambda x: str(bool(x)).lower()), "f": ("f32", lambda x: f"{x:.9e}")}[values.dtype.kind]
    def write(part):
        return "[" + ", ".join(map(write, part)) + "]" if part.ndim else spell(part[()])
    kind = mlir(values.shape, element)
    return f"train.constant dense<{write(values)}> : {kind} : {kind}"


class Case:
    """`shapes`: of the operands that are differentiated; `values`: how each is drawn; `body(case, operands)`: emits ops, returns the result's name and shape."""

    def __init__(self, name, shapes, body, values=None):
        self.name, self.shapes, self.body = name, shapes, body
        self.values = values or ["normal"] * len(shapes)
        self.lines, self.count, self.prefix = [], 0, ""

    def emit(self, text):
        """Appends `%n = text` and returns the name."""
        name = f"%{self.prefix}_{self.count}"
        self.count += 1
        self.lines.append(f"    {name} = {text}")
        return name

    def emit_many(self, text, results):
        name = f"%{self.prefix}_{self.count}"
        self.count += 1
        self.lines.append(f"    {name}:{results} = {text}")
        return name + "#0"


def unary(op, values="normal", attributes="", shapes=((3, 5), (2, 1, 3), ())):
    for shape in shapes:
        def body(case, operands, shape=shape):
            return case.emit(f"train.{op} {operands[0]}{attributes} : {mlir(shape)}"), shape
        yield Case(f"{op}{attributes and ' ' + attributes.strip()}/{mlir(shape)}", [shape], body, [values])


def binary(op, left="normal", right="normal"):
    for a, b in (((3, 4), (3, 4)), ((3, 4), (4,)), ((2, 1, 4), (3, 1)), ((1,), (2, 3)), ((), (2, 2)), ((2, 3, 1), (2, 3, 5))):
        out = np.broadcast_shapes(a, b)
        def body(case, operands, a=a, b=b, out=out):
            return case.emit(f"train.{op} {operands[0]}, {operands[1]} : {mlir(a)}, {mlir(b)} -> {mlir(out)}"), out
        yield Case(f"{op}/{mlir(a)}, {mlir(b)}", [a, b], body, [left, right])


def simple(name, shapes, text, out, values=None):
    """One op written out, with {0}, {1}... for operands."""
    def body(case, operands):
        return case.emit(text.format(*operands)), out
    return Case(name, shapes, body, values)


def both_sides(op):
    """op(x, x): both cotangents flow to one value."""
    def body(case, operands):
        return case.emit(f"train.{op} {operands[0]}, {operands[0]} : {mlir((2, 3))}, {mlir((2, 3))} -> {mlir((2, 3))}"), (2, 3)
    return Case(f"{op}/of a value with itself", [(2, 3)], body, ["positive"])


def select_case(condition, a, b):
    out = np.broadcast_shapes(condition, a, b)
    def body(case, operands):
        mask = case.emit(constant(np.random.default_rng(5).random(condition) < 0.5))
        return case.emit(f"train.select {mask}, {operands[0]}, {operands[1]} : {mlir(condition, 'i1')}, {mlir(a)}, {mlir(b)} -> {mlir(out)}"), out
    return Case(f"select/{mlir(condition, 'i1')}, {mlir(a)}, {mlir(b)}", [a, b], body)


def gather_case(shape, indices, axis):
    indices = np.asarray(indices)
    out = (*shape[:axis], *indices.shape, *shape[axis + 1:])
    def body(case, operands):
        index = case.emit(constant(indices))
        return case.emit(f"train.gather {operands[0]}, {index} {axis} : {mlir(shape)}, {mlir(indices.shape, 'i64')} -> {mlir(out)}"), out
    return Case(f"gather/{mlir(shape)} axis {axis} by {mlir(indices.shape, 'i64')}", [shape], body)


def scatter_case(reduction, shape, indices, values="normal"):
    """Repeated and negative indices; the order of positions decides."""
    indices = np.asarray(indices)
    updates = (len(indices), *shape[1:])
    def body(case, operands):
        index = case.emit(constant(indices))
        return case.emit(f"train.scatter {reduction} {operands[0]}, {index}, {operands[1]} : {mlir(shape)}, {mlir(indices.shape, 'i64')}, {mlir(updates)}"), shape
    return Case(f"scatter/{reduction} {mlir(shape)} at {indices.tolist()}{'' if values == 'normal' else ' ' + values}", [shape, updates], body, [values, values])


def gather_grad_case(shape, indices, axis):
    indices = np.asarray(indices)
    rows = (*shape[:axis], *indices.shape, *shape[axis + 1:])
    def body(case, operands):
        index = case.emit(constant(indices))
        return case.emit(f"train.gather_grad {operands[0]}, {index} {axis} : {mlir(rows)}, {mlir(indices.shape, 'i64')} -> {mlir(shape)}"), shape
    return Case(f"gather_grad/{mlir(shape)} axis {axis} by {indices.tolist()}", [rows], body)


def top_k(shape, k, smallest):
    out = (*shape[:-1], k)
    def body(case, operands):
        return case.emit_many(f"train.top_k {operands[0]}{' {smallest}' * smallest} : {mlir(shape)} -> {mlir(out)}, {mlir(out, 'i64')}", 2), out
    return Case(f"top_k/{k} of {mlir(shape)}{' smallest' * smallest}", [shape], body, ["apart"])


def reduce_cases(op):
    for shape, axes, keep in (((3, 4), [1], True), ((3, 4), [0], False), ((2, 3, 4), [0, 2], False), ((2, 1, 4), [1], True), ((2, 3), [0, 1], False), ((5,), [0], True)):
        out = tuple(1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes)
        attributes = " {keepdims}" if keep else ""
        yield simple(f"{op}/{mlir(shape)} axes {axes}{' keepdims' if keep else ''}", [shape], f"train.{op} {{0}} {axes}{attributes.replace('{', '{{').replace('}', '}}')} : {mlir(shape)} -> {mlir(out)}", out)


def layer_norm(shape, gamma, beta):
    rows = shape[:-1]
    shapes = [shape] + [(shape[-1],)] * (gamma + beta)
    def body(case, operands):
        rest = list(operands[1:])
        text = f"train.layer_norm {operands[0]}"
        if gamma:
            text += f" gamma {rest.pop(0)} : {mlir(shape[-1:])}"
        if beta:
            text += f" beta {rest.pop(0)} : {mlir(shape[-1:])}"
        return case.emit_many(f"{text} {{epsilon = 1.0e-05 : f64}} : {mlir(shape)} -> {mlir(shape)}, {mlir(rows)}", 3), shape
    return Case(f"layer_norm/{mlir(shape)}{' gamma' * gamma}{' beta' * beta}", shapes, body)


def rms_norm(shape, gamma):
    def body(case, operands):
        text = f"train.rms_norm {operands[0]}" + (f" gamma {operands[1]} : {mlir(shape[-1:])}" if gamma else "")
        return case.emit_many(f"{text} {{epsilon = 1.0e-05 : f64}} : {mlir(shape)} -> {mlir(shape)}, {mlir(shape[:-1])}", 2), shape
    return Case(f"rms_norm/{mlir(shape)}{' gamma' * gamma}", [shape] + [shape[-1:]] * gamma, body)


def cross_entropy(shape, labels, smoothing):
    def body(case, operands):
        row_labels = case.emit(constant(np.asarray(labels).reshape(shape[:-1])))
        name = case.emit_many(f"train.cross_entropy {operands[0]}, {row_labels} {{ignore_index = -100 : i64, label_smoothing = {smoothing:e} : f64}} : {mlir(shape)}, {mlir(shape[:-1], 'i64')} -> {mlir(())}, {mlir(shape[:-1])}", 3)
        return name, ()
    return Case(f"cross_entropy/{mlir(shape)} smoothing {smoothing} labels {labels}", [shape], body)


def matmul(a, b, ta=False, tb=False, bias=False, scale=1.0):
    m, k = (a[-1], a[-2]) if ta else a[-2:]
    n = b[-2] if tb else b[-1]
    out = (*np.broadcast_shapes(a[:-2], b[:-2]), m, n)
    flags = ["transpose_lhs"] * ta + ["transpose_rhs"] * tb + ([f"scale = {scale:e} : f64"] if scale != 1 else [])
    def body(case, operands):
        text = f"train.matmul {operands[0]}, {operands[1]}" + (f" bias {operands[2]} : {mlir((n,))}" if bias else "")
        text += f" {{{', '.join(flags)}}}" if flags else ""
        return case.emit(f"{text} : {mlir(a)}, {mlir(b)} -> {mlir(out)}"), out
    return Case(f"matmul/{mlir(a)}, {mlir(b)}{' lhs^T' * ta}{' rhs^T' * tb}{' bias' * bias}{f' scale {scale}' if scale != 1 else ''}", [a, b] + [(n,)] * bias, body)


def add_mask(case, values, element):
    return f" mask {case.emit(constant(values))} : {mlir(values.shape, element)}"


def attention(batch, heads, groups, length, keys, width, value_width=None, causal=False, mask=None):
    value_width = value_width or width
    q, k, v, out = (batch, heads, length, width), (batch, groups, keys, width), (batch, groups, keys, value_width), (batch, heads, length, value_width)
    def body(case, operands):
        text = f"train.attention {operands[0]}, {operands[1]}, {operands[2]}"
        if mask == "bool":
            visible = np.random.default_rng(3).random((batch, 1, length, keys)) < 0.6
            visible[..., 0] = True
            text += add_mask(case, visible, "i1")
        elif mask == "float":
            added = np.random.default_rng(4).standard_normal((length, keys)).astype(np.float32)
            text += add_mask(case, added, "f32")
        attributes = f" {{scale = {width ** -0.5:.17e} : f64{', causal' * causal}}}"
        return case.emit_many(f"{text}{attributes} : {mlir(q)}, {mlir(k)}, {mlir(v)} -> {mlir(out)}, {mlir(out[:-1])}", 2), out
    return Case(f"attention/q {mlir(q)} kv {mlir(v)}{' causal' * causal}{f' {mask} mask' if mask else ''}", [q, k, v], body)


def rotary(shape, flags, table_batch=1):
    half = (table_batch, 1, shape[2], shape[3] // 2)
    def body(case, operands):
        angle = np.random.default_rng(8).random(half)
        cos, sin = (case.emit(constant(table.astype(np.float32))) for table in (np.cos(angle), np.sin(angle)))
        attributes = f" {{{', '.join(flags)}}}" if flags else ""
        return case.emit(f"train.rotary {operands[0]}, {cos}, {sin}{attributes} : {mlir(shape)}, {mlir(half)}"), shape
    return Case(f"rotary/{mlir(shape)}{''.join(' ' + f for f in flags)}", [shape], body)


def batch_norm(shape, training):
    """In training through the statistics; without, through values in their place."""
    channels, spread = shape[1], (shape[1], *[1] * (len(shape) - 2))
    def body(case, operands):
        wide = [case.emit(f"train.reshape {v} : {mlir((channels,))} -> {mlir(spread)}") for v in operands[1:]]
        if training:
            mean = case.emit_many(f"train.batch_statistics {operands[0]} : {mlir(shape)} -> {mlir((channels,))}", 2)
            statistics = [case.emit(f"train.reshape {v} : {mlir((channels,))} -> {mlir(spread)}") for v in (mean, mean[:-1] + "1")]
        else:
            statistics = [wide[2], case.emit(f"train.exp {wide[3]} : {mlir(spread)}")]  # a variance is positive
        text = f"train.batch_norm {operands[0]} mean {statistics[0]} variance {statistics[1]} gamma {wide[0]} beta {wide[1]} {{epsilon = 1.0e-02 : f64{', training' * training}}} : {mlir(shape)}, {mlir(spread)}, {mlir(spread)}"
        return case.emit(text), shape
    return Case(f"batch_norm/{mlir(shape)}{' training' * training}", [shape, *[(channels,)] * (2 if training else 4)], body)


FAMILIES = {
    "batch norm": [batch_norm(shape, training) for training in (True, False) for shape in ((4, 3), (2, 3, 5), (3, 2, 2, 3), (1, 2, 4), (3, 1, 2))],
    "unary": [c for op in ("neg", "exp", "tanh", "sigmoid", "erf", "sin", "cos", "silu", "softplus", "expm1", "atan", "sinh", "cosh", "asinh") for c in unary(op)]
             + [c for op in ("abs", "sign", "relu", "floor", "ceil", "round") for c in unary(op, "away from kinks")] + [c for op in ("log", "sqrt", "rsqrt", "reciprocal") for c in unary(op, "positive")]
             + [c for op in ("tan", "asin", "acos", "atanh") for c in unary(op, "inside 1")] + list(unary("acosh", "above 1"))
             + [c for form in (0, 1) for c in unary("gelu", attributes=f" {{approximate = {form} : i32}}")],
    "binary": [c for op in ("add", "sub", "mul") for c in binary(op)] + list(binary("div", right="positive")) + list(binary("pow", left="positive")) + list(binary("rem", left="remainders", right="divisors")) + list(binary("max")) + list(binary("min"))
              + [both_sides(op) for op in ("add", "sub", "mul", "div", "pow", "max", "min")]
              + [select_case((3, 4), (3, 4), (3, 4)), select_case((4,), (3, 1), (3, 4)), select_case((2, 1), (1, 3), ()), select_case((2, 3), (), (3,))],
    "shapes": [
        simple("reshape", [(2, 6)], f"train.reshape {{0}} : {mlir((2, 6))} -> {mlir((3, 1, 4))}", (3, 1, 4)),
        simple("transpose", [(2, 3, 4)], f"train.transpose {{0}} [2, 0, 1] : {mlir((2, 3, 4))} -> {mlir((4, 2, 3))}", (4, 2, 3)),
        simple("slice/strided", [(5, 6)], f"train.slice {{0}} [1, 0] [2, 3] : {mlir((5, 6))} -> {mlir((2, 2))}", (2, 2)),
        simple("slice/backwards", [(5, 6)], f"train.slice {{0}} [4, 1] [-1, 2] : {mlir((5, 6))} -> {mlir((5, 3))}", (5, 3)),
        simple("concat/last axis", [(2, 3), (2, 1), (2, 4)], f"train.concat 1, {{0}}, {{1}}, {{2}} : {mlir((2, 3))}, {mlir((2, 1))}, {mlir((2, 4))} -> {mlir((2, 8))}", (2, 8)),
        simple("concat/first axis", [(1, 3), (2, 3)], f"train.concat 0, {{0}}, {{1}} : {mlir((1, 3))}, {mlir((2, 3))} -> {mlir((3, 3))}", (3, 3)),
        simple("concat/of a value with itself", [(2, 2)], f"train.concat 0, {{0}}, {{0}} : {mlir((2, 2))}, {mlir((2, 2))} -> {mlir((4, 2))}", (4, 2)),
        simple("broadcast", [(3, 1)], f"train.broadcast {{0}} : {mlir((3, 1))} -> {mlir((2, 3, 4))}", (2, 3, 4)),
        simple("broadcast/scalar", [()], f"train.broadcast {{0}} : {mlir(())} -> {mlir((2, 3))}", (2, 3)),
        gather_case((5, 3), [0, 4, 4, 1], 0), gather_case((5, 3), [[0, 2], [1, 2]], 0), gather_case((2, 4, 3), [3, 0, 3], 1), gather_case((3, 4), 2, 1), gather_case((6, 2), [-1, -6, 5], 0),
    ],
    "indexing": [scatter_case(reduction, shape, indices) for reduction in ("none", "add", "mul", "max", "min") for shape, indices in (((4, 3), [1, 3, 1, -4]), ((5,), [0, 4, 0, 0, 2]), ((2, 2, 2), [1]))]
                + [scatter_case("mul", (4, 3), [1, 3, 1, -4], "some zeros"),
                   gather_grad_case((4, 3), [1, 3, 1], 0), gather_grad_case((2, 4, 3), [3, -4], 1), top_k((3, 7), 3, False), top_k((2, 2, 5), 5, True), top_k((1,), 1, False), top_k((20,), 4, True),
                   simple("slice_grad/strided", [(2, 2)], f"train.slice_grad {{0}} [1, 0] [2, 3] : {mlir((2, 2))} -> {mlir((5, 6))}", (5, 6))],
    "reductions": [*reduce_cases("reduce_sum"), *reduce_cases("reduce_mean"), *reduce_cases("reduce_max"), *reduce_cases("reduce_prod")]
                  + [c for op in ("softmax", "log_softmax") for c in unary(op, shapes=((3, 5), (2, 3, 1), (7,)))],
    "norms": [layer_norm((3, 6), 1, 1), layer_norm((2, 3, 4), 1, 1), layer_norm((4, 5), 1, 0), layer_norm((4, 5), 0, 1), layer_norm((3, 4), 0, 0), layer_norm((1, 3), 1, 1),
              rms_norm((3, 6), 1), rms_norm((2, 3, 4), 1), rms_norm((3, 4), 0),
              cross_entropy((4, 5), [0, 4, 2, 2], 0.0), cross_entropy((4, 5), [0, -100, 2, -100], 0.0), cross_entropy((2, 3, 4), [0, 1, -100, 3, 2, 1], 0.1), cross_entropy((2, 3), [-100, -100], 0.2),
              cross_entropy((1, 1), [0], 0.0)],
    "contractions": [matmul((3, 4), (4, 2)), matmul((3, 4), (2, 4), tb=True), matmul((4, 3), (4, 2), ta=True), matmul((4, 3), (2, 4), ta=True, tb=True), matmul((3, 4), (4, 2), bias=True),
                     matmul((2, 3, 4), (4, 5), bias=True), matmul((2, 1, 3, 4), (5, 4, 2)), matmul((2, 3, 4), (2, 4, 2), scale=0.25), matmul((4,) * 2, (3, 1, 4, 2)), matmul((1, 3), (3, 1)),
                     matmul((3, 1), (1, 4)), matmul((2, 4, 3), (2, 5, 4), ta=True, tb=True, scale=-1.5)],
    "attention": [attention(2, 2, 2, 3, 3, 4), attention(1, 4, 2, 3, 3, 2, causal=True), attention(1, 2, 1, 3, 5, 2, causal=True), attention(1, 2, 2, 2, 4, 2, value_width=3),
                  attention(2, 2, 1, 3, 3, 2, mask="bool"), attention(1, 2, 2, 3, 4, 2, mask="float"), attention(1, 1, 1, 1, 1, 2), attention(1, 3, 1, 4, 4, 2, causal=True, mask="float"),
                  rotary((2, 2, 3, 6), []), rotary((1, 2, 3, 4), ["interleaved"]), rotary((2, 1, 3, 4), ["inverse"]), rotary((2, 1, 3, 4), [], table_batch=2)],
}


def draw(kind, shape, rng):
    """Values that are exact in fp32 and away from where an op has no derivative by more than the perturbation."""
    x = rng.standard_normal(shape)
    if kind == "positive":
        x = 0.5 + np.abs(x)
    elif kind == "small":
        x = rng.integers(-1, 2, shape) / 128
    elif kind == "away from kinks":  # of abs, relu, floor, ceil: not near an integer
        x = np.floor(2 * x) + rng.uniform(0.2, 0.8, shape)
    elif kind == "some zeros":
        x.reshape(-1)[::3] = 0
    elif kind == "apart":  # no two elements closer than the perturbation
        x = rng.permutation(x.size).reshape(shape) / 8 - 1
    elif kind == "inside 1":
        x = rng.uniform(-0.8, 0.8, shape)
    elif kind == "above 1":
        x = 1.2 + np.abs(x)
    elif kind == "remainders":  # quotients with the divisors below are not near an integer
        x = rng.integers(-3, 4, shape) + rng.uniform(0.3, 0.6, shape)
    elif kind == "divisors":
        x = np.where(rng.random(shape) < 0.5, -1.0, 1.0) * (1 + rng.uniform(-0.01, 0.01, shape))
    return np.asarray(x, np.float32)


def build(cases, rng):
    """(module text, parameters, [(case, [operand names])])"""
    states, arguments, body, results, names, parameters, operands_of = [], [], [], [], [], {}, []
    for number, case in enumerate(cases):
        case.prefix, case.lines, case.count = f"c{number}", [], 0
        operands, mine = [], []
        for index, shape in enumerate(case.shapes):
            name = f"{number}.{index}"
            mine.append(name)
            parameters[f"w{name}"] = draw(case.values[index], shape, rng)
            states.append(f'  train.state @"w{name}" : {mlir(shape)} {{role = #train.role<parameter>, trained, init = 0.0 : f32}}')
            arguments.append(f'%v{number}_{index}: {mlir((1, *shape))} {{train.name = "v{name}"}}')
            w = case.emit(f'train.read_state @"w{name}" : {mlir(shape)}')
            v = case.emit(f"train.reshape %v{number}_{index} : {mlir((1, *shape))} -> {mlir(shape)}")
            operands.append(case.emit(f"train.add {w}, {v} : {mlir(shape)}, {mlir(shape)} -> {mlir(shape)}"))
        result, shape = case.body(case, operands)
        c = case.emit(constant(np.asarray(rng.standard_normal(shape), np.float32)))
        product = case.emit(f"train.mul {result}, {c} : {mlir(shape)}, {mlir(shape)} -> {mlir(shape)}")
        total = case.emit(f"train.reduce_sum {product} {list(range(len(shape)))} : {mlir(shape)} -> {mlir(())}") if shape else product
        results.append(case.emit(f"train.reshape {total} : {mlir(())} -> {mlir((1,))}"))
        body += case.lines
        names.append(f"f{number}")
        operands_of.append((case, mine))
    loss = results[0]
    for number, result in enumerate(results[1:]):
        body.append(f"    %sum{number} = train.add {loss}, {result} : {mlir((1,))}, {mlir((1,))} -> {mlir((1,))}")
        loss = f"%sum{number}"
    outputs = ", ".join(f'{mlir((1,))} {{train.name = "{name}"}}' for name in [*names, "loss"])
    text = 'module attributes {train.level = "forward", train.model = "cases.mlir"} {\n' + "\n".join(states)
    text += f"\n  func.func @forward({', '.join(arguments)}) -> ({outputs}) {{\n" + "\n".join(body)
    text += f"\n    return {', '.join([*results, loss])} : {', '.join([mlir((1,))] * (len(results) + 1))}\n  }}\n}}\n"
    return text, parameters, operands_of


@memoize
def differences(family):
    """{case name: (gradients by autodiff, by central differences, <J' w, v>, <w, J v>)}, operands flattened and joined."""
    rng = np.random.default_rng(11)
    text, parameters, operands_of = build(FAMILIES[family], rng)
    folder = scratch("vjp")
    (folder / "cases.mlir").write_text(text)
    tensors.save(folder / "weights.safetensors", parameters)
    # Samples 2i and 2i + 1 move element i of every case's joined operands by +eps and -eps; the last pair moves along a random direction.
    sizes = [sum(math.prod(s) for s in case.shapes) for case, _ in operands_of]
    count = max(sizes)
    data, directions = {}, []
    for (case, names), size in zip(operands_of, sizes):
        direction = rng.integers(-8, 9, size) / 8.0
        directions.append(direction)
        moves = np.zeros((2 * count + 2, size), np.float32)
        for i in range(size):
            moves[2 * i, i], moves[2 * i + 1, i] = EPSILON, -EPSILON
        moves[-2], moves[-1] = EPSILON * direction, -EPSILON * direction
        offset = 0
        for name, shape in zip(names, case.shapes):
            n = math.prod(shape)
            data[f"v{name}"] = moves[:, offset:offset + n].reshape(-1, *shape).copy()
            offset += n
    tensors.save(folder / "moves.safetensors", data)
    tensors.save(folder / "zero.safetensors", {k: np.zeros_like(v[:1]) for k, v in data.items()})

    succeed(["zopt", "--mode=forward", "--fp64", folder / "cases.mlir", "-o", folder / "forward.mlir"])
    succeed(["zopt", "--mode=gradient", "--fp64", "--loss=output:loss", folder / "cases.mlir", "-o", folder / "gradient.mlir"])
    run = ["--comm=local", "--threads", 1, "--weights", folder / "weights.safetensors"]
    succeed(["zrun", folder / "forward.mlir", *run, "--data", folder / "moves.safetensors", "--outputs", folder / "outputs"])
    succeed(["zrun", folder / "gradient.mlir", *run, "--data", folder / "zero.safetensors", "--steps", 1, "--gradients-out", folder / "gradients"])
    outputs, gradients = tensors.load(folder / "outputs"), tensors.load(folder / "gradients")
    found = {}
    for number, ((case, names), size, direction) in enumerate(zip(operands_of, sizes, directions)):
        f = outputs[f"f{number}"].reshape(-1)
        assert f.dtype == np.float64, f"outputs of an f64 plan have type {f.dtype}"
        # A parameter that the loss depends on by steps alone (floor, sign) is not trained: its gradient is zero and is not written.
        ours = np.concatenate([gradients.get(f"w{name}", np.zeros(shape)).reshape(-1) for name, shape in zip(names, case.shapes)])
        central = (f[0:2 * size:2] - f[1:2 * size:2]) / (2 * EPSILON)
        found[case.name] = (ours, central, float(ours @ direction), float((f[-2] - f[-1]) / (2 * EPSILON)))
    return found


def check_elements(family, name):
    ours, central, _, _ = differences(family)[name]
    scale = max(1.0, float(np.abs(central).max(initial=0)))
    error = np.abs(ours - central)
    worst = int(error.argmax())
    assert error[worst] <= ABSOLUTE + RELATIVE * scale, f"element {worst} of the gradient is {ours[worst]!r}, by central differences {central[worst]!r}"


def check_direction(family, name):
    _, central, backward, forward = differences(family)[name]
    scale = max(1.0, float(np.abs(central).sum()))
    assert abs(backward - forward) <= ABSOLUTE + RELATIVE * scale, f"<J'w, v> is {backward!r}, <w, Jv> is {forward!r}"


for family, cases in FAMILIES.items():
    for case in cases:
        add(f"I7/vjp/{case.name}/central differences", check_elements, family, case.name)
        add(f"I7/vjp/{case.name}/dot product", check_direction, family, case.name)
