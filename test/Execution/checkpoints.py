"""I5 and what surrounds it: a run that was killed goes on with the same bits, on another world within I2; damaged, refused, kept and locked checkpoints."""
import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np

import tensors
from faults import limit_files
from harness import MODELS, Settings, add, bindings, compile_plan, environment, execute, expect_refusal, memoize, model_path, scratch, succeed, test

LONG = 1000000
TOTAL = 400  # steps of a run that is killed somewhere before its end
SHUFFLE = ("--shuffle", "--seed", "5")


@dataclasses.dataclass(frozen=True)
class Case:
    model: str = "gpt2-tiny"
    stage: int = 0
    precision: str = "fp32"
    ranks: int = 2
    batch: int = 4  # global
    comm: str = "local"
    flags: tuple = ()

    def plan(self):
        flags = [f"--zero-stage={self.stage}", f"--global-batch={self.batch}", f"--micro-batch={self.batch // self.ranks}", "--clip=1", *self.flags]
        return compile_plan(self.model, *flags, *([] if self.precision == "fp32" else [f"--{self.precision}"]))

    def command(self, *more):
        return ["zrun", self.plan(), "--nproc", self.ranks, f"--comm={self.comm}", "--threads", 1, "--data", MODELS / self.model / "batch.safetensors", *SHUFFLE, *more]


def events(path, kind):
    return [e for e in map(json.loads, Path(path).read_text().splitlines()) if e["event"] == kind]


def trajectory(path):
    """What a run did, step by step, without what depends on the clock."""
    return [{k: e[k] for k in ("step", "epoch", "samples", "loss", "grad_norm", "lr", "skipped")} for e in events(path, "step")]


@memoize
def uninterrupted(case, steps):
    folder = scratch("whole")
    succeed(case.command("--steps", steps, "--metrics", folder / "m", "--weights-out", folder / "w"), timeout=300)
    return trajectory(folder / "m"), tensors.load(folder / "w")


def assert_goes_on(case, folder, steps, *flags):
    """The run in `folder`, resumed and brought to `steps`, did what an uninterrupted one does."""
    done = succeed(case.command("--steps", steps, "--metrics", folder / "m", "--weights-out", folder / "w", "--checkpoint-dir", folder / "D", "--resume=auto", *flags), timeout=300)
    path, weights = uninterrupted(case, steps)
    mine = trajectory(folder / "m")
    assert [s["step"] for s in mine] == list(range(1, steps + 1)), f"every step once: {done}"
    for a, b in zip(path, mine):
        assert a == b, f"step {a['step']} differs: {a} uninterrupted, {b} resumed"
    differ = tensors.same_bits(weights, tensors.load(folder / "w"))
    assert not differ, f"{len(differ)} weights differ: {differ[:5]}"
    return done


