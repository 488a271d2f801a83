"""Losses against PyTorch's, with --fp64: class weights, weights of positive labels, sums of terms, and losses that are ONNX graphs.

A batch of eight samples is split over two ranks and two micro-steps, unevenly in labels, so that means over micro-batches and over the global batch differ. What PyTorch gave is recorded in losses.json
(scripts/record-losses.py). Weights of classes and terms are numbers that fp32 holds.
"""
import dataclasses
import json

import numpy as np

import tensors
from harness import HERE, add, execute, expect_refusal, memoize, read_metrics, scratch, succeed, test
from onnx_writer import model, node, tensor, value

RANKS, ACCUM, MICRO, FEATURES, CLASSES, POINTS = 2, 2, 2, 5, 4, 3
BATCH = RANKS * ACCUM * MICRO
RELATIVE, ABSOLUTE = 1e-9, 1e-11


@memoize
def arrays():
    """Parameters and data, fp32 and integers."""
    r = np.random.default_rng(6)
    draw = lambda *shape: r.standard_normal(shape).astype(np.float32)
    found = {"weight": draw(FEATURES, CLASSES), "bias": draw(CLASSES), "aux.weight": draw(FEATURES, CLASSES), "value.weight": draw(FEATURES, 2), "points.weight": draw(FEATURES, CLASSES * POINTS)}
    found |= {"x": draw(BATCH, FEATURES), "target": draw(BATCH, 2), "hot": (r.random((BATCH, CLASSES)) < 0.4).astype(np.float32), "soft": r.random((BATCH, CLASSES)).astype(np.float32)}
    found["labels"] = np.array([0, -100, 1, 2, 2, 3, -100, 2])
    found["whole"] = np.array([0, 1, 1, 2, 2, 3, 0, 2])
    found["map"] = r.integers(0, CLASSES, (BATCH, POINTS))
    found["map"][2] = -100
    found["table"] = draw(2, 150)  # more than a literal holds
    return found


PARAMETERS = ("weight", "bias", "aux.weight", "value.weight", "points.weight")


def write_model(path):
    nodes = [node("Gemm", ["x", "weight", "bias"], ["logits"], "head"), node("MatMul", ["x", "aux.weight"], ["aux"], "aux_head"), node("MatMul", ["x", "value.weight"], ["value"], "value_head"),
             node("MatMul", ["x", "points.weight"], ["flat"]), node("Reshape", ["flat", "shape"], ["points"]),
             node("Mul", ["value", "value"], ["squares"]), node("ReduceMean", ["squares"], ["penalty"], keepdims=0)]
    initializers = [tensor(name, arrays()[name]) for name in PARAMETERS] + [tensor("shape", np.array([-1, CLASSES, POINTS]))]
    outputs = [value("logits", ["batch", CLASSES]), value("aux", ["batch", CLASSES]), value("value", ["batch", 2]), value("points", ["batch", CLASSES, POINTS]), value("penalty", [])]
    path.write_bytes(model(nodes, initializers, [value("x", ["batch", FEATURES])], outputs))


def graph(nodes, inputs, outputs=(("loss", ()),), initializers=()):
    """A loss.onnx."""
    return model(nodes, list(initializers), [value(*i) for i in inputs], [value(name, shape, *rest) for name, shape, *rest in outputs])


def focal():
    """Mean of (1 - p)^2 * -log p of the labels, in a graph with labels of its own name and a weight in SoftmaxCrossEntropyLoss's place."""
    nodes = [node("SoftmaxCrossEntropyLoss", ["logits", "whole"], ["each"], reduction="none"), node("Neg", ["each"], ["log_p"]), node("Exp", ["log_p"], ["p"]),
             node("Sub", ["one", "p"], ["miss"]), node("Mul", ["miss", "miss"], ["miss2"]), node("Mul", ["miss2", "each"], ["parts"]), node("ReduceMean", ["parts"], ["loss"], keepdims=0)]
    return graph(nodes, [("logits", ["n", CLASSES]), ("whole", ["n"], 7)], initializers=[tensor("one", np.array(1, np.float32))])


