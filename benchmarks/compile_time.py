#!/usr/bin/env python3
"""How long zopt takes from model.onnx to a final plan, and what it holds in memory.

    benchmarks/compile_time.py [--nproc 8] [--repeat 5] MODEL.onnx...

Prints, a model: the median wall time and the largest resident memory of whole zopt processes, the portable plan's size, and the three passes that took longest
(`--mlir-timing`). Weights are not needed.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def measure(command):
    """(seconds, peak resident MiB, stderr)"""
    with tempfile.TemporaryFile("w+") as stderr:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        stderr.seek(0)
        text = stderr.read()
    if status:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{text}")
    return seconds, usage.ru_maxrss / 1024, text


def slowest_passes(text, count=3):
    """From --mlir-timing's list: [(seconds, pass)], slowest first."""
    rows = re.findall(r"^\s*(\d+\.\d+) \(\s*[\d.]+%\)(?:\s+\d+\.\d+ \(\s*[\d.]+%\))?\s+(\S.*)$", text, re.M)
    passes = [(float(seconds), name) for seconds, name in rows if name.strip() not in ("root", "Total", "Rest") and "Pipeline" not in name]
    return sorted(passes, reverse=True)[:count]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--zopt", type=Path, default=ROOT / "build/release/bin/zopt")
    parser.add_argument("--nproc", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for model in args.models:
            plan = Path(folder) / "plan.mlir"
            portable = [args.zopt, "--zero-stage=3", "--bf16", model, "-o", plan]
            final = [args.zopt, "--zero-stage=3", "--bf16", f"--nproc={args.nproc}", "--threads=1", model, "-o", plan]
            measure(portable)
            size = plan.stat().st_size
            runs = [measure(final) for _ in range(args.repeat)]
            _, _, timing = measure([*final, "--mlir-timing", "--mlir-timing-display=list"])
            print(json.dumps({"model": model.stem, "nproc": args.nproc, "seconds": round(statistics.median(r[0] for r in runs), 3), "fastest": round(min(r[0] for r in runs), 3),
                              "peak_mib": round(max(r[1] for r in runs), 1), "portable_plan_bytes": size, "final_plan_bytes": plan.stat().st_size,
                              "slowest_passes": slowest_passes(timing)}), flush=True)


if __name__ == "__main__":
    main()
