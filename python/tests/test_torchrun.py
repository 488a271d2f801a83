"""zrun --launcher=env under torchrun: ranks meet through its store, and its restarts go on from checkpoints. Needs torch and a build of zopt."""
import importlib.util
import json
import os
import subprocess
import sys
import time
import unittest
from pathlib import Path

from cases import MODEL, TOOLS, Case, needs_tools


def losses(path):
    return {e["step"]: (e["loss"], e["grad_norm"]) for e in map(json.loads, path.read_text().splitlines()) if e["event"] == "step"}


@unittest.skipUnless(importlib.util.find_spec("torch"), "torch is not installed")
@needs_tools
class Torchrun(Case):
    def setUp(self):
        super().setUp()
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMI", "SLURM_", "TORCHELASTIC_"))}
        self.env["XDG_CACHE_HOME"] = str(self.folder / "cache")
        self.plan = self.folder / "plan.mlir"
        self.run_to_end([TOOLS / "zopt", "--bind=seq=64", "--zero-stage=3", "--global-batch=4", MODEL / "model.onnx", "-o", self.plan])
        self.flags = [self.plan, "--threads", "1", "--data", MODEL / "batch.safetensors"]

    def run_to_end(self, command, code=0):
        done = subprocess.run(list(map(str, command)), env=self.env, capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, code, done.stderr[-4000:])
        return done

    def torchrun(self, *flags):
        return [sys.executable, "-m", "torch.distributed.run", "--no-python", *flags, TOOLS / "zrun", *self.flags, "--launcher=env"]

    def as_threads(self, steps):
        self.run_to_end([TOOLS / "zrun", *self.flags, "--comm=local", "--nproc", 2, "--steps", steps, "--metrics", self.folder / "local"])
        return losses(self.folder / "local")

    def test_ranks_meet_through_its_store(self):
        for name, flags in (("standalone", ["--standalone"]), ("static", ["--master-addr", "127.0.0.1", "--master-port", "29611"])):
            metrics = self.folder / name
            self.run_to_end([*self.torchrun("--nproc-per-node", "2", *flags), "--steps", 5, "--metrics", metrics])
            self.assertEqual(losses(metrics), self.as_threads(5))

    def test_its_restart_goes_on_from_a_checkpoint(self):
        metrics, checkpoints = self.folder / "m", self.folder / "D"
        command = [*self.torchrun("--nproc-per-node", "2", "--standalone", "--max-restarts", "1", "--monitor-interval", "0.1"), "--steps", "60", "--metrics", metrics, "--checkpoint-dir", checkpoints,
                   "--checkpoint-every", "10", "--keep", "2", "--resume=auto"]
        process = subprocess.Popen(list(map(str, command)), env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.addCleanup(self.end, process)
        deadline = time.time() + 120
        while not (checkpoints / "latest").exists():
            self.assertLess(time.time(), deadline)
            self.assertIsNone(process.poll())
            time.sleep(0.02)
        ranks = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and self.is_rank(p, process.pid)]
        self.assertEqual(len(ranks), 2)
        os.kill(ranks[0], 9)
        _, errors = process.communicate(timeout=240)
        self.assertEqual(process.returncode, 0, errors[-4000:])
        events = [json.loads(line) for line in metrics.read_text().splitlines()]
        self.assertTrue(any(e["event"] == "restart" for e in events), "the run did not go on from a checkpoint")
        self.assertEqual(losses(metrics), self.as_threads(60))

    @staticmethod
    def end(process):
        process.terminate()  # which torchrun passes on to its ranks
        process.communicate()

    @staticmethod
    def is_rank(process, agent):
        try:
            return os.readlink(process / "exe") == str(TOOLS / "zrun") and int((process / "stat").read_text().rsplit(")", 1)[1].split()[1]) == agent
        except OSError:
            return False


if __name__ == "__main__":
    unittest.main()