def mixture():
    """Two outputs, an input of the model, labels, a weighted likelihood, and a table that is no literal; dimensions without names, and a result of shape [1]."""
    nodes = [node("Sub", ["value", "target"], ["d"]), node("Abs", ["d"], ["distance"]), node("ReduceMean", ["distance"], ["l1"], keepdims=0),
             node("MatMul", ["value", "table"], ["far"]), node("Mul", ["far", "far"], ["far2"]), node("ReduceMean", ["far2"], ["spread"], keepdims=0),
             node("SoftmaxCrossEntropyLoss", ["logits", "labels", "weights"], ["likelihood"], ignore_index=-100),
             node("ReduceMean", ["x"], ["mean"], keepdims=0), node("Mul", ["spread", "mean"], ["scaled"]),
             node("Sum", ["l1", "scaled", "likelihood"], ["sum"]), node("Unsqueeze", ["sum", "zero"], ["loss"])]
    constants = [tensor("table", arrays()["table"]), tensor("weights", np.array([0.25, 1, 3, 0.5], np.float32)), tensor("zero", np.array([0]))]
    return graph(nodes, [("value", ["", 2]), ("logits", ["", CLASSES]), ("x", ["", FEATURES]), ("target", ["", 2]), ("labels", [""], 7)], [("loss", [1])], constants)


@dataclasses.dataclass(frozen=True)
class Case:
    """`torch` is the loss of a batch as scripts/record-losses.py evaluates it; `each`: of each micro-batch, and then the mean of these."""
    name: str
    flags: tuple
    torch: str
    each: bool = False
    loss: object = None  # makes the loss.onnx that LOSS in a flag is


WEIGHTS = "torch.tensor([0.25, 1, 3, 0.5]).double()"
CASES = (
    Case("class-weights", ("--class-weights=0.25,1,3,0.5",), f"F.cross_entropy(logits, labels, weight={WEIGHTS})"),
    Case("class-weights with smoothing", ("--class-weights=0.25,1,3,0.5", "--label-smoothing=0.125"), f"F.cross_entropy(logits, labels, weight={WEIGHTS}, label_smoothing=0.125)"),
    Case("class-weights from a file, along another axis", ("--class-weights=WEIGHTS", "--logits=points", "--labels=map", "--class-axis=1"), f"F.cross_entropy(points, map, weight={WEIGHTS})"),
    Case("class-weights, averaged by micro-batch", ("--class-weights=0.25,1,3,0.5", "--loss-average=micro-batch"), f"F.cross_entropy(logits, labels, weight={WEIGHTS})", each=True),
    Case("class-weights that add up to less than 1", ("--class-weights=0.03125,0.0625,0.015625,0.0078125",), "F.cross_entropy(logits, labels, weight=torch.tensor([0.03125, 0.0625, 0.015625, 0.0078125]).double())"),
    Case("class-weights of 0 leave a class out", ("--class-weights=0,1,0,2",), "F.cross_entropy(logits, labels, weight=torch.tensor([0, 1, 0, 2.]).double())"),
    Case("pos-weight", ("--loss=bce_with_logits", "--labels=hot", "--pos-weight=2.5"), "F.binary_cross_entropy_with_logits(logits, hot, pos_weight=torch.tensor(2.5).double())"),
    Case("pos-weight of each column, soft labels", ("--loss=bce_with_logits", "--labels=soft", "--pos-weight=0.25,1,3,0.5"), f"F.binary_cross_entropy_with_logits(logits, soft, pos_weight={WEIGHTS})"),
    Case("sum of two kinds", ("--loss=0.75*cross_entropy:logits:whole+0.25*mse:value:target",), "0.75 * F.cross_entropy(logits, whole) + 0.25 * F.mse_loss(value, target)"),
    Case("sum of two kinds where labels are ignored", ("--loss=0.75*cross_entropy+0.25*mse:value:target",), "0.75 * F.cross_entropy(logits, labels) + 0.25 * F.mse_loss(value, target)", each=True),
    Case("sum over the same labels", ("--loss=cross_entropy:logits+0.375*cross_entropy:aux",), "F.cross_entropy(logits, labels) + 0.375 * F.cross_entropy(aux, labels)"),
    Case("sum over the same labels, class-weights", ("--loss=cross_entropy:logits+0.375*cross_entropy:aux", "--class-weights=0.25,1,3,0.5"),
         f"F.cross_entropy(logits, labels, weight={WEIGHTS}) + 0.375 * F.cross_entropy(aux, labels, weight={WEIGHTS})"),
    Case("one term with a weight", ("--loss=-2.5*cross_entropy",), "-2.5 * F.cross_entropy(logits, labels)"),
    Case("sum with the graph's own", ("--loss=l1:value:target + 0.5*output:penalty",), "F.l1_loss(value, target) + 0.5 * value.square().mean()"),
    Case("onnx", ("--loss=onnx:LOSS",), "((1 - log_p.exp()).square() * -log_p).mean()", loss=focal),
    Case("onnx with constants of its own", ("--loss=onnx:LOSS",),
         f"F.l1_loss(value, target) + (value @ table).square().mean() * x.mean() + F.cross_entropy(logits, labels, weight={WEIGHTS})", each=True, loss=mixture),
    Case("onnx in a sum", ("--loss=0.5*onnx:LOSS+mse:value:target",), "0.5 * ((1 - log_p.exp()).square() * -log_p).mean() + F.mse_loss(value, target)", loss=focal),
)


