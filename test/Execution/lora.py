"""LoRA: adapters train beside frozen weights, which leave a run with the very bits that they came with, in every precision and at every stage."""
import numpy as np

import onnx_writer
import tensors
from harness import add, scratch, succeed

FEATURES, HIDDEN, CLASSES, RANK, STEPS, BATCH = 16, 24, 24, 2, 4, 8  # both adapters end in equal zeros, which ties nothing
rng = np.random.default_rng(23)
draw = lambda *shape: rng.standard_normal(shape).astype(np.float32) * np.float32(0.3)
WEIGHTS = {"fc1.weight": draw(FEATURES, HIDDEN), "fc1.bias": draw(HIDDEN), "fc2.weight": draw(HIDDEN, CLASSES), "fc2.bias": draw(CLASSES)}
ADAPTERS = {"fc1.weight.lora_A": draw(FEATURES, RANK), "fc1.weight.lora_B": np.zeros((RANK, HIDDEN), np.float32), "fc2.weight.lora_A": draw(HIDDEN, RANK), "fc2.weight.lora_B": np.zeros((RANK, CLASSES), np.float32)}
DATA = {"x": draw(BATCH * STEPS, FEATURES), "labels": rng.integers(0, CLASSES, BATCH * STEPS)}


def write_model(path):
    """Two layers, as scripts/add-lora.py writes them: x W + 2 (x A) B, and a bias."""
    n = onnx_writer.node
    nodes = []
    for layer, x, y in (("fc1", "x", "h"), ("fc2", "r", "logits")):
        w = f"{layer}.weight"
        nodes += [n("MatMul", [x, w], [f"{y}.frozen"]), n("MatMul", [x, f"{w}.lora_A"], [f"{y}.down"]), n("MatMul", [f"{y}.down", f"{w}.lora_B"], [f"{y}.up"]), n("Mul", [f"{y}.up", "scale"], [f"{y}.lora"]),
                  n("Add", [f"{y}.frozen", f"{y}.lora"], [f"{y}.sum"]), n("Add", [f"{y}.sum", f"{layer}.bias"], [y])]
        if y == "h":
            nodes.append(n("Relu", ["h"], ["r"]))
    initializers = [onnx_writer.tensor(k, v) for k, v in {**WEIGHTS, **ADAPTERS, "scale": np.array(2, np.float32)}.items()]
    path.write_bytes(onnx_writer.model(nodes, initializers, [onnx_writer.value("x", ["batch", FEATURES])], [onnx_writer.value("logits", ["batch", CLASSES])]))


def check(precision, stage, ranks):
    folder = scratch("lora")
    write_model(folder / "model.onnx")
    tensors.save(folder / "data.safetensors", DATA)
    done = succeed(["zopt", folder / "model.onnx", "-o", folder / "plan.mlir", r"--train-only=.*\.lora_[AB]", f"--zero-stage={stage}", f"--micro-batch={BATCH // ranks}", "--lr=0.05", "--weight-decay=0.5", "--clip=1", *(["--tie-weights"] if stage else []),
                    *([] if precision == "fp32" else [f"--{precision}"])])
    assert "4 parameters train" in done.stderr and "4 are frozen" in done.stderr and "same values" not in done.stderr, done.stderr
    succeed(["zrun", folder / "plan.mlir", "--nproc", ranks, "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--steps", STEPS, "--weights-out", folder / "out.safetensors"])
    after = tensors.load(folder / "out.safetensors")
    for name, before in WEIGHTS.items():
        assert after[name].tobytes() == before.tobytes(), f"frozen '{name}' moved by up to {np.abs(after[name] - before).max()}"
    for name, before in ADAPTERS.items():
        assert np.isfinite(after[name]).all() and after[name].tobytes() != before.tobytes(), f"adapter '{name}' stayed as it was"


for precision in ("fp32", "bf16"):
    for stage, ranks in ((0, 1), (3, 2)):
        add(f"lora/{precision}/stage{stage}", check, precision, stage, ranks)
