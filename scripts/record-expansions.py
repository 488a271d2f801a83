#!/usr/bin/env python3
"""Writes test/Transforms/Inputs/expansions.tar.xz: what PyTorch's two exporters make of the functions that zopt raises, NAME.dynamo.onnx and NAME.script.onnx each, without metadata.

    pip install torch onnx onnxscript && scripts/record-expansions.py 
"""
import contextlib
import io
import tarfile
import warnings
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from torch import nn

ARCHIVE = Path(__file__).resolve().parent.parent / "test/Transforms/Inputs/expansions.tar.xz"


class Function(nn.Module):
    def __init__(self, function, *modules):
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(modules)
        for i, p in enumerate(self.parameters()):  # no two are equal, so that none are merged
            p.data.copy_(torch.arange(p.numel()).reshape(p.shape) % 7 + i + 1)

    def forward(self, *inputs):
        return self.function(*self.parts, *inputs)


class RMSNorm(nn.Module):
    """As Llama's."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def q(heads=4, length=8):
    return torch.randn(2, heads, length, 16)


def repeated(x, n):
    return x[:, :, None].expand(-1, -1, n, -1, -1).reshape(x.shape[0], x.shape[1] * n, *x.shape[2:])


def eager(q, k, v, mask=None, cap=None):
    scores = q @ k.transpose(2, 3) / 4
    scores = cap * torch.tanh(scores / cap) if cap else scores
    return (scores if mask is None else scores + mask).softmax(-1) @ v


def positions():
    return torch.arange(8)


def hidden(seen):
    return torch.where(seen, 0.0, torch.finfo(torch.float32).min)


def alibi(q, k, v):
    slopes = 2.0 ** -torch.arange(1, 5)
    distances = (positions()[None] - positions()[:, None]) * slopes[:, None, None]
    return F.scaled_dot_product_attention(q, k, v, distances + hidden(positions()[None] <= positions()[:, None]))


def window(q, k, v):
    back = positions()[:, None] - positions()[None]
    return F.scaled_dot_product_attention(q, k, v, (back >= 0) & (back < 4))


def angles():
    return torch.outer(torch.arange(8).float(), 100.0 ** -(torch.arange(0, 16, 2) / 16))


def halves(x):
    table = torch.cat([angles(), angles()], -1)
    a, b = x.chunk(2, -1)
    return x * table.cos() + torch.cat([-b, a], -1) * table.sin()


def neighbours(x):
    table = angles().repeat_interleave(2, -1)
    return x * table.cos() + torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2) * table.sin()


def glu(activation):
    return lambda gate, up, x: activation(gate(x)) * up(x)


sdpa = F.scaled_dot_product_attention
rows = torch.randn(2, 8, 16)
lines = lambda: [nn.Linear(16, 32), nn.Linear(16, 32)]
FUNCTIONS = {
    "additive": (Function(sdpa), q(), q(), q(), torch.randn(2, 1, 8, 8)),
    "boolean": (Function(sdpa), q(), q(), q(), torch.ones(2, 1, 8, 8, dtype=torch.bool)),
    "causal": (Function(lambda q, k, v: sdpa(q, k, v, is_causal=True)), q(), q(), q()),
    "eager": (Function(lambda q, k, v: eager(q, k, v, hidden(positions()[None] <= positions()[:, None]))), q(), q(), q()),
    "alibi": (Function(alibi), q(), q(), q()),
    "window": (Function(window), q(), q(), q()),
    "capped": (Function(lambda q, k, v: eager(q, k, v, None, 2.0)), q(), q(), q()),
    "normed": (Function(lambda n, m, q, k, v: sdpa(n(q), m(k), v), RMSNorm(16), RMSNorm(16)), q(), q(), q()),
    "grouped": (Function(lambda q, k, v: sdpa(q, repeated(k, 2), repeated(v, 2))), q(), q(2), q(2)),
    "single": (Function(lambda q, k, v: sdpa(q, repeated(k, 4), repeated(v, 4))), q(), q(1), q(1)),
    "cross": (Function(sdpa), q(), q(length=5), q(length=5)),
    "halves": (Function(halves), q()),
    "neighbours": (Function(neighbours), q()),
    "layer_norm": (Function(lambda n, x: n(x), nn.LayerNorm(16)), rows),
    "rms_norm": (Function(lambda n, x: n(x), RMSNorm(16)), rows),
    "group_norm": (Function(lambda n, x: n(x), nn.GroupNorm(4, 8)), rows),
    "gelu": (Function(F.gelu), rows),
    "gelu_tanh": (Function(lambda x: F.gelu(x, approximate="tanh")), rows),
    "silu": (Function(F.silu), rows),
    "swiglu": (Function(glu(F.silu), *lines()), rows),
    "geglu": (Function(glu(F.gelu), *lines()), rows),
    "hard_swish": (Function(F.hardswish), rows),
    "cross_entropy": (Function(lambda x, t: F.cross_entropy(x, t, reduction="none")), torch.randn(4, 10), torch.tensor([1, 2, -100, 3])),
}


def main():
    warnings.simplefilter("ignore")
    with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
        for name, (module, *inputs) in FUNCTIONS.items():
            for exporter in ("dynamo", "script"):
                file = io.BytesIO()
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    names = [f"x{i}" for i in range(len(inputs))]
                    if exporter == "dynamo":
                        program = torch.onnx.export(module, tuple(inputs), dynamo=True, verbose=False, input_names=names, output_names=["y"])
                        model = program.model_proto
                    else:
                        torch.onnx.export(module, tuple(inputs), file, dynamo=False, input_names=names, output_names=["y"], opset_version=17)
                        model = onnx.load_from_string(file.getvalue())
                del model.graph.value_info[:]
                for node in model.graph.node:
                    del node.metadata_props[:]
                    node.doc_string = ""
                del model.metadata_props[:]
                del model.functions[:]
                content = model.SerializeToString(deterministic=True)
                entry = tarfile.TarInfo(f"{name}.{exporter}.onnx")  # no time
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
                print(name, exporter, [n.op_type for n in model.graph.node])
    print(ARCHIVE.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