def prepare(case, folder):
    """Writes the model and what the case reads beside it; returns flags."""
    write_model(folder / "model.onnx")
    (folder / "weights.json").write_text("[0.25, 1, 3.0, 5e-1]")
    if case.loss:
        (folder / "loss.onnx").write_bytes(case.loss())
    return [flag.replace("LOSS", str(folder / "loss.onnx")).replace("WEIGHTS", str(folder / "weights.json")) for flag in case.flags]


@memoize
def recorded():
    return json.loads((HERE / "losses.json").read_text())


def save_data(path):
    tensors.save(path, {name: array for name, array in arrays().items() if name not in (*PARAMETERS, "table")})


def run(case, stage=3):
    folder = scratch("losses")
    flags = prepare(case, folder)
    save_data(folder / "data.safetensors")
    succeed(["zopt", "--mode=gradient", "--fp64", f"--micro-batch={MICRO}", f"--grad-accum={ACCUM}", f"--zero-stage={stage}", *flags, folder / "model.onnx", "-o", folder / "plan.mlir"])
    succeed(["zrun", folder / "plan.mlir", "--nproc", RANKS, "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--steps", 1, "--gradients-out", folder / "gradients",
             "--metrics", folder / "metrics.jsonl"])
    return read_metrics(folder / "metrics.jsonl")[1][0]["loss"], tensors.load(folder / "gradients")


def check(case):
    expected = recorded()[case.name]
    loss, gradients = run(case)
    assert abs(loss - expected["loss"]) <= RELATIVE * abs(expected["loss"]), f"the loss is {loss!r}, expected {expected['loss']!r}"
    assert gradients.keys() == expected["gradients"].keys(), f"gradients of {sorted(gradients)}, expected {sorted(expected['gradients'])}"
    for name, values in expected["gradients"].items():
        values = np.array(values).reshape(gradients[name].shape)
        error = np.abs(gradients[name] - values) - RELATIVE * np.abs(values)
        assert error.max() <= ABSOLUTE, f"gradient of {name}:\n{gradients[name]}\nexpected\n{values}"


def check_cuda(case):
    """A final plan for GPUs, in bf16 with kernels, compiles and is verified."""
    folder = scratch("losses")
    flags = prepare(case, folder)
    succeed(["zopt", "--bf16", f"--micro-batch={MICRO}", "--zero-stage=3", *flags, "--nproc=2", "--target=cuda", folder / "model.onnx", "-o", folder / "plan.mlir"])
    text = (folder / "plan.mlir").read_text()
    assert 'target = "cuda"' in text or "cuda" in text, "not a plan for cuda"


for case in CASES:
    add(f"losses/{case.name}", check, case)
