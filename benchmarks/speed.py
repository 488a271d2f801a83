#!/usr/bin/env python3
"""Tokens per second of zopt and of PyTorch, in turns on this machine: gpt2-text, fp32, batch 8, sequence 128, one rank.

    benchmarks/speed.py --torch-python VENV/bin/python [--rounds 3] [--threads 2] [--precision fp32|bf16]

A round is one run of zrun, PyTorch eager and PyTorch compiled. Printed: each round, the medians, and zopt's ratio to the faster of PyTorch's two. Both take
whole optimizer steps (forward, backward, clipping at 1, AdamW); zrun's figure is the median step after the first tenth of its steps, PyTorch's that of torch_train.py.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BATCH, SEQUENCE = 8, 128


def zopt_step_ms(tools, plan, threads, steps):
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder) / "metrics.jsonl"
        done = subprocess.run([tools / "zrun", plan, "--comm=local", "--nproc", "1", "--threads", str(threads), "--data", ROOT / "examples/gpt2-text/text.txt", "--steps", str(steps),
                               "--metrics", metrics], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"zrun failed:\n{done.stderr}")
        times = [e["step_ms"] for e in map(json.loads, metrics.read_text().splitlines()) if e["event"] == "step"]
    return statistics.median(times[steps // 10:])


def torch_step_ms(python, mode, precision, steps, threads):
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    done = subprocess.run([python, ROOT / "benchmarks/peers/torch_train.py", "--device", "cpu", "--dtype", precision, "--steps", str(steps), f"gpt2-text:{BATCH}:{mode}:0:{SEQUENCE}"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, cpus))
    if done.returncode:
        sys.exit(f"torch_train.py failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])["ms"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", type=Path, help="a python3 with PyTorch; without it only zopt is measured")
    parser.add_argument("--tools", type=Path, default=ROOT / "build/release/bin")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.mlir"
        flags = ["--bf16"] if args.precision == "bf16" else []
        subprocess.run([args.tools / "zopt", f"--micro-batch={BATCH}", "--clip=1", *flags, ROOT / "examples/gpt2-text/model.onnx", "-o", plan], check=True)
        rows = {"zopt": [], "eager": [], "compile": []}
        for number in range(args.rounds):
            rows["zopt"].append(zopt_step_ms(args.tools, plan, args.threads, args.steps))
            if args.torch_python:
                for mode in ("eager", "compile"):
                    rows[mode].append(torch_step_ms(args.torch_python, mode, args.precision, args.steps, args.threads))
            print(json.dumps({"round": number + 1, **{k: round(v[-1], 2) for k, v in rows.items() if v}}), flush=True)
    median = {k: statistics.median(v) for k, v in rows.items() if v}
    result = {f"{k}_ms": round(v, 2) for k, v in median.items()}
    result |= {f"{k}_tokens_per_s": round(BATCH * SEQUENCE / v * 1e3) for k, v in median.items()}
    if args.torch_python:
        result["ratio"] = round(min(median["eager"], median["compile"]) / median["zopt"], 3)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