class Training:
    """A zrun that trains until it is told otherwise; nothing survives the test."""

    def __init__(self, case, folder, *flags, steps=LONG, **extra):
        command = [str(c) for c in case.command("--steps", steps, "--metrics", folder / "m", "--checkpoint-dir", folder / "D", *flags)]
        command[0] = str(Settings.tools / command[0])
        self.folder = folder
        self.stderr_path = folder / "stderr"
        self.process = subprocess.Popen(command, env=environment(**extra), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(self.stderr_path, "a"), start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        from faults import descendants
        for pid in [*descendants(self.process.pid), self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()

    def stderr(self):
        return self.stderr_path.read_text()

    def count(self, kind):
        path = self.folder / "m"
        return path.read_text().count(f'"event":"{kind}"') if path.exists() else 0

    def wait_for(self, condition, what, seconds=60):
        deadline = time.time() + seconds * Settings.patience
        while not condition():
            assert self.process.poll() is None, f"ended early with code {self.process.returncode}, before {what}: {self.stderr()}"
            assert time.time() < deadline, f"no {what} in time: {self.stderr()}"
            time.sleep(0.002)

    def wait(self, seconds):
        try:
            return self.process.wait(seconds * Settings.patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs {seconds} s later: {self.stderr()}") from None


# ---------------------------------------------------------------------------------------------------------------------
# I5
# ---------------------------------------------------------------------------------------------------------------------

def killed_and_resumed(case, seed, kills=1):
    """kill -9 at random moments, saves included; the last resumed run ends at TOTAL."""
    folder, chance = scratch("kill"), random.Random(seed)
    for kill in range(kills):
        with Training(case, folder, "--checkpoint-every", 3, "--resume=auto") as run:
            run.wait_for(lambda: run.count("checkpoint") >= 1 + kill // 4, "a checkpoint")
            time.sleep(chance.random() * 0.05)
            if case.comm == "mpi":  # one rank dies; the others notice
                from faults import descendants, is_rank
                os.kill(chance.choice([p for p in descendants(run.process.pid) if is_rank(p)]), signal.SIGKILL)
                assert run.wait(20) == 3, f"exit code 3 after a rank died: {run.stderr()}"
            else:
                run.process.kill()
        reached = len(trajectory(folder / "m"))
        if reached >= TOTAL:
            break
    assert_goes_on(case, folder, max(TOTAL, reached + 10))


for stage in (0, 1, 2, 3):
    for precision in ("fp32", "bf16", "fp16"):
        add(f"I5/same world/stage{stage}/{precision}", killed_and_resumed, Case(stage=stage, precision=precision), stage, alone=True)
add("I5/same world/stage3/bf16, mpi", killed_and_resumed, Case(stage=3, precision="bf16", comm="mpi"), 7, alone=True)
add("I5/same world/small buckets, frozen norms", killed_and_resumed, Case(stage=3, precision="bf16", flags=("--bucket-bytes=32768", r"--freeze=.*\.ln_.*")), 8, alone=True)


@test("I5/many kills in one run", alone=True)
def many_kills():
    killed_and_resumed(Case(stage=2), 9, kills=50 if Settings.full else 8)


@test("I5/20 + 20 steps are 40, in the middle of an epoch and across its end")
def twenty_and_twenty():
    case, folder = Case(stage=1, batch=12), scratch("twenty")  # 13 steps an epoch
    succeed(case.command("--steps", 20, "--metrics", folder / "m", "--checkpoint-dir", folder / "D"))
    done = assert_goes_on(case, folder, 40)
    assert re.search(r"goes on from .*global_step20, after step 20", done.stderr), f"not said: {done}"
    assert [e["step"] for e in events(folder / "m", "restart")] == [20], "one restart record"
    assert (folder / "D" / "latest").read_text() == "global_step40\n"


@test("I5/other worlds and stages: 4 -> 2 -> 3 -> 1")
def other_worlds():
    folder, whole = scratch("worlds"), Case(ranks=1, batch=12)
    for number, (ranks, stage) in enumerate(((4, 3), (2, 1), (3, 2), (1, 0))):
        case = Case(ranks=ranks, stage=stage, batch=12)
        succeed(case.command("--steps", 8 * (number + 1), "--metrics", folder / "m", "--weights-out", folder / "w", "--checkpoint-dir", folder / "D", "--resume=auto"))
    path, weights = uninterrupted(whole, 32)
    mine = trajectory(folder / "m")
    assert [(s["step"], s["epoch"], s["samples"]) for s in mine] == [(s["step"], s["epoch"], s["samples"]) for s in path], "the same samples"
    worst = max(abs(a["loss"] - b["loss"]) / abs(a["loss"]) for a, b in zip(path, mine))
    assert worst <= 1e-5, f"losses differ by {worst:.3g} relative"


@test("I5/another stage and bucket size on the same world: the same bits")
def other_stage():
    folder = scratch("stage")
    for number, case in enumerate((Case(stage=0), Case(stage=3, flags=("--bucket-bytes=32768",)), Case(stage=1), Case(stage=2))):
        succeed(case.command("--steps", 10 * (number + 1), "--metrics", folder / "m", "--weights-out", folder / "w", "--checkpoint-dir", folder / "D", "--resume=auto"))
    path, weights = uninterrupted(Case(stage=0), 40)
    assert trajectory(folder / "m") == path, "another trajectory"
    assert not tensors.same_bits(weights, tensors.load(folder / "w")), "other weights"


@test("I5/another precision reads the masters")
def other_precision():
    folder = scratch("precision")
    succeed(Case(stage=3, precision="bf16").command("--steps", 5, "--weights-out", folder / "a", "--checkpoint-dir", folder / "D"))
    succeed(Case(ranks=1).command("--steps", 5, "--weights-out", folder / "b", f"--resume={folder / 'D'}"))
    assert not tensors.same_bits(tensors.load(folder / "a"), tensors.load(folder / "b")), "masters changed on their way"


# ---------------------------------------------------------------------------------------------------------------------
# What is in the folder
# ---------------------------------------------------------------------------------------------------------------------

SMALL = Case(model="mlp-tiny", ranks=2, batch=4)


def tags(folder):
    return sorted((p.name for p in folder.iterdir() if p.name.startswith("global_step")), key=lambda n: int(re.sub(r"\D", "", n)))


def saved(case=SMALL, steps=20, every=5, *flags):
    folder = scratch("saved")
    succeed(case.command("--steps", steps, "--metrics", folder / "m", "--weights-out", folder / "w", "--checkpoint-dir", folder / "D", "--checkpoint-every", every, *flags))
    return folder


@test("checkpoints/--keep: the newest stay, and nothing else is left")
def keep():
    left = tags(saved() / "D")
    assert left[-1] == "global_step20" and len(left) <= 2, f"two at most: {left}"
    folder = saved(SMALL, 20, 5, "--keep", 3)
    left = sorted(p.name for p in (folder / "D").iterdir())
    # A save that falls due while another is in flight comes a few steps later.
    assert left[-1] == "latest" and all(re.fullmatch(r"global_step\d+", name) for name in left[:-1]) and len(left) <= 4, f"unexpected: {left}"
    assert "global_step20" in left
    files = sorted(p.name for p in (folder / "D" / "global_step20").iterdir())
    assert files == ["index.json", "shard-00001-of-00002.safetensors", "shard-00002-of-00002.safetensors"], files


@test("checkpoints/shards are safetensors that hold the weights and masters")
def shards():
    folder = saved(Case(stage=3, precision="bf16"), 6, 6)
    weights = tensors.load(folder / "w")
    index = json.loads((folder / "D" / "global_step6" / "index.json").read_text())
    parts = [tensors.load(folder / "D" / "global_step6" / s["file"]) for s in index["shards"]]
    seen = 0
    for entry in index["tensors"]:
        if entry["role"] != "parameter":
            continue
        flat = [parts[shard][entry["name"]].reshape(-1) for shard, _, _ in entry["pieces"]]
        assert [b"".join(p.tobytes() for p in flat)] == [weights[entry["name"]].tobytes()], entry["name"]
        seen += 1
    assert seen == len(weights), f"{seen} of {len(weights)} weights"
    assert {"exp_avg", "exp_avg_sq"} == set(index["slots"])
    assert index["scalars"]["zopt.step"]["value"] == 6


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "a bit":
        data[-100] ^= 1
    elif how == "truncated":
        data = data[:-64]
    elif how == "header":
        data[20] ^= 1
    path.write_bytes(bytes(data))


def damaged(how, name):
    folder = saved(SMALL, 20, 10)
    victim = folder / "D" / "global_step20" / name
    victim.unlink() if how == "missing" else damage(victim, how)
    refused = execute(SMALL.command("--steps", 30, "--checkpoint-dir", folder / "D", "--resume"))
    expect_refusal(refused, 1, rf"{name}.*--resume=auto takes it|{name}")
    done = assert_goes_on(SMALL, folder, 30)
    if tags(folder / "D")[0] == "global_step10" or "goes back" in done.stderr:
        assert re.search(r"goes back to .*global_step10", done.stderr), f"not said: {done}"


for how, name in (("a bit", "shard-00002-of-00002.safetensors"), ("truncated", "shard-00001-of-00002.safetensors"), ("header", "shard-00001-of-00002.safetensors"), ("missing", "shard-00002-of-00002.safetensors"),
                  ("truncated", "index.json")):
    add(f"checkpoints/damaged newest/{name}: {how}", damaged, how, name)


@test("checkpoints/every one is damaged: auto does not begin anew over them")
def all_damaged():
    folder = saved(SMALL, 10, 10)
    damage(folder / "D" / "global_step10" / "shard-00001-of-00002.safetensors", "a bit")
    expect_refusal(execute(SMALL.command("--steps", 30, "--checkpoint-dir", folder / "D", "--resume=auto")), 1, r"damaged.*no other checkpoint")


@test("checkpoints/a folder that holds some is not written over without --resume")
def not_empty():
    folder = saved()
    expect_refusal(execute(SMALL.command("--steps", 30, "--checkpoint-dir", folder / "D")), 1, r"holds checkpoints already.*global_step20.*--resume")
    expect_refusal(execute(SMALL.command("--steps", 30, "--checkpoint-dir", scratch("empty"), "--resume")), 1, r"holds no checkpoint")
    expect_refusal(execute(SMALL.command("--steps", 30, f"--resume={scratch('empty')}")), 1, r"holds no checkpoint")


@test("checkpoints/--resume=D and D/TAG read only")
def read_only():
    folder = saved(SMALL, 20, 5, "--keep", 0)
    before = sorted(str(p) for p in (folder / "D").rglob("*"))
    first = tags(folder / "D")[0]
    for path in (folder / "D", folder / "D" / first):
        done = succeed(SMALL.command("--steps", 25, f"--resume={path}", "--weights-out", folder / "again"))
        assert not tensors.same_bits(tensors.load(folder / "again"), uninterrupted(SMALL, 25)[1]), f"other weights: {done}"
    assert sorted(str(p) for p in (folder / "D").rglob("*")) == before, "something was written"


@test("checkpoints/flags that cannot be meant")
def flags():
    for flag, pattern in ((("--checkpoint-every", 5), "--checkpoint-dir"), (("--resume",), "--checkpoint-dir"), (("--checkpoint-dir", "x", "--checkpoint-every", "5h"), "5h"),
                          (("--checkpoint-dir", "x", "--checkpoint-every", "0"), "0"), (("--max-restarts", 2), "--checkpoint-dir"), (("--resume=x", "--allow-change=colour"), "colour")):
        expect_refusal(execute(SMALL.command("--steps", 1, *flag), timeout=30), 2, pattern)


def changed(what, pattern, allowed, **changes):
    folder = saved(SMALL, 5, 5)
    other = dataclasses.replace(SMALL, **changes.get("case", {}))
    command = other.command("--steps", 8, "--checkpoint-dir", folder / "D", "--resume")
    for old, new in changes.get("replace", ()):
        command = [new if str(c) == old else c for c in command]
    expect_refusal(execute(command), 1, pattern, rf"--allow-change=(\w+,)?{what}")
    if allowed:
        done = succeed([*command, f"--allow-change={what}"])
        assert re.search(pattern, done.stderr), f"not said: {done}"


add("checkpoints/changes/global batch", changed, "batch", r"global batch is 8, but was 4", True, case=dict(batch=8))
add("checkpoints/changes/optimizer", changed, "optimizer", r"optimizer's state is .*, but was exp_avg, exp_avg_sq", True, case=dict(flags=("--optimizer=sgd", "--momentum=0.9")))
add("checkpoints/changes/seed of the shuffle", changed, "data", r"the seed is 6, but was 5", True, replace=(("5", "6"),))
add("checkpoints/changes/model", changed, "model", r"not in the checkpoint", False, case=dict(model="gpt2-tiny"))


# ---------------------------------------------------------------------------------------------------------------------
# One writer
# ---------------------------------------------------------------------------------------------------------------------

@test("checkpoints/one writer a folder; a dead one's lock is taken over and that is said", alone=True)
def lock():
    folder = scratch("lock")
    with Training(SMALL, folder, "--checkpoint-every", 50) as run:
        run.wait_for(lambda: run.count("checkpoint") > 0, "a checkpoint")
        expect_refusal(execute(SMALL.command("--steps", 30, "--checkpoint-dir", folder / "D", "--resume")), 1, rf"another run writes.*process {run.process.pid}")
        pid = run.process.pid
        run.process.kill()
        run.process.wait()
    done = succeed(SMALL.command("--steps", 1, "--checkpoint-dir", folder / "D", "--resume"))
    assert re.search(rf"takes over the lock of process {pid}", done.stderr), f"not said: {done}"
    assert not (folder / "D" / "lock").exists(), "the lock was left behind"
    # Another machine's lock is honoured while its lease runs, by the file's time.
    path = folder / "D" / "lock"
    path.write_text("elsewhere 17\n")
    expect_refusal(execute(SMALL.command("--steps", 1, "--checkpoint-dir", folder / "D", "--resume")), 1, r"process 17 on elsewhere.*lease")
    os.utime(path, (time.time() - 100, time.time() - 100))
    done = succeed(SMALL.command("--steps", 1, "--checkpoint-dir", folder / "D", "--resume"))
    assert re.search(r"takes over the lock of process 17 on elsewhere", done.stderr), f"not said: {done}"


# ---------------------------------------------------------------------------------------------------------------------
# Signals and restarts
# ---------------------------------------------------------------------------------------------------------------------

def saves_and_ends(number, comm, to_rank):
    """SIGTERM and SIGUSR2: finish the step, save, exit 143."""
    from faults import descendants, is_rank
    case, folder = dataclasses.replace(SMALL, comm=comm), scratch("signal")
    with Training(case, folder) as run:
        run.wait_for(lambda: run.count("step") >= 3, "three steps")
        os.kill([p for p in descendants(run.process.pid) if is_rank(p)][1] if to_rank else run.process.pid, number)
        code = run.wait(20)
        assert code == 143, f"expected exit code 143, but got {code}: {run.stderr()}"
    steps = len(trajectory(folder / "m"))
    assert [e["step"] for e in events(folder / "m", "checkpoint")] == [steps], f"one checkpoint, of step {steps}"
    assert tags(folder / "D") == [f"global_step{steps}"] and not (folder / "D" / "lock").exists()


for number in (signal.SIGTERM, signal.SIGUSR2):
    add(f"recovery/{number.name} saves and ends, local", saves_and_ends, number, "local", False, alone=True)
    add(f"recovery/{number.name} saves and ends, mpi", saves_and_ends, number, "mpi", False, alone=True)
add("recovery/SIGTERM to one rank saves and ends", saves_and_ends, signal.SIGTERM, "mpi", True, alone=True)
add("recovery/SIGUSR2 to one rank saves and ends", saves_and_ends, signal.SIGUSR2, "mpi", True, alone=True)


def saves_and_goes_on(comm, to_rank):
    from faults import descendants, is_rank
    case, folder = dataclasses.replace(SMALL, comm=comm), scratch("signal")
    with Training(case, folder) as run:
        run.wait_for(lambda: run.count("step") >= 3, "three steps")
        for asked in (1, 2):
            os.kill([p for p in descendants(run.process.pid) if is_rank(p)][1] if to_rank else run.process.pid, signal.SIGUSR1)
            run.wait_for(lambda: run.count("checkpoint") >= asked, f"checkpoint {asked}")
        before = run.count("step")
        run.wait_for(lambda: run.count("step") > before, "a further step")


add("recovery/SIGUSR1 saves and goes on, local", saves_and_goes_on, "local", False, alone=True)
add("recovery/SIGUSR1 saves and goes on, mpi", saves_and_goes_on, "mpi", False, alone=True)
add("recovery/SIGUSR1 to one rank saves and goes on", saves_and_goes_on, "mpi", True, alone=True)


def restarts(comm):
    from faults import descendants, is_rank
    case, folder = Case(stage=2, comm=comm), scratch("restart")
    with Training(case, folder, "--checkpoint-every", 20, "--max-restarts", 2) as run:
        for restart in (1, 2):
            run.wait_for(lambda: run.count("checkpoint") >= restart, "a checkpoint")
            victims = [p for p in descendants(run.process.pid) if comm == "local" or is_rank(p)]
            begin, before = time.time(), run.count("restart")
            os.kill(victims[0 if comm == "local" else restart % 2], signal.SIGKILL)
            run.wait_for(lambda: run.count("restart") > before, "a restart", 30)
            run.wait_for(lambda: '"event":"step"' in (folder / "m").read_text().rsplit('"event":"restart"', 1)[1], "a step after the restart", 30)
            assert time.time() - begin < 10 * Settings.patience, f"{time.time() - begin:.1f} s from death to training: {run.stderr()}"
        os.kill(run.process.pid, signal.SIGTERM)
        assert run.wait(20) == 143, f"exit code 143: {run.stderr()}"
        assert re.search(r"starts the ranks anew, 2 of 2 times", run.stderr()), run.stderr()
    reached = len(trajectory(folder / "m"))
    assert_goes_on(case, folder, reached + 5)


add("recovery/--max-restarts goes on after a rank died, mpi", restarts, "mpi", alone=True)
add("recovery/--max-restarts goes on after the ranks' process died, local", restarts, "local", alone=True)


@test("recovery/no restart is left: exit 3", alone=True)
def no_restart_left():
    from faults import descendants
    folder = scratch("restart")
    with Training(SMALL, folder, "--checkpoint-every", 20, "--max-restarts", 1) as run:
        for restart in (0, 1):
            run.wait_for(lambda: run.count("restart") >= restart and run.count("step") > 3, "training")
            os.kill(descendants(run.process.pid)[0], signal.SIGKILL)
        assert run.wait(20) == 3, f"exit code 3: {run.stderr()}"


# ---------------------------------------------------------------------------------------------------------------------
# Disks that fail
# ---------------------------------------------------------------------------------------------------------------------

def full_disk(comm):
    """Every save fails: three lines, exit 3, nothing half-written; what was there stays."""
    case, folder = dataclasses.replace(SMALL, comm=comm), saved(SMALL, 5, 5)
    before = {p.name: p.read_bytes() for p in (folder / "D" / "global_step5").iterdir()}
    done = execute(case.command("--steps", LONG, "--checkpoint-dir", folder / "D", "--checkpoint-every", 20, "--resume"), before=limit_files(4096))
    expect_refusal(done, 3, r"3 checkpoints in a row could not be saved.*last good one there stays")
    warnings = re.findall(r"warning: the checkpoint of step \d+ could not be saved: .*File too large", done.stderr)
    assert len(warnings) == 3, f"one line a save: {done}"
    assert sorted(p.name for p in (folder / "D").iterdir()) == ["global_step5", "latest"], "half-written files"
    assert before == {p.name: p.read_bytes() for p in (folder / "D" / "global_step5").iterdir()}, "the good one changed"


add("checkpoints/full disk, local", full_disk, "local")
add("checkpoints/full disk, mpi", full_disk, "mpi")


# ---------------------------------------------------------------------------------------------------------------------
# Tools, and weights alone
# ---------------------------------------------------------------------------------------------------------------------

@test("checkpoints/--checkpoint-every in minutes", alone=True)
def by_time():
    folder = scratch("minutes")
    with Training(SMALL, folder, "--checkpoint-every", "0.005min") as run:
        run.wait_for(lambda: run.count("checkpoint") >= 3, "three checkpoints")
    times = [e["time"] for e in events(folder / "m", "checkpoint")]
    assert min(b - a for a, b in zip(times, times[1:])) > 0.2, times


@test("checkpoints/zrun ckpt: info, verify, convert")
def tool():
    folder = saved(Case(stage=3, precision="bf16"), 6, 6)
    tag = folder / "D" / "global_step6"
    said = succeed(["zrun", "ckpt", "info", folder / "D"]).stdout
    assert re.search(r"step 6,.*2 shards", said) and "124672 parameters" in said and "24 of 160 samples, shuffled with seed 5" in said, said
    assert json.loads(succeed(["zrun", "ckpt", "info", "--json", tag]).stdout) == json.loads((tag / "index.json").read_text())
    assert f"a run would go on from {tag}" in succeed(["zrun", "ckpt", "verify", folder / "D"]).stdout
    succeed(["zrun", "ckpt", "convert", folder / "D", folder / "E" / "global_step6", "--shards", 5])
    assert len(list((folder / "E" / "global_step6").glob("shard-*-of-00005.safetensors"))) == 5
    case = Case(stage=1, precision="bf16", ranks=2)
    for path in (folder / "D", folder / "E"):
        succeed(case.command("--steps", 12, f"--resume={path}", "--weights-out", folder / f"w-{path.name}"))
    assert not tensors.same_bits(tensors.load(folder / "w-D"), tensors.load(folder / "w-E")), "the converted one trains otherwise"
    damage(tag / "shard-00001-of-00002.safetensors", "a bit")
    expect_refusal(execute(["zrun", "ckpt", "verify", folder / "D"]), 1, r"shard-00001.*is damaged")
    expect_refusal(execute(["zrun", "ckpt", "export", folder / "D", folder / "x"]), 1, r"shard-00001.*is damaged")
    expect_refusal(execute(["zrun", "ckpt", "info", folder / "nothing"]), 1, r"nothing.*not there")
    expect_refusal(execute(["zrun", "ckpt", "frobnicate"]), 2, "frobnicate|subcommand")


@test("checkpoints/export: the weights that --weights-out writes, under both kinds of names, sharded, rounded")
def export():
    folder = saved(Case(stage=3, precision="bf16"), 6, 6)
    succeed(Case(ranks=1).command("--steps", 6, f"--resume={folder / 'D'}", "--names=source", "--weights-out", folder / "source"))
    for names, expected in (("onnx", folder / "w"), ("source", folder / "source")):
        succeed(["zrun", "ckpt", "export", folder / "D", folder / names, f"--names={names}"])
        assert not tensors.same_bits(tensors.load(folder / names), tensors.load(expected)), names
    succeed(["zrun", "ckpt", "export", folder / "D", folder / "parts", "--names=source", "--dtype=bf16", "--shard-bytes=60000"])
    index = json.loads((folder / "parts" / "model.safetensors.index.json").read_text())
    files = {name: tensors.load(folder / "parts" / name) for name in set(index["weight_map"].values())}
    whole = tensors.load(folder / "source")
    assert len(files) > 3 and index["weight_map"].keys() == whole.keys(), index["weight_map"]
    assert index["metadata"]["total_size"] == sum(2 * t.size for t in whole.values())
    for name, file in index["weight_map"].items():
        bits = whole[name].view("uint32")
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).astype("uint32").view("float32")
        assert (files[file][name] == rounded).all(), name


@test("checkpoints/--weights reads sharded files, their folder, and a checkpoint's weights")
def weights_alone():
    folder = saved(Case(stage=3), 6, 6)
    succeed(["zrun", "ckpt", "export", folder / "D", folder / "parts", "--names=source", "--shard-bytes=60000"])
    for more in (["--weights", folder / "parts", "--names=source"], ["--weights", folder / "parts" / "model.safetensors.index.json", "--names=source"], ["--weights", folder / "D" / "global_step6"],
                 ["--weights", folder / "w"]):
        succeed(Case(stage=2, ranks=4).command("--steps", 3, "--weights-out", folder / "again", *more))
        assert not tensors.same_bits(tensors.load(folder / "again"), weights_alone_whole(folder)), f"other weights with {more}"
    some = tensors.load(folder / "w")
    gone = sorted(some)[0]
    some["stranger"] = some.pop(gone)
    tensors.save(folder / "some", some)
    command = Case(stage=2, ranks=4).command("--steps", 1, "--weights", folder / "some")
    expect_refusal(execute(command), 1, rf"has no tensor '{re.escape(gone)}'", r"--allow-change=model")
    done = succeed([*command, "--allow-change=model"])
    assert re.search(rf"has no tensor '{re.escape(gone)}'; .* keeps its first values", done.stderr) and re.search(r"1 tensors that the plan has not: 'stranger'", done.stderr), str(done)
    (folder / "parts" / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../x"}}')
    expect_refusal(execute(Case().command("--steps", 1, "--weights", folder / "parts")), 1, r"'a' is in no file beside it")


@memoize
def weights_alone_whole(folder):
    succeed(Case(stage=0, ranks=4).command("--steps", 3, "--weights-out", folder / "whole", "--weights", folder / "w"))
    return tensors.load(folder / "whole")


def forward(plan, *flags):
    folder = scratch("forward")
    succeed(["zrun", plan, "--comm=local", "--threads", 1, "--outputs", folder / "o", *flags])
    return tensors.load(folder / "o")


def export_onnx(model, *more):
    """The exported model computes what the plan computes with the checkpoint's weights; onnxruntime, where $ZOPT_ONNX_PYTHON names a Python that has it, agrees with both."""
    case = Case(model=model, stage=3, ranks=2, batch=4)
    folder = saved(case, 6, 6)
    source = model_path(model)
    succeed(["zrun", "ckpt", "export", folder / "D", folder / "trained.onnx", "--model", source, *more])
    data = MODELS / model / "batch.safetensors"
    flags = [*bindings(model), "--mode=forward", "--micro-batch=4"]
    plans = []
    for number, path in enumerate((source, folder / "trained.onnx")):
        plans.append(folder / f"forward{number}.mlir")
        succeed(["zopt", *flags, path, "-o", plans[-1]])
    with_weights, exported, untrained = forward(plans[0], "--weights", folder / "w", "--data", data), forward(plans[1], "--data", data), forward(plans[0], "--data", data)
    assert not tensors.same_bits(with_weights, exported), "other outputs"
    assert tensors.same_bits(untrained, exported), "training changed nothing"
    expected_files = ["trained.onnx", "trained.onnx.data"] if more else ["trained.onnx"]
    assert sorted(p.name for p in folder.iterdir() if "trained" in p.name) == expected_files, "left behind"
    if more:
        assert (folder / "trained.onnx").stat().st_size < 100000 < (folder / "trained.onnx.data").stat().st_size, "the weights are not beside the model"
    python = os.environ.get("ZOPT_ONNX_PYTHON")
    if python:
        script = f"""
import numpy, onnxruntime, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import tensors
session = onnxruntime.InferenceSession({str(folder / 'trained.onnx')!r}, providers=["CPUExecutionProvider"])
inputs = tensors.load({str(data)!r})
got = session.run(None, {{i.name: inputs[i.name][:4] for i in session.get_inputs()}})
tensors.save({str(folder / 'ort')!r}, {{o.name: g for o, g in zip(session.get_outputs(), got)}})
"""
        succeed([python, "-c", script])
        for name, values in tensors.load(folder / "ort").items():
            worst = abs(values - exported[name][:4]).max() / abs(values).max()
            assert worst < 1e-5, f"onnxruntime's {name} differs by {worst:.3g}"


add("checkpoints/export to ONNX: gpt2-tiny", export_onnx, "gpt2-tiny")
add("checkpoints/export to ONNX: the exporter that names nothing", export_onnx, "gpt2-tiny-ts")
add("checkpoints/export to ONNX: llama-tiny", export_onnx, "llama-tiny")
add("checkpoints/export to ONNX: weights in a file of their own", export_onnx, "gpt2-tiny", "--inline-bytes=100000")


@test("checkpoints/export to ONNX: another model is refused")
def export_onnx_other():
    folder = saved(SMALL, 5, 5)
    expect_refusal(execute(["zrun", "ckpt", "export", folder / "D", folder / "x.onnx", "--model", model_path("gpt2-tiny")]), 1, r"has no initializer 'fc1.weight'")
    assert not [p for p in folder.iterdir() if p.name.startswith("x.onnx")], "half-written"


@test("recovery/--nonfinite=rollback goes back to the last checkpoint and leaves out what came since")
def rollback():
    folder = scratch("rollback")
    data = {name: array.copy() for name, array in tensors.load(MODELS / "mlp-tiny" / "batch.safetensors").items()}
    floats = next(name for name, array in data.items() if array.dtype == "float32")
    data[floats][4 * 10 + 1] = float("nan")  # of step 11
    tensors.save(folder / "bad", data)

    def run(name, path, *more):
        return succeed(["zrun", SMALL.plan(), "--nproc", 2, "--comm=local", "--threads", 1, "--data", path, "--data-format=safetensors", "--metrics", folder / f"m-{name}", "--weights-out", folder / name, *more])

    done = run("back", folder / "bad", "--steps", 20, "--checkpoint-dir", folder / "D", "--checkpoint-every", 5, "--nonfinite=rollback")
    went = [e["step"] for e in events(folder / "m-back", "restart")]
    assert len(went) == 1 and 5 <= went[0] <= 11 and "goes back to" in done.stderr, f"one rollback: {went}, {done}"
    tensors.save(folder / "rest", {name: np.concatenate([array[:4 * went[0]], array[4 * 11:]]) for name, array in data.items()})
    run("without", folder / "rest", "--steps", 20)
    assert not tensors.same_bits(tensors.load(folder / "back"), tensors.load(folder / "without")), "other weights than without these batches"
    assert [s["skipped"] for s in events(folder / "m-back", "step")].count(True) == 1 and events(folder / "m-back", "end")[0]["steps"] == 20
    for step in range(20, 80):  # nothing but bad batches: it ends
        data[floats][4 * step + 1] = float("nan")
    tensors.save(folder / "worse", data)
    failed = execute(["zrun", SMALL.plan(), "--nproc", 2, "--comm=local", "--threads", 1, "--data", folder / "worse", "--data-format=safetensors", "--steps", 70, "--checkpoint-dir", folder / "E", "--checkpoint-every", 5,
                      "--nonfinite=rollback"])
    expect_refusal(failed, 3, r"10 times in a row the run went back to a checkpoint and did not come beyond step")
