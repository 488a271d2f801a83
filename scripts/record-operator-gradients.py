#!/usr/bin/env python3
"""Records PyTorch's gradients of the cases in test/Execution/operator_cases.py, arranging_cases.py and sampling_cases.py, in float64, as test/Execution/operator_gradients.safetensors: of each its products with a few random
vectors.

    pip install torch torchvision numpy && scripts/record-operator-gradients.py
"""
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.ops import deform_conv2d, roi_pool

root = Path(__file__).resolve().parent.parent / "test/Execution"
sys.path.insert(0, str(root))
import operator_cases  # noqa: E402
import tensors  # noqa: E402


def split(x, heads):
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def join(x):
    return x.transpose(1, 2).flatten(2)


GATES = {"RNN": [0], "LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2]}  # PyTorch's order of gates, in ONNX's


def recurrent(op, direction, lengths, relu, x, w, r, b, *state):
    """ONNX's layout [time, directions, batch, hidden] of PyTorch's cells; a reverse one runs over flipped input."""
    hidden, gates = r.shape[2], GATES[op]
    module = getattr(torch.nn, op)(x.shape[2], hidden, bidirectional=direction == "bidirectional", **({"nonlinearity": "relu"} if relu else {})).double()
    reorder = lambda t: torch.cat([t[g * hidden:(g + 1) * hidden] for g in gates])
    named = {}
    for d in range(w.shape[0]):
        suffix, bias = "_l0" + "_reverse" * d, b[d].reshape(2, -1)
        named |= {f"weight_ih{suffix}": reorder(w[d]), f"weight_hh{suffix}": reorder(r[d]), f"bias_ih{suffix}": reorder(bias[0]), f"bias_hh{suffix}": reorder(bias[1])}
    x = x.flip(0) if direction == "reverse" else x
    packed = x if lengths is None else torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    y, _ = torch.func.functional_call(module, named, (packed, state if len(state) == 2 else state[0] if state else None))
    if lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=x.shape[0])
    y = y.reshape(*y.shape[:2], -1, hidden).transpose(1, 2)
    return y.flip(0) if direction == "reverse" else y


def capped(q, k, v, cap):
    scores = q @ k.repeat_interleave(2, 1).transpose(2, 3) / q.shape[3] ** 0.5
    return (cap * torch.tanh(scores / cap)).softmax(-1) @ v.repeat_interleave(2, 1)


def rotate(x, cos, sin, interleaved):
    a, b = (x[..., ::2], x[..., 1::2]) if interleaved else x.chunk(2, -1)
    parts = a * cos - b * sin, a * sin + b * cos
    return torch.stack(parts, -1).flatten(-2) if interleaved else torch.cat(parts, -1)


def linear_attention(rule, heads, q, k, v, state, decay, beta):
    """The recurrence of ONNX's LinearAttention, token by token; its scale is 0.5."""
    outputs = []
    q, k, v = (t.unflatten(-1, (heads, -1)) for t in (q, k, v))
    for t in range(q.shape[1]):
        if decay is not None:
            state = state * decay[:, t, :, None, None].exp()
        value = v[:, t]
        if beta is not None:
            value = (value - torch.einsum("bhkv,bhk->bhv", state, k[:, t])) * beta[:, t, :, None]
        state = state + torch.einsum("bhk,bhv->bhkv", k[:, t], value)
        outputs.append(0.5 * torch.einsum("bhk,bhkv->bhv", q[:, t], state).flatten(1))
    return torch.stack(outputs, 1)


def scanned(rows, state):
    states = []
    for row in rows:
        state = state * row + row
        states.append(state)
    return torch.stack(states)


def roi_align(x, boxes, of, size):
    """Means of two bilinear samples an axis in each cell, at half a pixel's offset; outside by more than a pixel counts as 0."""
    def weights(begin, end, cells, length):
        step = (end - begin) / cells
        rows = []
        for cell in range(cells):
            row = torch.zeros(length, dtype=x.dtype)
            for sample in range(2):
                at = begin + step * (cell + (sample + 0.5) / 2)
                if -1 <= at <= length:
                    at = min(max(at, 0.0), length - 1.0)
                    low = min(int(at), length - 1)
                    row[low] += (1 - at + low) / 2
                    if low + 1 < length:
                        row[low + 1] += (at - low) / 2
            rows.append(row)
        return torch.stack(rows)
    return torch.stack([weights(y0 - 0.5, y1 - 0.5, size[0], x.shape[2]) @ x[i] @ weights(x0 - 0.5, x1 - 0.5, size[1], x.shape[3]).T for (x0, y0, x1, y1), i in zip(boxes.tolist(), of.tolist())])


def main():
    functions = {"torch": torch, "F": F, **{f.__name__: f for f in (split, join, recurrent, capped, rotate, linear_attention, scanned, roi_align, deform_conv2d, roi_pool)}}
    shapes, sketches = [], []  # of the results: axes, then sizes; of the operands, one after the other
    for number, case in operator_cases.numbered():
        chosen = operator_cases.differentiated(case)
        operands = [None if o is None else torch.tensor(np.asarray(o, np.float64) if o.dtype == np.float32 else o, requires_grad=i in chosen) for i, o in enumerate(case.operands)]
        out = eval(case.torch, {**functions, **dict(zip("abcdefg", operands))})
        weights = torch.tensor(operator_cases.weights(case, tuple(out.shape)), dtype=torch.float64)
        (out * weights).sum().backward()
        shapes += [out.dim(), *out.shape]
        for i in chosen:
            gradient = operands[i].grad
            sketches.append(operator_cases.sketch(f"{number}.{i}", np.zeros(case.operands[i].shape) if gradient is None else gradient.numpy()))
    tensors.save(root / "operator_gradients.safetensors", {"shapes": np.asarray(shapes, np.uint8), "sketches": np.asarray(sketches)})
    print(f"{len(operator_cases.numbered())} cases, {len(sketches)} gradients, torch {torch.__version__}")


if __name__ == "__main__":
    main()
