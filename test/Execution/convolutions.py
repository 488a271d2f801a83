"""Convolution and pooling: values against NumPy in every precision, by the library and by the generated loops; I7 of their derivatives; I1, I2, I3, I7 and I8 of two small models of images.

The loops run in f64, the library in fp32 and bf16: so one set of values checks both.
"""
import dataclasses
import itertools
import json
import math

import numpy as np

import onnx_writer
import small_images
import tensors
import vjp
from harness import MODELS, Config, add, assert_same_training, compile_plan, execute, expect_refusal, memoize, scratch, succeed, test, train
from vjp import Case, mlir


class Window:
    """space: sizes of the input; strides, dilations: one an axis; pads: begins, then ends."""

    def __init__(self, space, size, strides=None, dilations=None, pads=None):
        n = len(space)
        self.space, self.size = tuple(space), tuple(size)
        self.strides, self.dilations, self.pads = strides or (1,) * n, dilations or (1,) * n, pads or (0,) * 2 * n

    def room(self, axis):
        return self.space[axis] + self.pads[axis] + self.pads[len(self.space) + axis] - (self.size[axis] - 1) * self.dilations[axis] - 1

    def places(self, more=0):
        return tuple(self.room(a) // self.strides[a] + 1 + more for a in range(len(self.space)))

    def attributes(self):
        return f"strides {list(self.strides)} dilations {list(self.dilations)} pads {list(self.pads)}"

    def __str__(self):
        return f"{'x'.join(map(str, self.space))} by {'x'.join(map(str, self.size))} strides {self.strides} dilations {self.dilations} pads {self.pads}"


class Convolution:
    def __init__(self, batch, channels, outputs, window, groups=1, bias=False):
        self.window, self.groups, self.bias = window, groups, bias
        self.input = (batch, channels, *window.space)
        self.weight = (outputs, channels // groups, *window.size)
        self.output = (batch, outputs, *window.places())

    def tail(self):
        return self.window.attributes() + (f" {{groups = {self.groups} : i64}}" if self.groups > 1 else "")

    def __str__(self):
        return f"{self.input[1]} to {self.output[1]} channels, {self.window}{f', {self.groups} groups' if self.groups > 1 else ''}{', bias' if self.bias else ''}"

    def text(self, kind, operands):
        x, w, y = mlir(self.input), mlir(self.weight), mlir(self.output)
        if kind == "forward":
            bias = f" bias {operands[2]} : {mlir(self.output[1:2])}" if self.bias else ""
            return f"train.conv {operands[0]}, {operands[1]}{bias} {self.tail()} : {x}, {w} -> {y}", self.output
        if kind == "input_grad":
            return f"train.conv_input_grad {operands[0]}, {operands[1]} {self.tail()} : {w}, {y} -> {x}", self.input
        return f"train.conv_weight_grad {operands[0]}, {operands[1]} {self.tail()} : {x}, {y} -> {w}", self.weight

    def operands(self, kind):
        return {"forward": [self.input, self.weight] + [self.output[1:2]] * self.bias, "input_grad": [self.weight, self.output], "weight_grad": [self.input, self.output]}[kind]

    def pairs(self):
        """(window element, places of the output, places of the input) that meet, one window element after the other."""
        w = self.window
        for k in itertools.product(*map(range, w.size)):
            axes = []
            for a, n in enumerate(w.space):
                o = np.arange(w.places()[a])
                i = o * w.strides[a] + k[a] * w.dilations[a] - w.pads[a]
                inside = (i >= 0) & (i < n)
                axes.append((o[inside], i[inside]))
            if all(len(o) for o, _ in axes):
                yield k, np.ix_(*(o for o, _ in axes)), np.ix_(*(i for _, i in axes))

    def expected(self, kind, operands):
        g, (m, c) = self.groups, self.weight[:2]
        result = np.zeros({"forward": self.output, "input_grad": self.input, "weight_grad": self.weight}[kind])
        every = slice(None)
        for group in range(g):
            cs, ms = slice(group * c, (group + 1) * c), slice(group * m // g, (group + 1) * m // g)
            for k, o, i in self.pairs():
                if kind == "forward":
                    x, w = operands[0][:, cs], operands[1][ms]
                    result[(every, ms)][(every, every, *o)] += np.einsum("nc...,mc->nm...", x[(every, every, *i)], w[(every, every, *k)])
                elif kind == "input_grad":
                    w, dy = operands[0][ms], operands[1][:, ms]
                    result[(every, cs)][(every, every, *i)] += np.einsum("nm...,mc->nc...", dy[(every, every, *o)], w[(every, every, *k)])
                else:
                    x, dy = operands[0][:, cs], operands[1][:, ms]
                    flat = [array.reshape(*array.shape[:2], -1) for array in (x[(every, every, *i)], dy[(every, every, *o)])]
                    result[ms][(every, every, *k)] += np.einsum("ncp,nmp->mc", *flat)
        if kind == "forward" and self.bias:
            result += operands[2].reshape(1, -1, *[1] * len(self.window.space))
        return result


CONVOLUTIONS = [
    Convolution(2, 3, 4, Window((7,), (3,), pads=(1, 1)), bias=True),
    Convolution(2, 4, 6, Window((9,), (4,), strides=(3,), dilations=(2,), pads=(0, 3)), groups=2),
    Convolution(2, 3, 5, Window((6, 7), (3, 3), pads=(1, 1, 1, 1)), bias=True),
    Convolution(1, 4, 4, Window((7, 6), (3, 2), strides=(2, 3), pads=(0, 1, 2, 0))),
    Convolution(2, 6, 6, Window((5, 5), (3, 3), pads=(1, 1, 1, 1)), groups=6, bias=True),
    Convolution(2, 3, 6, Window((6, 6), (3, 3), strides=(2, 2), dilations=(2, 1), pads=(2, 1, 1, 0)), groups=3),
    Convolution(2, 16, 32, Window((8, 8), (3, 3), strides=(2, 2), pads=(1, 1, 1, 1))),
    Convolution(2, 16, 16, Window((6, 6), (1, 1)), bias=True),
    Convolution(2, 8, 4, Window((7, 7), (1, 1), strides=(2, 2))),
    Convolution(2, 3, 8, Window((8, 8), (4, 4), strides=(4, 4))),
    Convolution(2, 1, 1, Window((4, 4), (4, 4))),
    Convolution(1, 2, 3, Window((4, 5, 4), (3, 2, 3), strides=(1, 2, 1), pads=(1, 0, 1, 1, 1, 0)), bias=True),
    Convolution(1, 4, 4, Window((3, 3, 3), (2, 2, 2), dilations=(1, 2, 1)), groups=2),
    Convolution(2, 4, 4, Window((4, 5), (3, 3), pads=(1, 1, 1, 1)), groups=4, bias=True),
    Convolution(1, 3, 5, Window((5, 4), (3, 3), pads=(1, 1, 1, 1)), bias=True),
]
KINDS = ("forward", "input_grad", "weight_grad")


class Pool:
    """more: places beyond those that lie in the pads (ceil_mode); counted: the margin that counts, None for a maximum."""

    def __init__(self, batch, channels, window, counted=None, more=0):
        self.window, self.counted, self.more = window, counted, more
        self.input, self.output = (batch, channels, *window.space), (batch, channels, *window.places(more))

    def __str__(self):
        return f"{'max' if self.counted is None else 'average'}_pool/{mlir(self.input)} {self.window}{'' if not self.more else ' ceil'}{f' counted {self.counted}' if self.counted else ''}"

    def text(self, operand):
        attributes = f"window {list(self.window.size)} {self.window.attributes()}"
        if self.counted is None:
            return f"train.max_pool {operand} {attributes} : {mlir(self.input)} -> {mlir(self.output)}, {mlir(self.output, 'i8')}"
        return f"train.average_pool {operand} {attributes} counted {list(self.counted)} : {mlir(self.input)} -> {mlir(self.output)}"

    def expected(self, x):
        w, n = self.window, len(self.window.space)
        result = np.zeros(self.output)
        for place in itertools.product(*map(range, self.output[2:])):
            values, count = [], 0
            for k in itertools.product(*map(range, w.size)):
                i = [place[a] * w.strides[a] + k[a] * w.dilations[a] - w.pads[a] for a in range(n)]
                if all(0 <= i[a] < w.space[a] for a in range(n)):
                    values.append(x[(slice(None), slice(None), *i)])
                if self.counted is not None and all(-self.counted[a] <= i[a] < w.space[a] + self.counted[n + a] for a in range(n)):
                    count += 1
            result[(slice(None), slice(None), *place)] = np.max(values, 0) if self.counted is None else np.sum(values, 0) / count
        return result


POOLS = [
    Pool(2, 3, Window((7,), (3,), strides=(2,), pads=(1, 1))),
    Pool(2, 3, Window((6, 6), (2, 2), strides=(2, 2))),
    Pool(1, 20, Window((7, 5), (3, 3), strides=(2, 2), pads=(1, 1, 1, 1))),
    Pool(1, 2, Window((6, 7), (3, 2), strides=(2, 2), dilations=(1, 2), pads=(0, 1, 2, 0))),
    Pool(1, 2, Window((6, 6), (3, 3), strides=(2, 2)), more=1),
    Pool(1, 2, Window((4, 4, 3), (2, 2, 2), strides=(1, 2, 1))),
    Pool(2, 3, Window((7,), (3,), strides=(2,), pads=(1, 1)), counted=(0, 0)),
    Pool(1, 18, Window((6, 5), (3, 3), strides=(1, 2), pads=(1, 1, 1, 1)), counted=(0, 0, 0, 0)),
    Pool(1, 2, Window((6, 5), (3, 3), strides=(2, 2), pads=(1, 2, 1, 2)), counted=(1, 2, 1, 2)),
    Pool(1, 2, Window((6, 6), (3, 3), strides=(2, 2)), counted=(0, 0, 0, 0), more=1),
    Pool(1, 2, Window((5, 6), (2, 3), dilations=(2, 1), pads=(1, 1, 0, 1)), counted=(0, 0, 0, 0)),
    Pool(1, 2, Window((3, 4, 3), (2, 2, 3), pads=(0, 1, 1, 0, 0, 1)), counted=(0, 1, 1, 0, 0, 1)),
]


# ---------------------------------------------------------------------------------------------------------------------
# Values
# ---------------------------------------------------------------------------------------------------------------------

def entries():
    """[(name, shapes of the operands, text of the op for their names, shape of the result, values from operands)]"""
    for convolution in CONVOLUTIONS:
        for kind in KINDS:
            yield (f"{kind}/{convolution}", convolution.operands(kind), lambda names, c=convolution, k=kind: c.text(k, names), lambda values, c=convolution, k=kind: c.expected(k, values))
    for pool in POOLS:
        yield str(pool), [pool.input], lambda names, p=pool: (p.text(names[0]), p.output), lambda values, p=pool: p.expected(values[0])


@memoize
def outputs(precision):
    """{name: (ours, NumPy's)}; operands are exact in bf16. Channels-last chains are broken on purpose: each op's operands come as the data has them."""
    rng = np.random.default_rng(3)
    folder = scratch("convolutions")
    data, arguments, body, results, expected = {}, [], [], [], {}
    for number, (name, shapes, write, compute) in enumerate(entries()):
        values, names = [], []
        for index, shape in enumerate(shapes):
            values.append(rng.integers(-8, 9, shape) / 8.0)
            data[f"x{number}.{index}"] = values[-1][None].astype(np.float32)
            arguments.append(f'%x{number}_{index}: {mlir((1, *shape))} {{train.name = "x{number}.{index}"}}')
            body.append(f"    %v{number}_{index} = train.reshape %x{number}_{index} : {mlir((1, *shape))} -> {mlir(shape)}")
            names.append(f"%v{number}_{index}")
        text, shape = write(names)
        body.append(f"    %y{number}{':2' if 'max_pool' in text else ''} = {text}")
        body.append(f"    %r{number} = train.reshape %y{number}{'#0' if 'max_pool' in text else ''} : {mlir(shape)} -> {mlir((1, *shape))}")
        results.append((f"%r{number}", (1, *shape)))
        expected[name] = (number, compute(values))
    kinds = ", ".join(f'{mlir(shape)} {{train.name = "y{number}"}}' for number, (_, shape) in enumerate(results))
    text = f'module attributes {{train.level = "forward", train.model = "cases.mlir"}} {{\n  func.func @forward({", ".join(arguments)}) -> ({kinds}) {{\n' + "\n".join(body)
    text += f"\n    return {', '.join(r for r, _ in results)} : {', '.join(mlir(s) for _, s in results)}\n  }}\n}}\n"
    (folder / "cases.mlir").write_text(text)
    tensors.save(folder / "data.safetensors", data)
    succeed(["zopt", "--mode=forward", *([f"--{precision}"] if precision != "fp32" else []), folder / "cases.mlir", "-o", folder / "forward.mlir"])
    succeed(["zrun", folder / "forward.mlir", "--comm=local", "--threads", 2, "--data", folder / "data.safetensors", "--outputs", folder / "outputs"])
    ours = tensors.load(folder / "outputs")
    plan = (folder / "forward.mlir").read_text()
    return {name: (ours[f"y{number}"][0], values) for name, (number, values) in expected.items()}, plan


# Of the largest element: sums of a few hundred products of 8 bits are exact in fp32, so nothing but the result is rounded.
TOLERANCES = {"fp64": 1e-14, "fp32": 1e-6, "bf16": 2.0 ** -8, "fp16": 2.0 ** -10}


def check_values(precision, name):
    ours, expected = outputs(precision)[0][name]
    assert ours.shape == expected.shape, f"the result has shape {ours.shape}, expected {expected.shape}"
    scale = max(1.0, float(np.abs(expected).max()))
    error = np.abs(ours.astype(np.float64) - expected)
    assert np.isfinite(ours).all() and error.max() <= TOLERANCES[precision] * scale, f"element {np.unravel_index(error.argmax(), error.shape)} is {ours.flat[error.argmax()]!r}, expected {expected.flat[error.argmax()]!r}"


for precision in TOLERANCES:
    for name, *_ in entries():
        add(f"convolution/values/{precision}/{name}", check_values, precision, name)


# ---------------------------------------------------------------------------------------------------------------------
# I7
# ---------------------------------------------------------------------------------------------------------------------

def convolution_case(convolution, kind):
    return Case(f"conv {kind}/{convolution}", convolution.operands(kind), lambda case, operands: (lambda text, shape: (case.emit(text), shape))(*convolution.text(kind, operands)))


def spread(shape):
    """Values of which no two are nearer than the perturbation: a maximum stays where it is."""
    return (np.random.default_rng(7).permutation(math.prod(shape)).reshape(shape) / 16.0 - 2).astype(np.float32)


def pool_case(pool):
    def body(case, operands):
        operand = operands[0]
        if pool.counted is None:
            base = case.emit(vjp.constant(spread(pool.input)))
            operand = case.emit(f"train.add {operand}, {base} : {mlir(pool.input)}, {mlir(pool.input)} -> {mlir(pool.input)}")
            return case.emit_many(pool.text(operand), 2), pool.output
        return case.emit(pool.text(operand)), pool.output
    return Case(str(pool), [pool.input], body, ["small"])


# The loss weighs results by a literal, of 128 elements of f64 at most.
def fits(shape):
    return math.prod(shape) <= 128


SMALL = [c for c in CONVOLUTIONS if math.prod(c.input) <= 400 and math.prod(c.weight) <= 400]
vjp.FAMILIES["convolutions"] = [convolution_case(c, kind) for c in SMALL for kind in KINDS if fits({"forward": c.output, "input_grad": c.input, "weight_grad": c.weight}[kind])]
vjp.FAMILIES["pools"] = [pool_case(p) for p in POOLS if fits(p.input) and fits(p.output)]
for family in ("convolutions", "pools"):
    for case in vjp.FAMILIES[family]:
        add(f"I7/vjp/{case.name}/central differences", vjp.check_elements, family, case.name)
        add(f"I7/vjp/{case.name}/dot product", vjp.check_direction, family, case.name)


# ---------------------------------------------------------------------------------------------------------------------
# Whole models
# ---------------------------------------------------------------------------------------------------------------------

RECORDED = json.loads((MODELS / "convolutional/recorded.json").read_text())
LAST = small_images.STEPS


@memoize
def folder_of(name):
    """A folder with the model and its batches, as test/Models has them."""
    folder = scratch("images")
    build, loss = small_images.MODELS[name]
    (folder / "model.onnx").write_bytes(build()[0])
    tensors.save(folder / "batch.safetensors", small_images.batches(loss))
    return folder


def config_of(name, precision="fp32", ranks=1, **changes):
    o = RECORDED["optimizer"]
    flags = (f"--loss={small_images.MODELS[name][1]}", f"--lr={o['lr']!r}", f"--betas={o['beta1']!r},{o['beta2']!r}", f"--eps={o['eps']!r}", f"--weight-decay={o['weight_decay']!r}",
             f"--clip={RECORDED['clip']!r}")
    return Config(str(folder_of(name)), precision=precision, ranks=ranks, micro=small_images.BATCH // ranks // changes.get("accum", 1), steps=LAST, flags=flags, **changes)


def check_curve(name, precision, loss, norm, weights, **changes):
    run, theirs = train(config_of(name, precision, **changes)), RECORDED[name]
    worst = lambda ours, expected: max(abs(a - b) / abs(b) for a, b in zip(ours, expected, strict=True))
    assert worst(run.losses, theirs["loss"]) <= loss, f"losses differ from PyTorch's by {worst(run.losses, theirs['loss']):.3g} relative, more than {loss:g}"
    assert worst(run.norms, theirs["grad_norm"]) <= norm, f"gradient norms differ from PyTorch's by {worst(run.norms, theirs['grad_norm']):.3g} relative, more than {norm:g}"
    for tensor, expected in theirs["param_norm"].items():
        if tensor == "enc2.bias":  # before a normalization: its gradient is zero but for rounding, which Adam normalizes
            continue
        ours = float(np.linalg.norm(run.weights[tensor].astype(np.float64)))
        assert abs(ours - expected) <= weights * expected, f"norm of '{tensor}' is {ours!r} after the last step, PyTorch's {expected!r}"


@memoize
def gradients(name, precision):
    folder = scratch("gradients")
    loss = small_images.MODELS[name][1]
    plan = compile_plan(str(folder_of(name)), "--mode=gradient", f"--loss={loss}", f"--micro-batch={small_images.BATCH}", *([f"--{precision}"] if precision != "fp32" else []))
    succeed(["zrun", plan, "--comm=local", "--threads", 1, "--data", folder_of(name) / "batch.safetensors", "--steps", 1, "--gradients-out", folder / "g.safetensors"])
    return tensors.load(folder / "g.safetensors")


def check_gradients(name, precision, relative):
    """The norm of each gradient and its products with fixed tensors: an error shows in them as large as it is."""
    ours, theirs = gradients(name, precision), RECORDED[name]["gradients"]
    assert ours.keys() == theirs.keys(), f"gradients missing: {sorted(theirs.keys() - ours.keys())}, not expected: {sorted(ours.keys() - theirs.keys())}"
    whole = math.sqrt(sum(values[0] ** 2 for values in theirs.values()))
    for tensor, expected in theirs.items():
        g = ours[tensor].astype(np.float64)
        found = [float(np.linalg.norm(g)), *small_images.projections(g)]
        bound = relative * (expected[0] * math.sqrt(g.size) + 1e-2 * whole)
        error = max(abs(a - b) for a, b in zip(found, expected, strict=True))
        assert error <= bound, f"gradient of '{tensor}' is off by {error:.3g} in its norm or its products, more than {bound:.3g}"


def check_same(name, precision, changes, others):
    assert_same_training(train(config_of(name, precision, **changes)), train(config_of(name, precision, **{**changes, **others})))


def check_ranks(name, ranks):
    one, many = train(config_of(name)), train(config_of(name, ranks=ranks, stage=3))
    worst = max(abs(a - b) / abs(a) for a, b in zip(one.losses, many.losses, strict=True))
    assert worst <= 1e-5, f"losses of {ranks} ranks differ from those of one by {worst:.3g} relative"


for name in small_images.MODELS:
    add(f"I8/images/{name}/fp64", check_curve, name, "fp64", 1e-10, 1e-9, 1e-9)
    add(f"I8/images/{name}/fp32", check_curve, name, "fp32", 1e-5, 1e-4, 1e-4)
    add(f"I8/images/{name}/fp32/stage3-ranks2", check_curve, name, "fp32", 1e-5, 1e-4, 1e-4, stage=3, ranks=2)
    add(f"I8/images/{name}/fp32/accum2", check_curve, name, "fp32", 1e-5, 1e-4, 1e-4, accum=2)
    add(f"I8/images/{name}/bf16", check_curve, name, "bf16", 2e-2, 1.5e-1, 1e-2)
    add(f"I7/images/{name}/fp64", check_gradients, name, "fp64", 1e-9)
    add(f"I7/images/{name}/fp32", check_gradients, name, "fp32", 1e-5)
    add(f"I2/images/{name}/ranks4", check_ranks, name, 4)
    for precision in ("fp32", "bf16", "fp16") if name == "resnet" else ("fp32", "bf16"):
        for stage in (1, 2, 3):
            add(f"I1/images/{name}/{precision}/ranks2/stage{stage}", check_same, name, precision, dict(ranks=2), dict(stage=stage))
    add(f"I1/images/{name}/fp32/ranks2/stage3-small-buckets-mpi", check_same, name, "fp32", dict(ranks=2), dict(stage=3, bucket=8192, comm="mpi"))
    add(f"I1/images/{name}/fp32/no-fusion", check_same, name, "fp32", {}, dict(fuse=False))
    for policy in ("selective", "full"):
        add(f"I3/images/{name}/fp32/{policy}", lambda n=name, p=policy: assert_same_training(train(config_of(n)), train(dataclasses.replace(config_of(n), flags=config_of(n).flags + (f"--recompute={p}",)))))


@test("convolutions/zeros of another shape are no bias")
def false_bias():
    """What PyTorch 2.14's exporter gives a Conv3d that has no bias; ones of that shape are refused."""
    folder = scratch("bias")
    rng = np.random.default_rng(3)
    x, weight = rng.standard_normal((2, 3, 4, 5, 6)).astype(np.float32), rng.standard_normal((8, 3, 2, 2, 2)).astype(np.float32)
    tensors.save(folder / "data.safetensors", {"x": x})

    def compiled(bias):
        more = [] if bias is None else [onnx_writer.tensor("b0", np.full((8, 2), bias, np.float32)), onnx_writer.tensor("one", np.ones((), np.float32))]
        # Computed, so that it is no parameter.
        make = [] if bias is None else [onnx_writer.node("Mul", ["b0", "one"], ["b"], "make")]
        nodes = [*make, onnx_writer.node("Conv", ["x", "w", *(["b"] if more else [])], ["y"], "conv")]
        (folder / "model.onnx").write_bytes(onnx_writer.model(nodes, [onnx_writer.tensor("w", weight), *more], [onnx_writer.value("x", ["batch", 3, 4, 5, 6])], [onnx_writer.value("y", ["batch", 8, 3, 4, 5])]))
        return execute(["zopt", "--mode=forward", "--micro-batch=2", folder / "model.onnx", "-o", folder / "plan.mlir"])

    def result(bias):
        assert compiled(bias).code == 0
        succeed(["zrun", folder / "plan.mlir", "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--outputs", folder / "out"])
        return tensors.load(folder / "out")["y"]

    assert np.array_equal(result(None), result(0))
    expect_refusal(compiled(1), 1, r"conv.*a bias \[8, 2\] does not fit 8 output channels")
