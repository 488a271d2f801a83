"""Signals, dying ranks, full disks, wrong worlds: exit codes and messages of INTERFACE section 5, no hang, nothing half-written."""
import os
import re
import resource
import signal
import subprocess
import time
from pathlib import Path

import tensors
from harness import (MODELS, Settings, add, compile_plan, environment, execute, expect_refusal, memoize, model_path, read_metrics, scratch, succeed, test)

DATA = MODELS / "gpt2-tiny" / "batch.safetensors"
LONG = 1000000  # steps: more than any test waits for


def plan():
    return compile_plan("gpt2-tiny", "--zero-stage=3")


def descendants(pid):
    """Every process below `pid`, by parent."""
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def is_rank(pid):
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return os.readlink(f"/proc/{pid}/exe") == str(Settings.tools / "zrun") and any(v.startswith(b"OMPI_COMM_WORLD_RANK=") for v in variables)
    except OSError:
        return False


def rank_number(pid):
    return int(re.search(rb"OMPI_COMM_WORLD_RANK=(\d+)", Path(f"/proc/{pid}/environ").read_bytes()).group(1))


class Running:
    """A zrun that trains for ever; used as a context, so that nothing survives the test."""

    def __init__(self, comm, ranks, *flags):
        self.folder = scratch("fault")
        self.metrics, self.weights = self.folder / "metrics.jsonl", self.folder / "weights.safetensors"
        self.command = [str(c) for c in (Settings.tools / "zrun", plan(), "--nproc", ranks, f"--comm={comm}", "--threads", 1, "--data", DATA, "--steps", LONG,
                                         "--metrics", self.metrics, "--weights-out", self.weights, *flags)]
        self.ranks = ranks

    def __enter__(self):
        self.stderr_path = self.folder / "stderr"
        self.process = subprocess.Popen(self.command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=open(self.stderr_path, "w"), start_new_session=True)
        deadline = time.time() + 60 * Settings.patience
        while self.steps() < 3:
            assert self.process.poll() is None, f"ended early with code {self.process.returncode}: {self.stderr()}"
            assert time.time() < deadline, f"no three steps in time: {self.stderr()}"
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        for pid in [*descendants(self.process.pid), self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()

    def steps(self):
        return self.metrics.read_text().count('"event":"step"') if self.metrics.exists() else 0

    def stderr(self):
        return self.stderr_path.read_text()

    def rank_pids(self):
        pids = sorted((p for p in descendants(self.process.pid) if is_rank(p)), key=rank_number)
        assert len(pids) == self.ranks, f"expected {self.ranks} rank processes, but found {pids}"
        return pids

    def wait(self, seconds):
        begin = time.time()
        seconds *= Settings.patience
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs {seconds} s later: {self.stderr()}") from None
        left = [p for p in descendants(self.process.pid)]
        assert not left, f"processes were left behind: {left}"
        return code, time.time() - begin


@memoize
def weights_after(steps):
    folder = scratch("fault")
    succeed(["zrun", plan(), "--nproc", 2, "--comm=local", "--threads", 1, "--data", DATA, "--steps", steps, "--weights-out", folder / "w"])
    return tensors.load(folder / "w")


def interrupted(comm, number, to_rank, code):
    """All ranks stop after the same step; metrics and weights are those of a run of that many steps."""
    with Running(comm, 2) as run:
        target = run.rank_pids()[1] if to_rank else run.process.pid
        os.kill(target, number)
        got, _ = run.wait(20)
        assert got == code, f"expected exit code {code}, but got {got}: {run.stderr()}"
        _, steps, ends = read_metrics(run.metrics)
        assert len(ends) == 1 and ends[0]["steps"] == len(steps), f"one end record with {len(steps)} steps: {ends}"
        assert run.weights.exists(), f"no weights were written: {run.stderr()}"
        differ = tensors.same_bits(tensors.load(run.weights), weights_after(len(steps)))
        assert not differ, f"weights are not those of {len(steps)} steps: {differ[:3]}"


for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
    add(f"signals/{number.name} to the launcher, local", interrupted, "local", number, False, code, alone=True)
    add(f"signals/{number.name} to the launcher, mpi", interrupted, "mpi", number, False, code, alone=True)
    add(f"signals/{number.name} to a rank, mpi", interrupted, "mpi", number, True, code, alone=True)


def two_interrupts(comm):
    with Running(comm, 2) as run:
        os.kill(run.process.pid, signal.SIGINT)
        os.kill(run.process.pid, signal.SIGINT)
        time.sleep(0.2)
        if run.process.poll() is None:
            os.kill(run.process.pid, signal.SIGINT)
        code, seconds = run.wait(10)
        assert code == 130, f"expected exit code 130, but got {code}: {run.stderr()}"


add("signals/a second SIGINT ends at once, local", two_interrupts, "local", alone=True)
add("signals/a second SIGINT ends at once, mpi", two_interrupts, "mpi", alone=True)


@test("faults/kill -9 of a rank: exit 3 within 10 s, the rank named, survivors say where they stood", alone=True)
def kill_rank():
    with Running("mpi", 4) as run:
        os.kill(run.rank_pids()[2], signal.SIGKILL)
        code, seconds = run.wait(10)
        text = run.stderr()
        assert code == 3, f"expected exit code 3, but got {code}: {text}"
        assert re.search(r"rank 2.*killed by signal 9 \(Killed\), not for lack of memory", text), f"rank 2 is not named: {text}"
        for survivor in (0, 1, 3):
            assert re.search(rf"rank {survivor}\b.*(gather|reduce|norm|publish|scalars|collective|barrier)", text), f"rank {survivor} does not say where it stood: {text}"
        assert not run.weights.exists(), "weights of a failed run were written"


@test("faults/a rank that hangs: the time-out names the collective", alone=True)
def hanging_rank():
    with Running("mpi", 3, "--timeout", 3) as run:
        os.kill(run.rank_pids()[1], signal.SIGSTOP)
        code, seconds = run.wait(30)
        text = run.stderr()
        assert code == 3, f"expected exit code 3, but got {code}: {text}"
        assert re.search(r"rank [02]\b.*(gather|reduce|norm|publish|scalars|collective|barrier)", text), f"no rank says where it stood: {text}"


# ---------------------------------------------------------------------------------------------------------------------
# Disks
# ---------------------------------------------------------------------------------------------------------------------

def limit_files(size):
    """No file may grow past `size`: what a full disk does, for this process and its children alone."""
    def before():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return before


def nothing_but(folder, *names):
    left = sorted(p.name for p in folder.iterdir())
    assert set(left) <= set(names), f"half-written files: {left}"


@test("disk full/zopt's output")
def full_zopt():
    folder = scratch("full")
    expect_refusal(execute(["zopt", model_path("gpt2-tiny"), "-o", folder / "plan.mlir"], before=limit_files(4096)), 3, r"plan\.mlir")
    nothing_but(folder)


def full_zrun(flag, size, comm):
    folder = scratch("full")
    command = ["zrun", compile_plan("mlp-tiny", "--micro-batch=2"), "--nproc", 2, f"--comm={comm}", "--threads", 1, "--data", MODELS / "mlp-tiny" / "batch.safetensors", "--steps", 80]
    succeed([*command[:-1], 1])  # what it compiles is cached before the disk fills
    done = execute([*command, flag, folder / "output"], before=limit_files(size))
    expect_refusal(done, 3, r"output")
    nothing_but(folder, "output" if flag == "--metrics" else "")  # metrics are written line by line


for comm in ("local", "mpi"):
    add(f"disk full/--weights-out, {comm}", full_zrun, "--weights-out", 100000, comm)
    add(f"disk full/--metrics, {comm}", full_zrun, "--metrics", 2000, comm)
add("disk full/--gradients-out", full_zrun, "--gradients-out", 100000, "local")


@test("faults/outputs in a folder that is not there: refused before the first step")
def unwritable():
    folder = scratch("full")
    for flag in ("--weights-out", "--metrics", "--trace", "--save-plan"):
        done = execute(["zrun", compile_plan("mlp-tiny", "--micro-batch=2"), "--comm=local", "--steps", 1, flag, folder / "nowhere" / "file"], timeout=30)
        expect_refusal(done, 3, r"nowhere")


# ---------------------------------------------------------------------------------------------------------------------
# Worlds
# ---------------------------------------------------------------------------------------------------------------------

def mpirun(ranks, *command):
    return ["mpirun", "--oversubscribe", "-n", ranks, Settings.tools / "zrun", *command]


def lone(variable):
    done = execute(["zrun", compile_plan("mlp-tiny", "--micro-batch=2"), "--steps", 1], timeout=30, **{variable: "4"})
    assert done.code in (1, 2, 3), f"a lone rank ran: {done}"
    expect_refusal(done, done.code, variable)


for variable in ("OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS", "PMI_SIZE", "WORLD_SIZE"):
    add(f"worlds/alone although {variable} is 4", lone, variable)


@test("worlds/joins mpirun's job")
def joins():
    folder = scratch("world")
    succeed(mpirun(3, compile_plan("mlp-tiny", "--micro-batch=2"), "--data", MODELS / "mlp-tiny" / "batch.safetensors", "--steps", 2, "--metrics", folder / "m"))
    starts, steps, _ = read_metrics(folder / "m")
    assert starts[0]["nproc"] == 3 and len(steps) == 2, f"3 ranks and 2 steps: {starts}, {steps}"


@test("worlds/mpirun's job and --nproc disagree")
def disagree():
    done = execute(mpirun(2, compile_plan("mlp-tiny", "--micro-batch=2"), "--nproc", 3, "--steps", 1), timeout=30)
    assert done.code != 0 and re.search(r"error:.*\b3\b", done.stderr), f"not refused: {done}"


def wrong_world(comm):
    final = compile_plan("mlp-tiny", "--micro-batch=2", "--nproc=2", "--threads=1")
    expect_refusal(execute(["zrun", final, "--nproc", 3, f"--comm={comm}", "--threads", 1, "--steps", 1], timeout=30), 1, r"\b2\b.*\b3\b|\b3\b.*\b2\b")


add("worlds/a final plan on another world size, local", wrong_world, "local")
add("worlds/a final plan on another world size, mpi", wrong_world, "mpi")


@test("worlds/a global batch that the ranks do not divide names the nearest that do")
def indivisible():
    done = execute(["zrun", compile_plan("gpt2-tiny", "--global-batch=8"), "--nproc", 3, "--comm=local", "--steps", 1], timeout=30)
    expect_refusal(done, 1, r"8.*3.*\b2\b.*\b4\b")


def damaged_cache(suffix, damage):
    """A machine that lost its power may have kept half of a compiled program: it is made anew."""
    folder, cache, plan = scratch("cache"), scratch("cache"), compile_plan("mlp-tiny")
    command = ["zrun", plan, "--comm=local", "--threads=1", "--data", MODELS / "mlp-tiny/batch.safetensors", "--steps=2", "--cache-dir", cache, "--weights-out"]
    succeed([*command, folder / "first"])
    file, = cache.glob("*" + suffix)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    succeed([*command, folder / "second"])
    assert (folder / "first").read_bytes() == (folder / "second").read_bytes()
    assert file.read_bytes() == whole, "the damaged file stays"


for suffix in (".program", ".so"):
    for how, damage in (("empty", lambda whole: b""), ("cut", lambda whole: whole[:-8]), ("changed", lambda whole: whole[:len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1:])):
        add(f"faults/a compiled program in the cache is {how}: {suffix}", damaged_cache, suffix, damage)
