"""Records what PyTorch makes of supervised fine-tuning on gpt2-tiny: reference-sft.json, which test/Execution/sft.py compares zrun's curve with.

    python test/Models/record_sft.py        (needs torch and onnx; the tests do not)

A GPT-2 written out here, on the initial weights of test/Models/gpt2-tiny/model.onnx. Rows are prompt + completion, padded; the loss is the mean over the completions' tokens of the
global batch and counts nothing else.
"""
import json
import random
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper

HERE = Path(__file__).resolve().parent / "gpt2-tiny"
HEADS, LAYERS, SEQ, BATCH, STEPS = 4, 2, 64, 4, 20
OPTIMIZER = {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01}
CLIP = 1.0
EPSILON = torch.tensor(1e-5, dtype=torch.float32).item()  # of norms, as the graph has it: ONNX's attributes are fp32


def make_pairs():
    """Completions that follow from their prompts (the prompt's bytes counted on), of several lengths."""
    source = random.Random(20)
    pairs = []
    for _ in range(BATCH * STEPS // 2):  # two epochs
        start, step = source.randrange(256), source.randrange(1, 4)
        tokens = [(start + step * i) % 256 for i in range(source.randrange(6, 40))]
        cut = source.randrange(1, len(tokens) - 1)
        pairs.append([tokens[:cut], tokens[cut:]])
    return pairs


def forward(w, ids):
    """Logits of GPT-2: norms before the blocks, GELU's tanh form, tied embedding."""
    batch, length = ids.shape
    x = w["lm_head.weight"][ids] + w["transformer.wpe.weight"][:length]
    norm = lambda x, name: F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], EPSILON)
    linear = lambda x, name: x @ w[name + ".weight"] + w[name + ".bias"]
    hidden = torch.full((length, length), -torch.inf, dtype=x.dtype).triu(1)
    for layer in range(LAYERS):
        block = f"transformer.h.{layer}"
        q, k, v = (t.view(batch, length, HEADS, -1).transpose(1, 2) for t in linear(norm(x, block + ".ln_1"), block + ".attn.c_attn").chunk(3, -1))
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + hidden).softmax(-1)
        x = x + linear((weights @ v).transpose(1, 2).reshape(batch, length, -1), block + ".attn.c_proj")
        x = x + linear(F.gelu(linear(norm(x, block + ".ln_2"), block + ".mlp.c_fc"), approximate="tanh"), block + ".mlp.c_proj")
    return norm(x, "transformer.ln_f") @ w["lm_head.weight"].T


def train(pairs, dtype):
    weights = {t.name: torch.tensor(numpy_helper.to_array(t)).to(dtype).requires_grad_() for t in onnx.load(HERE / "model.onnx").graph.initializer
               if t.name.startswith(("transformer.", "lm_head."))}
    optimizer = torch.optim.AdamW(weights.values(), **OPTIMIZER)
    losses, norms = [], []
    for step in range(STEPS):
        ids, labels = torch.zeros(BATCH, SEQ, dtype=torch.int64), torch.full((BATCH, SEQ), -100)
        for row in range(BATCH):
            prompt, completion = pairs[(step * BATCH + row) % len(pairs)]
            both = torch.tensor(prompt + completion)
            ids[row, :len(both)] = both
            labels[row, len(prompt):len(both)] = both[len(prompt):]
        # Hugging Face's shift: the logits at t are about token t + 1.
        logits = forward(weights, ids)[:, :-1]
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(weights.values(), CLIP).item())
        optimizer.step()
        losses.append(loss.item())
    return {"loss": losses, "grad_norm": norms}


torch.manual_seed(0)
pairs = make_pairs()
record = {"torch": torch.__version__, "seq": SEQ, "batch": BATCH, "steps": STEPS, "optimizer": OPTIMIZER, "clip": CLIP, "pairs": pairs,
          "runs": {"fp64": train(pairs, torch.float64), "fp32": train(pairs, torch.float32)}}
(HERE / "reference-sft.json").write_text(json.dumps(record, separators=(",", ":")) + "\n")
print({name: (run["loss"][0], run["loss"][-1]) for name, run in record["runs"].items()})
