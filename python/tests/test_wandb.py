"""scripts/wandb_bridge.py with the real package in its offline mode: what it leaves in the run's file."""
import json
import os
import struct
import subprocess
import sys
import unittest
from pathlib import Path

from cases import ROOT, Case

try:
    import wandb
    from wandb.proto import wandb_internal_pb2
except ImportError:
    wandb = None

BRIDGE = ROOT / "scripts/wandb_bridge.py"
RECORDS = [
    {"event": "start", "time": 1.0, "plan": "abc", "nproc": 2, "comm": "mpi", "target": "cpu", "planned_peak": {"device": 9, "host": 0, "file": 0}, "parameters": 5, "buckets": 1},
    {"event": "step", "time": 2.0, "step": 1, "epoch": 0, "samples": 8, "loss": 2.5, "grad_norm": 1.5, "lr": 0.001, "skipped": False, "step_ms": 2.0, "samples_per_s": 4000.0},
    {"event": "step", "time": 3.0, "step": 2, "epoch": 0, "samples": 16, "loss": 2.25, "grad_norm": 1.25, "lr": 0.001, "skipped": False, "step_ms": 2.0, "samples_per_s": 4000.0},
    {"event": "eval", "time": 3.5, "step": 2, "loss": 2.125, "perplexity": 8.37, "accuracy": 0.5, "labels": 64, "samples": 4, "seconds": 0.1},
    {"event": "end", "time": 4.0, "steps": 2, "measured_peak": {"device": 9, "host": 0, "file": 0}, "seconds": 3.0},
]


def records_of(path):
    """The protocol buffers of a .wandb file: LevelDB's log, blocks of 32 KiB, behind a header of 7 bytes."""
    data, at, part = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B", data[:7]
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        if kind == 0:
            break
        part = (b"" if kind in (1, 2) else part) + data[at + 7:at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            yield record


@unittest.skipIf(wandb is None, "the package wandb is not installed")
class Bridge(Case):
    def test_offline(self):
        folder = str(self.folder)
        environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_DIR": folder, "WANDB_CACHE_DIR": folder, "WANDB_CONFIG_DIR": folder, "WANDB_DATA_DIR": folder, "WANDB_SILENT": "true"}
        done = subprocess.run([sys.executable, str(BRIDGE), "--project", "p", "--name", "first"], input="".join(json.dumps(r) + "\n" for r in RECORDS), env=environment, text=True,
                              capture_output=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        file, = Path(folder).glob("wandb/offline-run-*/*.wandb")
        history, config, summary, run = [], {}, {}, None
        for record in records_of(file):
            kind = record.WhichOneof("record_type")
            if kind == "history":
                history.append({(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in record.history.item} | {"at": record.history.step.num})
            elif kind == "config":
                config |= {item.key: item.value_json for item in record.config.update}
            elif kind == "summary":
                summary |= {item.key: item.value_json for item in record.summary.update}
            elif kind == "run":
                run = record.run
        self.assertEqual((run.project, run.display_name), ("p", "first"))
        self.assertEqual(json.loads(config["plan"]), "abc")
        self.assertEqual([row["at"] for row in history], [8, 16])
        self.assertEqual([row["Train/Samples/train_loss"] for row in history], [2.5, 2.25])
        self.assertEqual([row["zopt/step"] for row in history], [1, 2])
        # What is logged at one step is one row there.
        self.assertEqual((history[1]["Eval/Samples/eval_loss"], history[1]["Eval/Samples/eval_accuracy"]), (2.125, 0.5))
        self.assertEqual(json.loads(summary["seconds"]), 3.0)


if __name__ == "__main__":
    unittest.main()