for case in CASES:
    if case.name in ("class-weights with smoothing", "pos-weight of each column, soft labels", "sum over the same labels", "onnx with constants of its own"):
        add(f"losses/cuda/{case.name}", check_cuda, case)


@test("losses/class-weights of ones are the unweighted loss; weights of more classes than a literal holds")
def many_classes():
    r = np.random.default_rng(7)
    classes, folder = 300, scratch("losses")
    weight, x, labels = r.standard_normal((FEATURES, classes)).astype(np.float32), r.standard_normal((BATCH, FEATURES)).astype(np.float32), r.integers(0, classes, BATCH)
    (folder / "model.onnx").write_bytes(model([node("MatMul", ["x", "w"], ["logits"])], [tensor("w", weight)], [value("x", ["batch", FEATURES])], [value("logits", ["batch", classes])]))
    tensors.save(folder / "data.safetensors", {"x": x, "labels": labels})
    each = np.where(np.arange(classes) % 2, 0.5, 2.0)
    logits = x.astype(np.float64) @ weight
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    own = each[labels]
    for weights, expected in ((np.ones(classes), -log_p[np.arange(BATCH), labels].mean()), (each, -(own * log_p[np.arange(BATCH), labels]).sum() / own.sum())):
        (folder / "weights.json").write_text(json.dumps(weights.tolist()))
        succeed(["zopt", "--mode=gradient", "--fp64", f"--micro-batch={BATCH}", f"--class-weights={folder / 'weights.json'}", folder / "model.onnx", "-o", folder / "plan.mlir"])
        succeed(["zrun", folder / "plan.mlir", "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--steps", 1, "--metrics", folder / "m.jsonl"])
        loss = read_metrics(folder / "m.jsonl")[1][0]["loss"]
        assert abs(loss - expected) < 1e-10, f"the loss is {loss!r}, expected {expected!r}"


def row_losses(output, labels):
    logits = arrays()["x"].astype(np.float64) @ arrays()[f"{'aux.' if output == 'aux' else ''}weight"] + (arrays()["bias"] if output == "logits" else 0)
    return (np.log(np.exp(logits).sum(1)) - np.take_along_axis(logits, np.maximum(labels, 0)[:, None], 1)[:, 0])[labels != -100]


