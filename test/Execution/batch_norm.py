"""BatchNormalization: against PyTorch's training, over ranks, and what may never move a running average. batch_norm.json is PyTorch's; `batch_norm.py --record` wrote it."""
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

import onnx_writer
import tensors

HERE = Path(__file__).resolve().parent
BATCH, STEPS, CHANNELS, HIDDEN, CLASSES, RATE, MOMENTUM = 8, 6, 3, 6, 5, 0.1, 0.9
AVERAGES = ("bn.mean", "bn.var", "bn1.mean", "bn1.var")


def values():
    """Weights and data, exact in fp32."""
    rng = np.random.default_rng(17)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    weights = {"bn.weight": 1 + 0.1 * draw(CHANNELS), "bn.bias": 0.1 * draw(CHANNELS), "fc1.weight": 0.2 * draw(HIDDEN, CHANNELS * 16), "bn1.weight": 1 + 0.1 * draw(HIDDEN), "bn1.bias": 0.1 * draw(HIDDEN),
               "fc2.weight": 0.4 * draw(CLASSES, HIDDEN), "fc2.bias": 0.1 * draw(CLASSES), "bn.mean": 0.1 * draw(CHANNELS), "bn.var": 1 + 0.1 * np.abs(draw(CHANNELS)), "bn1.mean": 0.1 * draw(HIDDEN),
               "bn1.var": 1 + 0.1 * np.abs(draw(HIDDEN))}
    data = {"x": 2 * draw(BATCH * STEPS, CHANNELS, 4, 4) + 0.5, "labels": rng.integers(0, CLASSES, BATCH * STEPS)}
    return {k: v.astype(np.float32) for k, v in weights.items()}, data


def write_model(path, training=True, opset=20):
    weights, _ = values()
    n = onnx_writer.node
    norm = lambda name, x, y: n("BatchNormalization", [x, f"{name}.weight", f"{name}.bias", f"{name}.mean", f"{name}.var"], [y, f"{name}.m", f"{name}.v"] if training else [y], name, epsilon=1e-5, momentum=MOMENTUM,
                                **({"training_mode": 1} if training and opset >= 14 else {}))
    nodes = [norm("bn", "x", "a"), n("Relu", ["a"], ["b"]), n("Flatten", ["b"], ["c"], axis=1), n("Gemm", ["c", "fc1.weight"], ["d"], "fc1", transB=1), norm("bn1", "d", "e"), n("Relu", ["e"], ["f"]),
             n("Gemm", ["f", "fc2.weight", "fc2.bias"], ["logits"], "fc2", transB=1)]
    path.write_bytes(onnx_writer.model(nodes, [onnx_writer.tensor(k, v) for k, v in weights.items()], [onnx_writer.value("x", ["batch", CHANNELS, 4, 4])], [onnx_writer.value("logits", ["batch", CLASSES])], opset=opset))


def record():
    """Trains in PyTorch: alone, and as DDP with two ranks would (each normalizes its half; gradients are averaged, running averages here too)."""
    import torch
    F = torch.nn.functional
    weights, data = values()
    result = {}
    for name, ranks in (("alone", 1), ("two ranks", 2)):
        p = {k: torch.tensor(v, dtype=torch.float64, requires_grad=k not in AVERAGES) for k, v in weights.items()}
        losses = []
        for step in range(STEPS):
            averages, loss = [], 0
            for rank in range(ranks):
                size = BATCH // ranks
                rows = slice(step * BATCH + rank * size, step * BATCH + (rank + 1) * size)
                x, labels = torch.tensor(data["x"][rows], dtype=torch.float64), torch.tensor(data["labels"][rows])
                own = {k: p[k].clone() for k in AVERAGES}
                h = F.relu(F.batch_norm(x, own["bn.mean"], own["bn.var"], p["bn.weight"], p["bn.bias"], True, 1 - MOMENTUM, 1e-5)).flatten(1) @ p["fc1.weight"].T
                h = F.relu(F.batch_norm(h, own["bn1.mean"], own["bn1.var"], p["bn1.weight"], p["bn1.bias"], True, 1 - MOMENTUM, 1e-5))
                loss = loss + F.cross_entropy(h @ p["fc2.weight"].T + p["fc2.bias"], labels) / ranks
                averages.append(own)
            trained = [v for v in p.values() if v.requires_grad]
            for v, g in zip(trained, torch.autograd.grad(loss, trained)):
                v.data -= RATE * g
            for k in AVERAGES:
                p[k] = sum(own[k] for own in averages) / ranks
            losses.append(float(loss))
        result[name] = {"losses": losses, **{k: [float(f"{x:.9g}") for x in p[k].detach().flatten()] for k in (*AVERAGES, "bn.weight", "bn.bias", "bn1.weight", "bn1.bias", "fc2.weight")}}
    (HERE / "batch_norm.json").write_text(json.dumps(result, indent=0) + "\n")


