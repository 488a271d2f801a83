#!/usr/bin/env python3
"""Writes test/Models/op-gradients.safetensors: PyTorch's gradients, in f64, of the cases of test/Execution/op_gradients.py. Needs torch.

    scripts/record-op-gradients.py
"""
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test/Execution"))
import op_gradients
import tensors

GATES = {"RNN": [0], "LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2]}  # PyTorch's order of gates, in ONNX's


def index(*values):
    return torch.tensor(values, dtype=torch.int64)


def recurrent(name, p):
    op, direction = name.split()[0].split("/")
    hidden, gates = p["r"].shape[2], GATES[op]
    module = getattr(torch.nn, op)(p["x"].shape[2], hidden, bidirectional=direction == "bidirectional", **({"nonlinearity": "relu"} if "activations" in name else {})).double()
    reorder = lambda t: torch.cat([t[g * hidden:(g + 1) * hidden] for g in gates])
    named = {}
    for d in range(p["w"].shape[0]):
        suffix = "_l0" + "_reverse" * d
        bias = p["b"][d].reshape(2, -1)
        named |= {f"weight_ih{suffix}": reorder(p["w"][d]), f"weight_hh{suffix}": reorder(p["r"][d]), f"bias_ih{suffix}": reorder(bias[0]), f"bias_hh{suffix}": reorder(bias[1])}
    lengths = {"LSTM": [4, 2], "GRU": [3, 4]}[op] if "lengths" in name else None
    x = p["x"] if lengths is None else torch.nn.utils.rnn.pack_padded_sequence(p["x"], lengths, enforce_sorted=False)
    state = (p["h"], p["c"]) if "c" in p else p.get("h")
    y, _ = torch.func.functional_call(module, named, (x, state))
    if lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=4)
    return y.reshape(*y.shape[:2], -1, hidden).transpose(1, 2)


def function(name, p):
    x = p.get("x")
    op, _, form = name.partition("/")
    if op in GATES:
        return recurrent(name, p)
    if op == "Pad":
        if form == "value":
            inside = nn.pad(torch.ones_like(x), (0, 2, 1, 0)) > 0
            return torch.where(inside, nn.pad(x, (0, 2, 1, 0)), p["v"])
        return nn.pad(x, (-1, 2, 1, 2)) if form == "constant" else nn.pad(x, (1, 1, 1, 2), mode={"reflect": "reflect", "edge": "replicate", "wrap": "circular"}[form])
    if op == "Tile":
        return x.tile(2, 3)
    if op == "GatherElements":
        return x.gather(1, index([0, 3], [1, 1], [3, 0])) if form == "axis 1" else x.gather(0, index([0, 2, 1], [1, 1, 0]))
    if op == "GatherND":
        return x[[0, 2, 0], [1, 3, 1]] if form == "tuples" else x[[0, 1], [1, 0]]
    if op == "ScatterElements":
        if form == "none":
            return x.scatter(1, index([0, 1], [3, 1], [2, 0]), p["u"])
        return x.scatter_reduce(0, index([0, 1, 2, 0], [2, 1, 0, 0]), p["u"], {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[form], include_self=True)
    if op == "ScatterND":
        return x.index_put((index(1, 3),), p["u"]) if form == "none" else x.index_add(0, index(1, 3, 1), p["u"])
    if op == "TopK":
        return x.topk(2)[0] if form == "largest" else x.topk(3, dim=0, largest=False)[0]
    if op == "DepthToSpace":
        return nn.pixel_shuffle(x, 2)
    if op == "SpaceToDepth":
        return x.reshape(1, 2, 2, 2, 3, 2).permute(0, 3, 5, 1, 2, 4).reshape(1, 8, 2, 3)
    if op == "Col2Im":
        return nn.fold(x, (4, 4), 2, dilation=2, padding=1, stride=2) if form else nn.fold(x, (4, 4), 2)
    if op == "Trilu":
        return x.tril(1)
    if op == "Slice":
        return x[[4, 2]][:, [2, 1, 0]]
    if op == "Resize":
        size = {"linear": (6, 7), "linear corners": (5, 7), "cubic": (7, 8), "antialiased": (4, 3), "nearest": (6, 6)}[form]
        if form == "nearest":
            return nn.interpolate(x, size, mode="nearest")
        return nn.interpolate(x, size, mode="bicubic" if form == "cubic" else "bilinear", align_corners=form == "linear corners", antialias=form == "antialiased")
    if op == "GridSample":
        mode, padding, corners = form.split()
        return nn.grid_sample(x, p["g"], {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}[mode], padding, corners == "1")
    if op == "AffineGrid":
        return nn.affine_grid(p["t"], (2, 1, 3, 4), form == "1")
    if op == "Einsum":
        return torch.einsum(form, *p.values())
    raise KeyError(name)


recorded = {}
for case in op_gradients.CASES:
    parameters, factors = case.draw()
    leaves = {name: torch.tensor(array, dtype=torch.float64, requires_grad=True) for name, array in parameters.items()}
    y = function(case.name, leaves)
    assert tuple(y.shape) == case.out, f"{case.name}: {tuple(y.shape)} instead of {case.out}"
    (y * torch.tensor(factors, dtype=torch.float64)).sum().backward()
    for name, leaf in leaves.items():
        recorded[f"{case.name}/{name}"] = leaf.grad.numpy().astype(np.float32)
tensors.save(op_gradients.RECORD, recorded)
print(f"{len(op_gradients.CASES)} cases, {len(recorded)} gradients, {op_gradients.RECORD.stat().st_size} bytes")
