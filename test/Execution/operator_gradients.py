"""Gradients of ONNX operators against PyTorch's: models of some operators each, compiled with --fp64.

What PyTorch gave is recorded (operator_cases.py says how); weights are fp32 numbers, everything else is computed in f64 on both sides, but attributes, which ONNX rounds to fp32.
"""
import numpy as np

import operator_cases
import tensors
from harness import HERE, add, memoize, scratch, succeed, test
from onnx_writer import model, node, tensor, value

RELATIVE, ABSOLUTE = 1e-6, 1e-9  # of a gradient's products: of its norm
OPERATORS = 8  # a model


@memoize
def recorded():
    """{case number: (shape of the result, {operand: products of its gradient})}"""
    file = tensors.load(HERE / "operator_gradients.safetensors")
    shapes, sketches = file["shapes"].tolist(), iter(file["sketches"].reshape(-1, operator_cases.SKETCH))
    found, at = {}, 0
    try:
        for number, case in operator_cases.numbered():
            rank = shapes[at]
            shape, at = tuple(shapes[at + 1:at + 1 + rank]), at + 1 + rank
            found[number] = (shape, {i: next(sketches) for i in operator_cases.differentiated(case)})
        fits = at == len(shapes) and next(sketches, None) is None
    except (IndexError, StopIteration):
        fits = False
    assert fits, "operator_gradients.safetensors does not fit the cases: run scripts/record-operator-gradients.py"
    return found


