"""FSDP2 beside zopt on several GPUs: torch_train.py's models, blocks sharded by fully_shard (ZeRO-3), torch.compile, bf16 with fp32 masters, fused AdamW, clipping at 1.

    torchrun --nproc_per_node 4 torch_fsdp.py gpt2-1.5b:8:1024 [--checkpoint] [--steps 10]

A row is MODEL:BATCH:SEQ, the batch a GPU's. Rank 0 prints one JSON object: median step in ms, tokens/s of all GPUs, the largest peak of a GPU in GiB.
"""
import argparse
import json
import os
import time

import torch
import torch.distributed as dist
import torch.nn as nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch_train import GPT, GPTS, LLAMAS, Llama

LLAMAS = LLAMAS | {"llama3-8b": (32, 4096, 32, 8, 14336, 128256)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row")
    parser.add_argument("--checkpoint", action="store_true", help="recompute every block")
    parser.add_argument("--keep-gathered", action="store_true", help="parameters stay gathered after forward (ZeRO-2)")
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    name, batch, seq = args.row.split(":")
    batch, seq = int(batch), int(seq)
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    with torch.device("meta"):
        model = Llama(*LLAMAS[name], seq, args.checkpoint) if name in LLAMAS else GPT(*GPTS[name], seq, 50304, args.checkpoint)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.blocks:
        if not args.eager:
            block.compile()
        fully_shard(block, mp_policy=policy, reshard_after_forward=not args.keep_gathered)
    fully_shard(model, mp_policy=policy, reshard_after_forward=not args.keep_gathered)
    model.to_empty(device="cuda")
    for p in model.parameters():
        nn.init.normal_(p, 0, 0.02) if p.dim() > 1 else nn.init.ones_(p)
    for buffer in model.buffers():  # rotary tables of a meta model hold nothing
        nn.init.ones_(buffer)
    ids = torch.randint(0, model.vocab, (batch, seq + 1), device="cuda")
    inputs, labels = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step():
        loss = model(inputs, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    start = time.time()
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    first = time.time() - start
    times = []
    for _ in range(args.steps):
        dist.barrier()
        torch.cuda.synchronize()
        start = time.time()
        step()
        torch.cuda.synchronize()
        times.append(time.time() - start)
    seconds = torch.tensor(sorted(times)[len(times) // 2], device="cuda")
    peak = torch.tensor(torch.cuda.max_memory_allocated() / 2**30, device="cuda")
    dist.all_reduce(seconds, dist.ReduceOp.MAX)
    dist.all_reduce(peak, dist.ReduceOp.MAX)
    if rank == 0:
        print(json.dumps({"model": name, "batch": batch, "seq": seq, "ranks": world, "mode": "fsdp2" + ("" if args.eager else " compile") + (" checkpoint" if args.checkpoint else ""),
                          "ms": round(seconds.item() * 1e3, 2), "tok_s": round(batch * seq * world / seconds.item()), "peak_gib": round(peak.item(), 2), "first3_s": round(first, 1),
                          "torch": torch.__version__}), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