if __name__ == "__main__":
    assert sys.argv[1:] == ["--record"]
    sys.exit(record())

from harness import add, execute, expect_refusal, memoize, read_metrics, scratch, succeed, test  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Case:
    micro: int = BATCH
    accum: int = 1
    ranks: int = 1
    steps: int = STEPS
    flags: tuple = ()
    run_flags: tuple = ()
    training: bool = True
    opset: int = 20
    comm: str = "local"


@memoize
def prepare(case):
    folder = scratch("bn")
    write_model(folder / "model.onnx", case.training, case.opset)
    _, data = values()
    tensors.save(folder / "data.safetensors", data)
    succeed(["zopt", "--optimizer=sgd", f"--lr={RATE}", "--weight-decay=0", f"--micro-batch={case.micro}", f"--grad-accum={case.accum}", *case.flags, folder / "model.onnx", "-o", folder / "plan.mlir"])
    return folder


@memoize
def run(case):
    """(losses, weights)"""
    folder, out = prepare(case), scratch("run")
    succeed(["zrun", folder / "plan.mlir", "--nproc", case.ranks, f"--comm={case.comm}", "--threads", 1, "--data", folder / "data.safetensors", "--steps", case.steps, "--metrics", out / "m", "--weights-out", out / "w", *case.run_flags])
    starts, steps, ends = read_metrics(out / "m")
    assert starts[0]["planned_peak"] == ends[0]["measured_peak"], f"planned peak {starts[0]['planned_peak']}, measured {ends[0]['measured_peak']}"
    return [s["loss"] for s in steps], tensors.load(out / "w")


def check_pytorch(name, case, tolerance=2e-6):
    losses, weights = run(case)
    theirs = json.loads((HERE / "batch_norm.json").read_text())[name]
    assert np.allclose(losses, theirs["losses"], rtol=tolerance), f"losses are {losses}, PyTorch's {theirs['losses']}"
    start, _ = values()
    for key in theirs:
        if key == "losses":
            continue
        expected = np.array(theirs[key])
        if key.endswith(".var"):  # PyTorch's is of sample variances
            n, kept = case.micro * (16 if key == "bn.var" else 1), MOMENTUM ** STEPS * start[key]
            expected = kept + (expected - kept) * (n - 1) / n
        ours = weights[key].flatten()
        assert np.allclose(ours, expected, rtol=10 * tolerance, atol=tolerance), f"'{key}' is {ours}, by PyTorch {expected}"


add("batch_norm/PyTorch/alone", check_pytorch, "alone", Case())
add("batch_norm/PyTorch/two ranks", check_pytorch, "two ranks", Case(micro=4, ranks=2))
add("batch_norm/PyTorch/exported for inference, trained", check_pytorch, "alone", Case(training=False, flags=("--training-mode=train",)))
add("batch_norm/PyTorch/opset 13, where outputs say it", check_pytorch, "alone", Case(opset=13))


def same(a, b):
    (la, wa), (lb, wb) = run(a), run(b)
    assert la == lb, f"losses {la} and {lb} of {a} and {b}"
    differ = tensors.same_bits(wa, wb)
    assert not differ, f"{differ} differ between {a} and {b}"


TWO = Case(micro=4, ranks=2)
for flags in (("--zero-stage=3",), ("--zero-stage=2",), ("--recompute=full",), ("--recompute=selective",), ("--no-fuse", "--nproc=2", "--threads=1")):
    add(f"I1/batch_norm/{' '.join(flags)}", same, TWO, dataclasses.replace(TWO, flags=flags))
    add(f"I1/batch_norm/synchronized {' '.join(flags)}", same, dataclasses.replace(TWO, flags=("--sync-batchnorm",)), dataclasses.replace(TWO, flags=("--sync-batchnorm", *flags)))
add("I1/batch_norm/synchronized, mpi", same, dataclasses.replace(TWO, flags=("--sync-batchnorm", "--zero-stage=3")), dataclasses.replace(TWO, flags=("--sync-batchnorm", "--zero-stage=3"), comm="mpi"))


