"""run_distributed.py on two nodes, and a rank that stops while all evaluate."""
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np

import tensors
from harness import MODELS, Settings, compile_plan, environment, scratch, test
from jobs import JOB, SCRIPT, run_job, sft_data, steps_of
from launch import Hosts, Ranks, free_port


class Nodes:
    """run_distributed.py once a node, two ranks each, as a user starts it by hand in two terminals. Each has a folder of its own, as machines have, and node 0 writes what there is one of."""

    def __init__(self, job, address="127.0.0.1", prefix=lambda node: []):
        port = free_port()
        self.folders, self.processes = [], []
        for node in (0, 1):
            folder = scratch("node")
            sft_data(folder)
            (folder / "job.yaml").write_text(job)
            command = [*prefix(node), sys.executable, SCRIPT, "--config", "job.yaml", "--nproc_per_node", 2, "--nnodes", 2, "--node_rank", node, "--master_addr", address, "--master_port", port, "--tools", Settings.tools, "--", "--threads=1"]
            self.folders.append(folder)
            self.processes.append(subprocess.Popen([str(c) for c in command], cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(folder / "stderr", "w"), start_new_session=True))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            if process.poll() is None:
                process.terminate() # which ends its ranks, whose sessions are their own
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def errors(self):
        return "\n".join(f"--- node {i}: {(folder / 'stderr').read_text()}" for i, folder in enumerate(self.folders))

    def wait(self, seconds):
        deadline = time.time() + seconds * Settings.patience
        codes = []
        for process in self.processes:
            try:
                codes.append(process.wait(max(0.1, deadline - time.time())))
            except subprocess.TimeoutExpired:
                raise AssertionError(f"hangs after {seconds} s: {self.errors()}") from None
        return codes

    def ranks_of(self, node):
        """Process ids of the node's ranks."""
        found = []
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and os.readlink(f"/proc/{entry}/exe") == str(Settings.tools / "zrun") and os.readlink(f"/proc/{entry}/cwd") == str(self.folders[node]) and b"RANK=" in open(f"/proc/{entry}/environ", "rb").read():
                    found.append(int(entry))
            except OSError:
                continue
        return found


def check_bits(nodes):
    assert nodes.wait(180) == [0, 0], nodes.errors()
    one = scratch("job")
    sft_data(one)
    done = run_job(one, JOB, ranks=4)
    assert done.code == 0 and steps_of(nodes.folders[0]) == steps_of(one) and len(steps_of(one)) == 4, (done, nodes.errors())
    differ = tensors.same_bits(tensors.load(nodes.folders[0] / "w.safetensors"), tensors.load(one / "w.safetensors"))
    assert not differ, differ[:3]
    assert not (nodes.folders[1] / "m").exists(), "node 1 has written metrics too"


@test("jobs/run_distributed.py on two nodes: the bits of one", alone=True)
def two_nodes():
    # Shards are written where their ranks run: a folder that nodes share is what a checkpoint needs.
    shared = scratch("shared")
    with Nodes(JOB.replace("{dir: saved,", f"{{dir: {shared / 'saved'},")) as nodes:
        check_bits(nodes)
    assert (shared / "saved/global_step4").is_dir()


@test("jobs/run_distributed.py on two hosts (network namespaces): the bits of one", alone=True)
def two_hosts():
    shared = scratch("shared")
    with Hosts() as hosts, Nodes(JOB.replace("{dir: saved,", f"{{dir: {shared / 'saved'},"), address="10.77.0.1", prefix=lambda node: ["ip", "netns", "exec", hosts.names[node]]) as nodes:
        check_bits(nodes)


@test("jobs/run_distributed.py on two nodes: a rank that dies ends both", alone=True)
def node_dies():
    job = JOB.replace("max_steps: 4", "max_steps: 100000").replace("checkpoint: {dir: saved, every: 2}\n", "")
    with Nodes(job) as nodes:
        deadline = time.time() + 90 * Settings.patience
        while not (nodes.folders[0] / "m").exists() or '"step":2' not in (nodes.folders[0] / "m").read_text():
            assert time.time() < deadline and all(p.poll() is None for p in nodes.processes), f"no two steps: {nodes.errors()}"
            time.sleep(0.05)
        victims = nodes.ranks_of(1)
        assert len(victims) == 2, victims
        os.kill(victims[0], signal.SIGKILL)
        codes = nodes.wait(30)
        assert codes[0] == 3 and codes[1] == 137, f"{codes}: {nodes.errors()}"
        assert re.search(r"rank [23] has ended", (nodes.folders[0] / "stderr").read_text()), nodes.errors()
        assert not nodes.ranks_of(0) and not nodes.ranks_of(1), "ranks are left"


def long_evaluation():
    """A plan, and zrun's flags for an evaluation behind each step that takes so long that a rank can be stopped in it."""
    batch = tensors.load(MODELS / "gpt2-tiny/batch.safetensors")
    many = scratch("many") / "many.safetensors"
    tensors.save(many, {name: np.concatenate([array] * 4) for name, array in batch.items()})
    plan = compile_plan("gpt2-tiny", "--zero-stage=3", "--global-batch=4", "--eval")
    return plan, ("--eval-data", many, "--eval-every=1")


@test("evaluation/a rank that stops meanwhile: time-outs do not count; the others wait, and go on with the same bits when it does", alone=True)
def stops_in_evaluation():
    plan, flags = long_evaluation()
    evals = []
    for stop in (False, True):
        with Ranks(2, *flags, plan_of=lambda r: plan, steps=1, timeout=2) as run:
            if stop:
                run.train(1) # evaluation begins right behind the step's record
                os.kill(run.process(1).pid, signal.SIGSTOP)
                time.sleep(5)
                assert '"event":"eval"' not in run.metrics.read_text(), "it had evaluated before it stopped: take more data"
                assert all(p.poll() is None for _, p, _ in run.started), f"a rank has ended: {run.errors()}"
                os.kill(run.process(1).pid, signal.SIGCONT)
            assert run.wait() == [0, 0], run.errors()
            evals.append([(line["loss"], line["samples"]) for line in map(json.loads, run.metrics.read_text().splitlines()) if line["event"] == "eval"])
    assert len(evals[0]) == 1 and evals[0] == evals[1], evals


@test("evaluation/a rank that stops meanwhile and is killed: the other ends at once and names it", alone=True)
def ends_in_evaluation():
    plan, flags = long_evaluation()
    with Ranks(2, *flags, plan_of=lambda r: plan, steps=1, timeout=2) as run:
        run.train(1)
        os.kill(run.process(1).pid, signal.SIGSTOP)
        time.sleep(1)
        # What does not answer any more is killed, as a scheduler does it: its death is noticed at once.
        os.kill(run.process(1).pid, signal.SIGKILL)
        assert run.wait(10, but=(1,)) == [3, None], run.errors()
        assert re.search(r"rank 1 has ended", run.error(0)), run.errors()
