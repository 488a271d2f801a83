#!/usr/bin/env python3
"""Records PyTorch's gradients of the cases in test/Execution/operator_cases.py, in float64, as test/Execution/operator_gradients.safetensors.

    pip install torch numpy && scripts/record-operator-gradients.py
"""
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

root = Path(__file__).resolve().parent.parent / "test/Execution"
sys.path.insert(0, str(root))
import operator_cases  # noqa: E402
import tensors  # noqa: E402


def split(x, heads):
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def join(x):
    return x.transpose(1, 2).flatten(2)


def main():
    shapes, gradients = [], []  # of the results: axes, then sizes; of the operands, one after the other
    for _, case in operator_cases.numbered():
        chosen = operator_cases.differentiated(case)
        operands = [torch.tensor(np.asarray(o, np.float64) if o.dtype == np.float32 else o, requires_grad=i in chosen) for i, o in enumerate(case.operands)]
        out = eval(case.torch, {"torch": torch, "F": F, "split": split, "join": join, **dict(zip("abcdef", operands))})
        weights = torch.tensor(operator_cases.weights(case, tuple(out.shape)), dtype=torch.float64)
        (out * weights).sum().backward()
        shapes += [out.dim(), *out.shape]
        for i in chosen:
            gradient = operands[i].grad
            gradients.append((np.zeros(case.operands[i].shape) if gradient is None else gradient.numpy()).reshape(-1))
    tensors.save(root / "operator_gradients.safetensors", {"shapes": np.asarray(shapes, np.int64), "gradients": np.concatenate(gradients)})
    print(f"{len(operator_cases.numbered())} cases, {sum(map(len, gradients))} numbers, torch {torch.__version__}")


if __name__ == "__main__":
    main()
