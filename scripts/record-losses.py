#!/usr/bin/env python3
"""Records PyTorch's losses and gradients of the cases in test/Execution/losses.py, in float64, as test/Execution/losses.json.

    pip install torch numpy && scripts/record-losses.py
"""
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

root = Path(__file__).resolve().parent.parent / "test/Execution"
sys.path.insert(0, str(root))
import losses  # noqa: E402


def evaluate(case, parameters, rows):
    data = {k: torch.tensor(v[rows]) for k, v in losses.arrays().items() if k not in (*losses.PARAMETERS, "table")}
    data = {k: v.double() if v.is_floating_point() else v for k, v in data.items()}
    x = data["x"]
    logits, value = x @ parameters["weight"] + parameters["bias"], x @ parameters["value.weight"]
    names = {"torch": torch, "F": F, **data, "logits": logits, "value": value, "aux": x @ parameters["aux.weight"], "table": torch.tensor(losses.arrays()["table"]).double(),
             "points": (x @ parameters["points.weight"]).reshape(len(x), losses.CLASSES, losses.POINTS), "log_p": F.log_softmax(logits, 1)[torch.arange(len(x)), data["whole"]]}
    return eval(case.torch, names)


def main():
    found = {}
    for case in losses.CASES:
        parameters = {name: torch.tensor(losses.arrays()[name]).double().requires_grad_() for name in losses.PARAMETERS}
        size = losses.MICRO if case.each else losses.BATCH
        parts = [evaluate(case, parameters, slice(begin, begin + size)) for begin in range(0, losses.BATCH, size)]
        loss = sum(parts) / len(parts)
        loss.backward()
        # What the loss does not depend on is not trained.
        found[case.name] = {"loss": loss.item(), "gradients": {name: p.grad.flatten().tolist() for name, p in parameters.items() if p.grad is not None}}
    text = ",\n".join(f"{json.dumps(name)}: " + json.dumps(value, separators=(",", ":")) for name, value in found.items())
    (root / "losses.json").write_text("{\n" + text + "\n}\n")
    print(f"{len(found)} cases, torch {torch.__version__}")


if __name__ == "__main__":
    main()