@memoize
def groups():
    """{operator: number of its model}"""
    operators = dict.fromkeys((case.domain, case.op) for _, case in operator_cases.numbered())
    return {operator: i // OPERATORS for i, operator in enumerate(operators)}


@memoize
def gradients(group):
    """What zopt's gradients are: the weights file's content of one run of all cases of a model."""
    nodes, initializers, total = [], [], None
    for number, case in operator_cases.numbered():
        if groups()[case.domain, case.op] != group:
            continue
        names = []
        for i, operand in enumerate(case.operands):
            names.append("" if operand is None else f"{'w' if i in operator_cases.differentiated(case) else 'c'}{number}.{i}")
            if operand is not None:
                initializers.append(tensor(names[-1], np.asarray(operand)))
        shape = recorded()[number][0]
        initializers.append(tensor(f"c{number}.out", operator_cases.weights(case, shape)))
        local = lambda name: names["abcdefg".index(name)] if name in "abcdefg" else f"{name}@{number}"
        nodes += case.nodes(local) if case.nodes else [node(case.op, names, [local(o) for o in case.outputs], domain=case.domain, **case.attributes)]
        nodes.append(node("Mul", [local("y"), f"c{number}.out"], [f"p{number}"]))
        nodes.append(node("ReduceSum", [f"p{number}"], [f"s{number}"], keepdims=0))
        if total:
            nodes.append(node("Add", [total, f"s{number}"], [f"t{number}"]))
        total = f"t{number}" if total else f"s{number}"
    # A batch, which every model has: its numbers are zeros.
    nodes += [node("ReduceSum", ["x"], ["zero"], keepdims=0), node("Add", [total, "zero"], ["loss"])]
    folder = scratch("operator")
    (folder / "model.onnx").write_bytes(model(nodes, initializers, [value("x", ["batch", 1])], [value("loss", [])], opset=28))
    tensors.save(folder / "data.safetensors", {"x": np.zeros((1, 1), np.float32)})
    succeed(["zopt", "--mode=gradient", "--fp64", "--loss=output:loss", "--train-only=w.*", folder / "model.onnx", "-o", folder / "plan.mlir"])
    succeed(["zrun", folder / "plan.mlir", "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--steps", 1, "--gradients-out", folder / "gradients"])
    return tensors.load(folder / "gradients")


def check(number, case):
    for i, expected in recorded()[number][1].items():
        shape = case.operands[i].shape
        # A parameter that the loss depends on by steps alone is not trained: its gradient is zero and is not written.
        actual = gradients(groups()[case.domain, case.op]).get(f"w{number}.{i}", np.zeros(shape))
        assert actual.shape == shape and np.isfinite(actual).all(), f"the gradient of operand {i} has shape {actual.shape}, not {shape}, or numbers that are not finite"
        error = np.abs(operator_cases.sketch(f"{number}.{i}", actual) - expected).max()
        assert error <= RELATIVE * np.linalg.norm(actual) + ABSOLUTE, f"products of the gradient of operand {i} differ by {error}:\n{actual}\nat\n{case.operands[i]}"


@test("operators/all: every operator that has a gradient has cases of three shapes or more")
def every_operator():
    listed = [line.split() for line in succeed(["zopt", "--list-ops"]).stdout.splitlines()[1:]]
    differentiable = {line[0] for line in listed if len(line) > 2 and line[2] == "yes"}
    shapes = {}
    for _, case in operator_cases.numbered():
        name = f"{case.domain}{case.domain and '.'}{case.op}"
        shapes.setdefault(name, set()).add(tuple(None if o is None else (o.shape, o.tobytes() if o.dtype != np.float32 else b"") for o in case.operands))
    missing = sorted(differentiable - shapes.keys())
    few = sorted(name for name in differentiable & shapes.keys() if len(shapes[name]) < 3)
    assert not missing and not few, f"no cases of {', '.join(missing)}; fewer than three of {', '.join(few)}"


for number, case in operator_cases.numbered():
    add(f"operators/{case.name}", check, number, case)


@test("operators/types: tensors go in and come out as the model declares them, and unsigned ones wrap and compare as such")
def element_types():
    numbers = {np.uint8: 2, np.int8: 3, np.uint16: 4, np.int16: 5, np.int32: 6, np.int64: 7, np.float16: 10, np.float64: 11, np.uint32: 12, np.uint64: 13, np.float32: 1}
    r = np.random.default_rng(3)
    nodes, inputs, outputs, data, expected = [], [], [], {}, {}
    for kind, number in numbers.items():
        name = np.dtype(kind).name
        if np.issubdtype(kind, np.integer):
            low, high = np.iinfo(kind).min, np.iinfo(kind).max
            a, b = (r.integers(low, high, (6, 3), dtype=kind, endpoint=True) for _ in range(2))
            b[b == 0] = 1
        else:
            a, b = (r.standard_normal((6, 3)).astype(kind) for _ in range(2))
        data[f"{name}.a"], data[f"{name}.b"] = a, b
        inputs += [value(f"{name}.{x}", ["batch", 3], number) for x in "ab"]
        with np.errstate(all="ignore"):
            sums, largest, isLess = a + b, np.maximum(a, b), a < b
            quotient = np.trunc(np.divide(a, b, dtype=np.longdouble)).astype(kind) if np.issubdtype(kind, np.integer) else a / b
        for op, result, of in (("Add", sums, number), ("Max", largest, number), ("Less", isLess, 9), ("Div", quotient, number)):
            nodes.append(node(op, [f"{name}.a", f"{name}.b"], [f"{name}.{op}"]))
            outputs.append(value(f"{name}.{op}", ["batch", 3], of))
            expected[f"{name}.{op}"] = result
    folder = scratch("types")
    (folder / "model.onnx").write_bytes(model(nodes, [], inputs, outputs, opset=21))
    tensors.save(folder / "data.safetensors", data)
    succeed(["zopt", "--mode=forward", "--micro-batch=2", folder / "model.onnx", "-o", folder / "plan.mlir"])
    succeed(["zrun", folder / "plan.mlir", "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--outputs", folder / "outputs"])
    actual = tensors.load(folder / "outputs")
    for name, result in expected.items():
        assert actual[name].dtype == result.dtype, f"{name} has type {actual[name].dtype}, expected {result.dtype}"
        same = np.allclose(actual[name], result, rtol=2e-3 if result.dtype == np.float16 else 1e-6, atol=0) if result.dtype.kind == "f" else np.array_equal(actual[name], result)
        assert same, f"{name}: {actual[name]}, expected {result}"
