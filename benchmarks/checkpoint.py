#!/usr/bin/env python3
"""Checkpoints of a large state: how long training waits, how fast the disk is written beside `dd oflag=direct` on it, and what ranks hold in memory.

    benchmarks/checkpoint.py --folder FOLDER [--tools build/release/bin] [--layers 5] [--width 4096] [--ranks 4]

The model is a stack of products (5 of 4096 x 4096: 84 million parameters, 1 GB with AdamW's state), trained with ZeRO-3 from random values on synthetic batches. FOLDER is on the disk that is measured.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test/Execution"))
import onnx_writer


def write_model(path, layers, width):
    nodes, weights, value = [], [], "x"
    for i in range(layers):
        # The values are never read: --init makes them.
        weights.append(onnx_writer.tensor(f"w{i}", dims=(width, width), data_type=onnx_writer.FLOAT,
                                          external={"location": "none.bin", "offset": 4 * i * width * width, "length": 4 * width * width}))
        nodes.append(onnx_writer.node("MatMul", [value, f"w{i}"], [f"h{i}"]))
        value = f"h{i}"
        if i + 1 < layers:
            nodes.append(onnx_writer.node("Relu", [value], [f"r{i}"]))
            value = f"r{i}"
    path.write_bytes(onnx_writer.model(nodes, weights, [onnx_writer.value("x", ["batch", width])], [onnx_writer.value(value, ["batch", width])]))


def watch(process, peaks):
    """Highest proportional set size of each rank."""
    while process.poll() is None:
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.readlink(entry / "exe").endswith("/zrun") and b"OMPI_COMM_WORLD_RANK=" in (entry / "environ").read_bytes():
                    pss = int(re.search(r"^Pss:\s+(\d+) kB", (entry / "smaps_rollup").read_text(), re.M)[1]) << 10
                    peaks[entry.name] = max(peaks.get(entry.name, 0), pss)
            except (OSError, TypeError):
                continue
        time.sleep(0.1)


def dd(folder, size):
    path = folder / "dd.out"
    begin = time.time()
    subprocess.run(["dd", "if=/dev/zero", f"of={path}", "bs=8M", f"count={size // (8 << 20)}", "oflag=direct", "conv=fsync", "status=none"], check=True)
    seconds = time.time() - begin
    path.unlink()
    return size // (8 << 20) * (8 << 20) / seconds / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--tools", type=Path, default=ROOT / "build/release/bin")
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--batch", type=int, default=4, help="a rank")
    args = parser.parse_args()
    folder = args.folder.resolve() / "checkpoint-benchmark"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        write_model(folder / "model.onnx", args.layers, args.width)
        subprocess.run([args.tools / "zopt", "--zero-stage=3", f"--micro-batch={args.batch}", "--loss=mse", folder / "model.onnx", "-o", folder / "plan.mlir"], check=True, stderr=subprocess.DEVNULL)
        state = 12 * args.layers * args.width * args.width
        rates = [dd(folder, state)]
        command = [args.tools / "zrun", folder / "plan.mlir", "--nproc", args.ranks, "--threads", 1, "--init=normal:0.01", "--metrics", folder / "m", "--checkpoint-dir", folder / "D"]
        for number, more in enumerate((["--steps", args.steps, "--checkpoint-every", 3], ["--steps", 2 * args.steps, "--checkpoint-every", 3, "--resume"])):
            peaks = {}
            process = subprocess.Popen([str(c) for c in [*command, *more]], stderr=subprocess.PIPE, text=True)
            watcher = threading.Thread(target=watch, args=(process, peaks))
            watcher.start()
            stderr = process.communicate()[1]
            watcher.join()
            assert process.returncode == 0, stderr
            rates.append(dd(folder, state))
        events = [json.loads(line) for line in (folder / "m").read_text().splitlines()]
        saves = [e for e in events if e["event"] == "checkpoint"]
        steps = sorted(e["step_ms"] for e in events if e["event"] == "step")
        planned = events[0]["planned_peak"]
        print(json.dumps({
            "state_bytes": state, "ranks": args.ranks, "median_step_ms": round(steps[len(steps) // 2], 1), "stall_ms": [round(e["stall_ms"], 1) for e in saves],
            "save_seconds": [round(e["seconds"], 2) for e in saves], "write_MB_per_s": [round(e["bytes"] / e["write_seconds"] / 1e6) for e in saves], "dd_MB_per_s": [round(r) for r in rates],
            "planned_bytes_a_rank": planned["device"] + planned["host"], "of_it_for_checkpoints": planned["host"], "highest_pss_a_rank_while_loading_training_and_saving": sorted(peaks.values()),
        }, indent=1))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
