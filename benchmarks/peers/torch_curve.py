"""PyTorch's training curve of a GPT-2 on the bytes of a text: the losses that zrun's are compared with.

Sample i is bytes [i * seq, i * seq + seq + 1): the first seq are inputs, the last seq labels; step s takes samples [s * batch, (s + 1) * batch) in the order of the
file and begins anew where fewer than a batch are left. AdamW on all parameters, constant rate, clipping of the global norm. Variants:

    autocast  torch.autocast over fp32 weights, which is PyTorch's usual bf16
    master    bf16 weights, activations and gradients; norm, AdamW and the weights it keeps in fp32; bf16 copies after each step, which is zopt's bf16
    fp32      no bf16 anywhere (TF32 off)

    python torch_curve.py --model gpt2-124m --vocab 50257 --make-weights init.safetensors
    python torch_curve.py --model gpt2-124m --vocab 50257 --weights init.safetensors --data text.txt --variant autocast --steps 500 --batch 16 --seq 1024

Weights are read and written under the names and in the layout of the ONNX file that transformers' GPT-2 exports to. Prints a JSON object a step, then one with the
median step time.
"""
import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn

from torch_train import GPT, GPTS

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "test/Execution"))
import tensors  # noqa: E402


def initializers(model):
    """{initializer's name: (parameter, whether the file holds its transpose)}"""
    names = {"lm_head.weight": (model.wte.weight, False), "transformer.wpe.weight": (model.wpe.weight, False)}
    for i, block in enumerate(model.blocks):
        for name, module, transposed in (("ln_1", block.ln1, False), ("attn.c_attn", block.qkv, True), ("attn.c_proj", block.proj, True), ("ln_2", block.ln2, False),
                                         ("mlp.c_fc", block.fc, True), ("mlp.c_proj", block.out, True)):
            names[f"transformer.h.{i}.{name}.weight"] = (module.weight, transposed)
            names[f"transformer.h.{i}.{name}.bias"] = (module.bias, False)
    names["transformer.ln_f.weight"], names["transformer.ln_f.bias"] = (model.lnf.weight, False), (model.lnf.bias, False)
    return names


def initialize(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        with torch.no_grad():
            if p.dim() > 1:
                p.normal_(0, 0.02, generator=generator)
            else:
                p.fill_(1.0 if name.endswith("weight") else 0.0)


def load(model, path):
    weights = tensors.load(path)
    for name, (p, transposed) in initializers(model).items():
        value = torch.from_numpy(np.array(weights.pop(name), np.float32))
        with torch.no_grad():
            p.copy_(value.T if transposed else value)
    if weights:
        sys.exit(f"torch_curve.py: error: {path} has weights that the model lacks: {', '.join(sorted(weights))}")


def batches(path, batch, seq, device):
    data = np.frombuffer(Path(path).read_bytes(), np.uint8)
    samples = (len(data) - 1) // seq
    steps = samples // batch
    if steps == 0:
        sys.exit(f"torch_curve.py: error: {path} has {samples} samples of {seq} bytes, fewer than a batch of {batch}")
    step = 0
    while True:
        first = step % steps * batch
        rows = np.stack([data[i * seq:i * seq + seq + 1] for i in range(first, first + batch)]).astype(np.int64)
        ids = torch.from_numpy(rows).to(device)
        yield ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
        step += 1


def train(args):
    device = args.device
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    model = GPT(*GPTS[args.model], args.positions, args.vocab, False)
    load(model, args.weights)
    model = model.to(device)
    masters = None
    if args.variant == "master":
        masters = [p.detach().clone() for p in model.parameters()]
        model = model.to(torch.bfloat16)
    owned = masters or list(model.parameters())
    optimizer = torch.optim.AdamW(owned, lr=args.lr, betas=(.9, .999), eps=1e-8, weight_decay=args.weight_decay, fused=device == "cuda")
    loss_fn = torch.compile(model) if args.compile else model
    sync = torch.cuda.synchronize if device == "cuda" else lambda: None
    times, data = [], batches(args.data, args.batch, args.seq, device)
    for step in range(1, args.steps + 1):
        sync()
        begin = time.time()
        with torch.autocast(device, torch.bfloat16, enabled=args.variant == "autocast"):
            loss = loss_fn(*next(data))
        loss.backward()
        if masters:
            for master, p in zip(masters, model.parameters()):
                master.grad, p.grad = p.grad.float(), None
        norm = nn.utils.clip_grad_norm_(owned, args.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if masters:
            with torch.no_grad():
                torch._foreach_copy_(list(model.parameters()), masters)
        sync()
        times.append(time.time() - begin)
        print(json.dumps({"step": step, "loss": loss.item(), "grad_norm": norm.item(), "step_ms": round(times[-1] * 1e3, 3)}), flush=True)
    print(json.dumps({"variant": args.variant, "median_ms": round(sorted(times)[len(times) // 2] * 1e3, 3), "torch": torch.__version__}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gpt2-124m", choices=GPTS)
    parser.add_argument("--vocab", type=int, default=50257)
    parser.add_argument("--positions", type=int, default=1024, help="rows of the position table")
    parser.add_argument("--make-weights", metavar="FILE", help="write initial weights (normal 0.02, scales 1, biases 0) and stop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights")
    parser.add_argument("--data")
    parser.add_argument("--variant", default="autocast", choices=("autocast", "master", "fp32"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seq", type=int, default=1024)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if args.make_weights:
        model = GPT(*GPTS[args.model], args.positions, args.vocab, False)
        initialize(model, args.seed)
        tensors.save(args.make_weights, {name: (p.T if transposed else p).detach().contiguous().numpy() for name, (p, transposed) in initializers(model).items()})
    else:
        train(args)