@test("I2/batch_norm: synchronized ranks do what one rank does with the whole batch")
def synchronized():
    losses, weights = run(Case())
    for ranks in (2, 4):
        ours, mine = run(Case(micro=BATCH // ranks, ranks=ranks, flags=("--sync-batchnorm",)))
        assert np.allclose(ours, losses, rtol=1e-5), f"{ranks} ranks: losses {ours}, one rank's {losses}"
        for key in weights:
            assert np.allclose(mine[key], weights[key], rtol=1e-4, atol=1e-5), f"{ranks} ranks: '{key}' is {mine[key]}, one rank's {weights[key]}"


@test("batch_norm/micro-steps move the averages one after another, ranks at once")
def micro_steps():
    start, data = values()
    x = data["x"][:BATCH].astype(np.float64)
    means = [x[:4].mean((0, 2, 3)), x[4:].mean((0, 2, 3))]
    one, two = start["bn.mean"] * MOMENTUM + means[0] * (1 - MOMENTUM), start["bn.mean"] * MOMENTUM + means[1] * (1 - MOMENTUM)
    for case, expected in ((Case(micro=4, accum=2, steps=1), one * MOMENTUM + means[1] * (1 - MOMENTUM)), (Case(micro=4, ranks=2, steps=1), (one + two) / 2)):
        mine = run(case)[1]["bn.mean"]
        assert np.allclose(mine, expected, rtol=1e-6, atol=1e-7), f"the average is {mine}, expected {expected}, with {case}"


@test("batch_norm/a skipped step leaves the averages as they were, and the next one moves them")
def skipped():
    folder, start = prepare(Case()), values()[0]
    _, data = values()
    data = {k: v[:2 * BATCH].copy() for k, v in data.items()}
    data["x"][3, 1] = np.inf
    tensors.save(folder / "bad.safetensors", data)
    for steps in (1, 2):
        succeed(["zrun", folder / "plan.mlir", "--comm=local", "--threads", 1, "--data", folder / "bad.safetensors", "--steps", steps, "--weights-out", folder / "w"])
        weights = tensors.load(folder / "w")
        changed = [k for k in weights if weights[k].tobytes() != start[k].tobytes()]
        assert (not changed) if steps == 1 else sorted(changed) == sorted(weights), f"after {steps} steps, of which the first is skipped, {changed} changed"
        assert all(np.isfinite(v).all() for v in weights.values()), "a value is not finite"


@test("batch_norm/--training-mode=eval: the averages normalize, and do not move")
def inference():
    case = Case(flags=("--training-mode=eval",), steps=2)
    start, weights = values()[0], run(case)[1]
    for key in AVERAGES:
        assert weights[key].tobytes() == start[key].tobytes(), f"'{key}' moved in inference"
    exported = run(Case(training=False, steps=2))
    assert exported[0] == run(case)[0] and not tensors.same_bits(exported[1], weights), "an export for inference trains otherwise than --training-mode=eval"
    folder = prepare(Case(training=False, flags=("--mode=forward",)))
    succeed(["zrun", folder / "plan.mlir", "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--outputs", folder / "out"])
    w, x = {k: v.astype(np.float64) for k, v in start.items()}, values()[1]["x"].astype(np.float64)
    norm = lambda h, name, shape: (h - w[f"{name}.mean"].reshape(shape)) / np.sqrt(w[f"{name}.var"].reshape(shape) + 1e-5) * w[f"{name}.weight"].reshape(shape) + w[f"{name}.bias"].reshape(shape)
    h = np.maximum(norm(x, "bn", (1, CHANNELS, 1, 1)), 0).reshape(len(x), -1) @ w["fc1.weight"].T
    logits = np.maximum(norm(h, "bn1", (1, HIDDEN)), 0) @ w["fc2.weight"].T + w["fc2.bias"]
    ours = tensors.load(folder / "out")["logits"]
    assert np.allclose(ours, logits, rtol=1e-5, atol=1e-5), f"logits are off by {np.abs(ours - logits).max():.3g}"


@test("I5/batch_norm: a resumed run has the same averages")
def resumes():
    case = dataclasses.replace(TWO, flags=("--zero-stage=3",))
    _, whole = run(case)
    folder = prepare(case)
    for steps in (3, STEPS):
        succeed(["zrun", folder / "plan.mlir", "--nproc", 2, "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--steps", steps, "--checkpoint-dir", folder / "D", "--resume=auto", "--weights-out", folder / "w"])
    differ = tensors.same_bits(whole, tensors.load(folder / "w"))
    assert not differ, f"{differ} differ after a restart"


@test("batch_norm/bad nodes are refused by name")
def refused():
    n = onnx_writer.node
    vector = lambda name, size: onnx_writer.tensor(name, np.ones(size, np.float32))
    nodes = [n("BatchNormalization", ["x", "a", "b", "m", "v"], ["y"], "wrong_channels"), n("BatchNormalization", ["y", "c", "c", "c", "x1"], ["z"], "moving", training_mode=1)]
    folder = scratch("refused")
    (folder / "model.onnx").write_bytes(onnx_writer.model(nodes, [vector("a", 4), vector("b", 3), vector("m", 3), vector("v", 3), vector("c", 3)], [onnx_writer.value("x", ["batch", 3]), onnx_writer.value("x1", [3])], [onnx_writer.value("z", ["batch", 3])]))
    expect_refusal(execute(["zopt", "--mode=forward", folder / "model.onnx", "-o", folder / "plan.mlir"]), 1, r"wrong_channels: error: operand 1 has shape \[?4\]?, but the input has 3 channels")