def term_means():
    """Sums of losses: what each term's mean is in a step, and over the same data in an evaluation, by NumPy."""
    far = arrays()["x"].astype(np.float64) @ arrays()["value.weight"] - arrays()["target"]
    whole, labels = (row_losses("logits", arrays()[name]).mean() for name in ("whole", "labels"))
    micro = np.mean([row_losses("logits", np.where(np.arange(BATCH) // MICRO == i, arrays()["labels"], -100)).mean() for i in range(BATCH // MICRO)])
    aux = row_losses("aux", arrays()["labels"]).mean()
    yield "0.75*cross_entropy:logits:whole+0.25*mse:value:target", {"cross_entropy:logits:whole": (0.75, whole, whole), "mse:value:target": (0.25, (far ** 2).mean(), (far ** 2).mean())}
    yield "cross_entropy:logits + -0.375*cross_entropy:aux", {"cross_entropy:logits": (1, labels, labels), "cross_entropy:aux": (-0.375, aux, aux)}
    # Means of micro-batches' means, each of which counts its own labels; two terms of one name.
    yield "0.5*cross_entropy+l1:value:target+2*l1:value:target", {"cross_entropy": (0.5, micro, micro), "l1:value:target": (1, abs(far).mean(), abs(far).mean()), "l1:value:target#2": (2, abs(far).mean(), abs(far).mean())}


def check_terms(loss, terms):
    found = set()
    for stage, ranks, accum in ((0, 2, 2), (1, 2, 2), (2, 2, 2), (3, 2, 2), (3, 1, 4), (0, 4, 1)):
        folder = scratch("losses")
        write_model(folder / "model.onnx")
        save_data(folder / "data.safetensors")
        succeed(["zopt", "--fp64", "--eval", "--lr=0", f"--micro-batch={MICRO}", f"--grad-accum={accum}", f"--zero-stage={stage}", f"--loss={loss}", folder / "model.onnx", "-o", folder / "plan.mlir"])
        said = succeed(["zrun", folder / "plan.mlir", "--nproc", ranks, "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--eval-data", folder / "data.safetensors", "--steps", 1,
                        "--print-every", 1, "--metrics", folder / "m.jsonl"]).stderr
        events = [json.loads(line) for line in (folder / "m.jsonl").read_text().splitlines()]
        step, evaluation = (next(e for e in events if e["event"] == kind) for kind in ("step", "eval"))
        for event, which in ((step, 1), (evaluation, 2)):
            told = {key.removeprefix("loss/"): value for key, value in event.items() if key.startswith("loss/")}
            assert list(told) == list(terms), f"{event['event']} tells {list(told)}, expected {list(terms)}"
            for name, value in told.items():
                assert abs(value - terms[name][which]) <= RELATIVE * abs(terms[name][which]), f"{event['event']}: {name} is {value!r}, expected {terms[name][which]!r}"
            assert abs(event["loss"] - sum(terms[name][0] * value for name, value in told.items())) <= 1e-12, f"{event} is no weighted sum"
        line = "(" + ", ".join(f"{name} {step[f'loss/{name}']:.4f}" for name in terms) + ")"
        assert line in said, f"{line} is not in {said}"
        if ranks == 2:
            found.add(json.dumps({key: value for key, value in step.items() if key.startswith("loss")}))
    assert len(found) == 1, f"stages differ: {found}"


for loss, terms in term_means():
    add(f"losses/terms of {loss} are told apart, with the same bits at every stage", check_terms, loss, terms)


@test("losses/a loss of one term has no terms in its metrics, and half precision tells terms too")
def one_term():
    folder = scratch("losses")
    write_model(folder / "model.onnx")
    save_data(folder / "data.safetensors")
    for loss, precision, terms in (("2*cross_entropy", "--fp32", 0), ("cross_entropy+mse:value:target", "--bf16", 2), ("cross_entropy+mse:value:target", "--fp16", 2)):
        succeed(["zopt", *([] if precision == "--fp32" else [precision]), f"--micro-batch={MICRO}", f"--loss={loss}", folder / "model.onnx", "-o", folder / "plan.mlir"])
        succeed(["zrun", folder / "plan.mlir", "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--steps", 3, "--metrics", folder / "m.jsonl", "--tensorboard", folder / "board"])
        for step in read_metrics(folder / "m.jsonl")[1]:
            told = [value for key, value in step.items() if key.startswith("loss/")]
            assert len(told) == terms and (not told or abs(step["loss"] - sum(told)) < 1e-6 * abs(step["loss"])), f"{step}"


@test("losses/evaluation averages by class-weights, exactly over ranks")
def evaluation():
    case, found = CASES[0], {}
    folder = scratch("losses")
    flags = prepare(case, folder)
    save_data(folder / "data.safetensors")
    for ranks in (1, 2):
        succeed(["zopt", "--fp64", "--eval", "--lr=0", f"--micro-batch={MICRO}", *flags, folder / "model.onnx", "-o", folder / "plan.mlir"])
        succeed(["zrun", folder / "plan.mlir", "--nproc", ranks, "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--eval-data", folder / "data.safetensors", "--steps", 1,
                 "--metrics", folder / "m.jsonl"])
        event = [e for e in map(json.loads, (folder / "m.jsonl").read_text().splitlines()) if e["event"] == "eval"][-1]
        found[ranks] = event["loss"]
        assert event["labels"] == round(0.25 + 1 + 3 + 3 + 0.5 + 3), f"{event}"
    expected = recorded()[case.name]["loss"]
    assert found[1] == found[2] and abs(found[1] - expected) <= RELATIVE * expected, f"{found}, expected {expected!r}"


def check_precision(case, precision, relative):
    """The whole sum in other precisions, on two ranks with two micro-steps, near float64's; at stages 0 and 3 the same bits."""
    losses = []
    for stage in (0, 3):
        folder = scratch("losses")
        flags = prepare(case, folder)
        save_data(folder / "data.safetensors")
        succeed(["zopt", "--mode=gradient", *precision, f"--micro-batch={MICRO}", f"--grad-accum={ACCUM}", f"--zero-stage={stage}", *flags, folder / "model.onnx", "-o", folder / "plan.mlir"])
        succeed(["zrun", folder / "plan.mlir", "--nproc", RANKS, "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--steps", 1, "--gradients-out", folder / "gradients",
                 "--metrics", folder / "metrics.jsonl"])
        losses.append((read_metrics(folder / "metrics.jsonl")[1][0]["loss"], {name: g.tobytes() for name, g in tensors.load(folder / "gradients").items()}))
        for name, values in recorded()[case.name]["gradients"].items():
            gradient = tensors.load(folder / "gradients")[name].astype(np.float64)
            error = np.linalg.norm(gradient.ravel() - np.array(values)) / np.linalg.norm(values)
            assert error < relative, f"gradient of {name} is off by {error:.3g}"
    assert losses[0] == losses[1], "stages 0 and 3 differ"
    expected = recorded()[case.name]["loss"]
    assert abs(losses[0][0] - expected) < relative * abs(expected), f"the loss is {losses[0][0]!r}, expected about {expected!r}"


for case in CASES:
    if case.name in ("class-weights with smoothing", "pos-weight of each column, soft labels", "sum of two kinds where labels are ignored", "onnx with constants of its own"):
        for flags, relative in (((), 2e-6), (("--bf16",), 3e-2), (("--fp16",), 4e-3)):
            add(f"losses/{flags[0][2:] if flags else 'fp32'}/{case.name}", check_precision, case, flags, relative)


@test("losses/a micro-batch in which every label is ignored adds 0 to the loss and to gradients, and nothing to an evaluation")
def empty_micro_batch():
    """Two micro-batches, the second without a counted label; evaluation over three samples, so that a micro-batch is filled up and, with two ranks, one has none."""
    x, labels = arrays()["x"][:4], np.array([0, 2, -100, -100])
    logits = x.astype(np.float64) @ arrays()["weight"] + arrays()["bias"]
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    nll, hot = -log_p[[0, 1], [0, 2]], np.eye(CLASSES)[[0, 2]]
    weight = np.array([0.25, 1, 3, 0.5])[[0, 2]]
    def gradient(share):
        return x[:2].T.astype(np.float64) @ ((np.exp(log_p[:2]) - hot) * share[:, None])
    likelihood = graph([node("SoftmaxCrossEntropyLoss", ["logits", "labels"], ["loss"], ignore_index=-100)], [("logits", ["n", CLASSES]), ("labels", ["n"], 7)])
    # A graph's number is the micro-batch's: 0 of the second; what cross_entropy averages is labels.
    for flags, loss, share in ((["--loss=onnx:LOSS"], nll.mean() / 2, np.full(2, 0.25)), (["--class-weights=0.25,1,3,0.5"], (weight * nll).sum() / weight.sum(), weight / weight.sum()),
                               (["--loss=cross_entropy+cross_entropy:logits:labels"], 2 * nll.mean(), np.ones(2))):
        folder = scratch("losses")
        write_model(folder / "model.onnx")
        (folder / "loss.onnx").write_bytes(likelihood)
        flags = [flag.replace("LOSS", str(folder / "loss.onnx")) for flag in flags]
        tensors.save(folder / "data.safetensors", {"x": x, "labels": labels})
        batch = ["--fp64", "--micro-batch=2", *flags, folder / "model.onnx", "-o", folder / "plan.mlir"]
        run = ["zrun", folder / "plan.mlir", "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--steps", 1, "--metrics", folder / "m.jsonl"]
        succeed(["zopt", "--mode=gradient", "--grad-accum=2", *batch])
        succeed([*run, "--gradients-out", folder / "gradients"])
        step = read_metrics(folder / "m.jsonl")[1][0]
        assert not step["skipped"] and abs(step["loss"] - loss) < 1e-9, f"{flags}: {step}, expected {loss!r}"
        error = np.abs(tensors.load(folder / "gradients")["weight"] - gradient(share)).max()
        assert error < 1e-9, f"{flags}: the gradient is off by {error:.3g}"
        # Three samples, the last of which is ignored: its micro-batch has none.
        tensors.save(folder / "held.safetensors", {"x": x[:3], "labels": labels[:3]})
        for ranks in (1, 2):
            succeed(["zopt", "--eval", "--lr=0", *batch])
            succeed([*run, "--nproc", ranks, "--eval-data", folder / "held.safetensors"])
            event = [e for e in map(json.loads, (folder / "m.jsonl").read_text().splitlines()) if e["event"] == "eval"][-1]
            expected = nll.mean() if "onnx" in flags[0] else loss
            assert abs(event["loss"] - expected) < 1e-9, f"{flags}: {event}, expected {expected!r}"


# ---------------------------------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------------------------------

def refused(code, pattern, *flags, loss=None):
    folder = scratch("losses")
    write_model(folder / "model.onnx")
    (folder / "weights.json").write_text('{"a": 1}')
    if loss:
        (folder / "loss.onnx").write_bytes(loss())
    flags = [flag.replace("LOSS", str(folder / "loss.onnx")).replace("WEIGHTS", str(folder / "weights.json")) for flag in flags]
    expect_refusal(execute(["zopt", *flags, f"--micro-batch={MICRO}", folder / "model.onnx", "-o", folder / "plan.mlir"]), code, pattern)
    assert not (folder / "plan.mlir").exists()


N, LABEL = ["n"], ("y", ["n", 2])
DIFFERENCE = node("Sub", ["value", "y"], ["d"])
MEAN = node("ReduceMean", ["d"], ["loss"], keepdims=0)
REFUSALS = {
    "not a scalar": (1, r"loss\.onnx:loss: error: the loss has 4 elements, \[2, 2\], expected one", ("--loss=onnx:LOSS",),
                     lambda: graph([node("Sub", ["value", "y"], ["loss"])], [("value", ["n", 2]), LABEL], [("loss", ["n", 2])])),
    "an integer": (1, r"loss\.onnx:loss: error: the loss is i64, expected a float", ("--loss=onnx:LOSS",),
                   lambda: graph([DIFFERENCE, node("ReduceMean", ["d"], ["m"], keepdims=0), node("Cast", ["m"], ["loss"], to=7)], [("value", ["n", 2]), LABEL], [("loss", [], 7)])),
    "several outputs": (1, r"loss\.onnx: error: a loss has one output, but this graph has 2: 'loss', 'd'", ("--loss=onnx:LOSS",),
                        lambda: graph([DIFFERENCE, MEAN], [("value", ["n", 2]), LABEL], [("loss", []), ("d", ["n", 2])])),
    "no output of the model": (1, r"reads no output of the model, which are 'logits', 'aux', 'value', 'points', 'penalty'; its inputs are 'prediction', 'y'", ("--loss=onnx:LOSS",),
                               lambda: graph([node("Sub", ["prediction", "y"], ["d"]), MEAN], [("prediction", ["n", 2]), LABEL])),
    "another type": (1, r"loss\.onnx:value: error: the loss reads this output of the model as 11 \(DOUBLE\), but it is f32", ("--loss=onnx:LOSS",),
                     lambda: graph([DIFFERENCE, MEAN], [("value", ["n", 2], 11), ("y", ["n", 2], 11)])),
    "another shape": (1, r"loss\.onnx:value: error: .* with a dimension 1 of 3, but it is \[2, 2\]", ("--loss=onnx:LOSS",), lambda: graph([DIFFERENCE, MEAN], [("value", ["n", 3]), ("y", ["n", 3])])),
    "another rank": (1, r"loss\.onnx:value: error: .* with 1 dimensions, but it is \[2, 2\]", ("--loss=onnx:LOSS",), lambda: graph([DIFFERENCE, MEAN], [("value", N), LABEL])),
    "a dimension of two sizes": (1, r"the dimension 'k' of the loss is 2 in another input, but 4 in this one", ("--loss=onnx:LOSS",),
                                 lambda: graph([DIFFERENCE, MEAN], [("value", ["n", "k"]), ("logits", ["n", "k"]), LABEL])),
    "a label of unknown size": (1, r"loss\.onnx:y: error: the dimension 1 \('m'\) of this label of the loss is not that of an output", ("--loss=onnx:LOSS",),
                                lambda: graph([DIFFERENCE, MEAN], [("value", ["n", 2]), ("y", ["n", "m"])])),
    "a label that is no batch": (1, r"loss\.onnx:y: error: this label of the loss is \[2\], but|loss\.onnx:y: error: this label of the loss is \[3, 2\], but it must lead with the micro-batch, which is 2",
                                 ("--loss=onnx:LOSS",), lambda: graph([DIFFERENCE, MEAN], [("value", ["n", 2]), ("y", [3, 2])])),
    "unsupported nodes": (1, r"loss\.onnx:.* error: operator 'StringSplit' is not supported", ("--loss=onnx:LOSS",),
                          lambda: graph([node("StringSplit", ["value"], ["d", "e"]), MEAN], [("value", ["n", 2])])),
    "random numbers": (1, r"loss\.onnx:.* error: a loss that draws random numbers is not supported", ("--loss=onnx:LOSS",),
                       lambda: graph([node("Dropout", ["value", "half", "on"], ["d"]), MEAN], [("value", ["n", 2])],
                                     initializers=[tensor("half", np.array(0.5, np.float32)), tensor("on", np.array(True))])),
    "no such file": (1, r"nowhere\.onnx: error: ", ("--loss=onnx:nowhere.onnx",), None),
    "no file": (2, r"onnx needs a file: onnx:FILE", ("--loss=onnx:",), None),
    "two graphs": (2, r"expected at most one onnx:FILE", ("--loss=onnx:a.onnx+onnx:b.onnx",), None),
    "no such kind": (2, r"expected cross_entropy, mse, .* but a term is '0.5\*hinge:value'", ("--loss=mse:value:target+0.5*hinge:value",), None),
    "a weight that is no number": (2, r"the weight 'half' of 'half\*mse' is no finite number", ("--loss=half*mse",), None),
    "too many names": (2, r"'mse:a:b:c' has more than an output and labels", ("--loss=mse:a:b:c",), None),
    "labels of two shapes": (1, r"two terms of the loss read the label 'labels', as 'tensor<2xi64>' and as 'tensor<2x2xf32>'; KIND:OUTPUT:LABELS names another", ("--loss=cross_entropy+mse:value",), None),
    "no such output": (1, r"no output is named 'depth'; outputs are 'logits', 'aux', 'value', 'points', 'penalty'", ("--loss=cross_entropy+mse:depth:target",), None),
    "class-weights of other classes": (1, r"there are 3 class weights, but output 'logits' has 4 classes", ("--class-weights=1,2,3",), None),
    "class-weights that are negative": (2, r"--class-weights is '1,2,-3,4', but '-3' is no finite number of at least 0", ("--class-weights=1,2,-3,4",), None),
    "class-weights that are all 0": (2, r"--class-weights is '0,0,0,0', but all of them are 0", ("--class-weights=0,0,0,0",), None),
    "class-weights of another loss": (2, r"--class-weights are of cross_entropy, but --loss is mse", ("--loss=mse", "--class-weights=1,2"), None),
    "class-weights in a file of another kind": (1, r"weights\.json: error: --class-weights needs a JSON list of numbers", ("--class-weights=WEIGHTS",), None),
    "pos-weight of other columns": (1, r"there are 3 weights of positive labels, but output 'logits' has 4 columns", ("--loss=bce_with_logits", "--pos-weight=1,2,3"), None),
    "pos-weight of another loss": (2, r"--pos-weight is of bce_with_logits, but --loss is cross_entropy", ("--pos-weight=2",), None),
}
for name, (code, pattern, flags, loss) in REFUSALS.items():
    add(f"losses/refused/{name}", refused, code, pattern, *flags, loss=loss)
