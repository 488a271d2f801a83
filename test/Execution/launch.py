"""--launcher=env: ranks that anything starts meet over TCP: the bits of threads; who is missing, dead, doubled or of another world is named; signals; resuming; hosts that die or are cut off."""
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import tensors
from harness import MODELS, Settings, Skip, add, compile_plan, environment, execute, expect_refusal, memoize, read_metrics, scratch, succeed, test

DATA = MODELS / "gpt2-tiny" / "batch.safetensors"
LONG = 1000000


def plan(stage=3):
    return compile_plan("gpt2-tiny", f"--zero-stage={stage}", "--clip=1", "--global-batch=4")


def free_port():
    with socket.socket() as s:
        s.bind(("", 0))
        return s.getsockname()[1]


class Ranks:
    """zrun --launcher=env, once a rank, as a script would start it. `prefix(rank)` comes before the command, `variables(rank)` change the environment, `flags(rank)` are added."""

    def __init__(self, world, *flags, address="127.0.0.1", ranks=None, prefix=lambda r: [], variables=lambda r: {}, more=lambda r: [], plan_of=lambda r: plan(), steps=LONG, timeout=60):
        self.folder = scratch("env")
        self.world = world
        self.metrics, self.weights = self.folder / "m", self.folder / "w"
        port = free_port()
        self.started = []
        for rank in range(world) if ranks is None else ranks:
            env = dict(environment(), RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank), MASTER_ADDR=address, MASTER_PORT=str(port))
            env.update(variables(rank))
            command = [*prefix(rank), Settings.tools / "zrun", plan_of(rank), "--launcher=env", "--threads", 1, "--data", DATA, "--steps", steps, "--timeout", timeout,
                       "--metrics", self.metrics, "--weights-out", self.weights, *flags, *more(rank)]
            log = open(self.folder / f"stderr{len(self.started)}", "w+")
            self.started.append((rank, subprocess.Popen([str(c) for c in command], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True), log))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for _, process, log in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            log.close()

    def process(self, rank):
        return next(p for r, p, _ in self.started if r == rank)

    def error(self, index):
        return (self.folder / f"stderr{index}").read_text()

    def errors(self):
        return "\n".join(f"--- {r}: {self.error(i)}" for i, (r, _, _) in enumerate(self.started))

    def train(self, steps=3):
        deadline = time.time() + 60 * Settings.patience
        while (self.metrics.read_text().count('"event":"step"') if self.metrics.exists() else 0) < steps:
            assert time.time() < deadline and all(p.poll() is None for _, p, _ in self.started), f"no {steps} steps: {self.errors()}"
            time.sleep(0.02)

    def wait(self, seconds=60, but=()):
        """Exit codes in the order of the start."""
        deadline = time.time() + seconds * Settings.patience
        codes = []
        for rank, process, _ in self.started:
            if rank in but:
                codes.append(None)
                continue
            try:
                codes.append(process.wait(max(0.1, deadline - time.time())))
            except subprocess.TimeoutExpired:
                raise AssertionError(f"hangs: rank {rank} still runs after {seconds} s: {self.errors()}") from None
        return codes

    def refused(self, code, pattern, only=None, seconds=30):
        """Every process (or those of these ranks) ends with this code and one line that says why."""
        for index, ((rank, _, _), got) in enumerate(zip(self.started, self.wait(seconds))):
            if only is not None and rank not in only:
                continue
            lines = [line for line in self.error(index).splitlines() if "error:" in line]
            assert got == code and len(lines) == 1 and re.search(pattern, lines[0]), f"rank {rank} ended with code {got}, expected {code} and one line like /{pattern}/: {self.errors()}"


# ---------------------------------------------------------------------------------------------------------------------
# I1: the bits of threads
# ---------------------------------------------------------------------------------------------------------------------

@memoize
def as_threads(stage, ranks, steps):
    folder = scratch("threads")
    succeed(["zrun", plan(stage), "--nproc", ranks, "--comm=local", "--threads", 1, "--data", DATA, "--steps", steps, "--metrics", folder / "m", "--weights-out", folder / "w"])
    return [(s["loss"], s["grad_norm"]) for s in read_metrics(folder / "m")[1]], tensors.load(folder / "w")


def assert_bits_of_threads(run, stage, ranks):
    starts, steps, ends = read_metrics(run.metrics)
    losses, weights = as_threads(stage, ranks, len(steps))
    assert starts[0]["comm"] == "gloo" and starts[0]["nproc"] == ranks, f"a start record of {ranks} ranks by gloo: {starts}"
    assert starts[0]["planned_peak"] == ends[0]["measured_peak"], f"planned and measured peak differ: {starts} {ends}"
    assert [(s["loss"], s["grad_norm"]) for s in steps] == losses, "losses or norms are not those of threads"
    differ = tensors.same_bits(tensors.load(run.weights), weights)
    assert not differ, f"weights are not those of threads: {differ[:3]}"


def same_bits(stage, ranks):
    with Ranks(ranks, steps=10, plan_of=lambda r: plan(stage)) as run:
        assert run.wait() == [0] * ranks, run.errors()
        assert_bits_of_threads(run, stage, ranks)


for stage, ranks in ((0, 2), (1, 2), (2, 4), (3, 4)):
    add(f"env/I1 stage {stage} on {ranks} ranks: the bits of threads", same_bits, stage, ranks)


@test("env/a world of one needs no place to meet")
def alone():
    folder = scratch("env")
    succeed(["zrun", plan(), "--launcher=env", "--threads", 1, "--data", DATA, "--steps", 2, "--weights-out", folder / "w"], RANK="0", WORLD_SIZE="1")
    assert (folder / "w").exists()


# ---------------------------------------------------------------------------------------------------------------------
# What is refused
# ---------------------------------------------------------------------------------------------------------------------

@test("env/variables that are missing are all named")
def missing():
    expect_refusal(execute(["zrun", plan(), "--launcher=env"], RANK="0", MASTER_PORT="http"), 2, r"WORLD_SIZE is not set.*MASTER_ADDR is not set.*MASTER_PORT is 'http'")


for name, flags, pattern in (("--max-restarts", ("--checkpoint-dir", "D", "--max-restarts", 1), r"--max-restarts.*--resume=auto"), ("--nproc", ("--nproc", 3), r"--nproc is 3, but WORLD_SIZE is 2"),
                             ("--comm=mpi", ("--comm=mpi",), r"--comm is mpi"), ("--comm=local", ("--comm=local",), r"--comm is local")):
    @test(f"env/refuses {name}")
    def refuses(flags=flags, pattern=pattern):
        expect_refusal(execute(["zrun", plan(), "--launcher=env", *flags], RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="1"), 2, pattern)


@test("env/refuses --comm=gloo without it, and advises it to a lone rank")
def without():
    expect_refusal(execute(["zrun", plan(), "--comm=gloo"]), 2, "--launcher=env")
    expect_refusal(execute(["zrun", plan(), "--steps", 1], WORLD_SIZE="4"), 2, "WORLD_SIZE.*--launcher=env")


@test("env/two processes with one RANK: every rank says so")
def doubled():
    with Ranks(3, ranks=(0, 1, 1)) as run:
        run.refused(2, r"two processes have RANK=1: process \d+ of \S+ and process \d+ of")


@test("env/different WORLD_SIZE: every rank says so")
def other_world():
    with Ranks(2, variables=lambda r: {"WORLD_SIZE": str(2 + r)}) as run:
        run.refused(2, r"WORLD_SIZE is 2 for rank 0 .*but 3 for rank 1")


@test("env/different plans: every rank says so")
def other_plan():
    with Ranks(2, plan_of=lambda r: plan(3 * r)) as run:
        run.refused(1, r"rank 1's plan is another than rank 0's")


@test("env/different flags: every rank says so")
def other_flags():
    with Ranks(2, more=lambda r: ["--seed", r]) as run:
        run.refused(2, r"rank 1 was given other flags than rank 0: --seed is 1 there, and 0 for rank 0")


@test("env/a rank that never comes: the time-out names it")
def never():
    with Ranks(3, ranks=(0, 2), timeout=2) as run:
        run.refused(3, r"timed out after 2 s, nothing has arrived from rank 1 at 127\.0\.0\.1")


@test("env/rank 0 never comes: the time-out names the place")
def never_first():
    with Ranks(2, ranks=(1,), timeout=2) as run:
        run.refused(3, r"timed out after 2 s, rank 0 is not to be found at 127\.0\.0\.1:\d+: Connection refused")


@test("env/MASTER_PORT is held by another program")
def held():
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        with Ranks(2, ranks=(0,), variables=lambda r: {"MASTER_PORT": str(other.getsockname()[1])}) as run:
            run.refused(3, r"cannot listen on MASTER_PORT \d+.*Address already in use")


@test("env/a rank that finds something wrong ends all, and tells it once")
def wrong_input():
    with Ranks(2, more=lambda r: ["--weights", "/nowhere"] if r == 1 else []) as run:
        codes = run.wait()
        assert codes == [1, 1] and run.errors().count("error:") == 1 and "rank 1" in run.error(1), run.errors()


# ---------------------------------------------------------------------------------------------------------------------
# Deaths and signals
# ---------------------------------------------------------------------------------------------------------------------

@test("env/kill -9 of a rank: exit 3 within 10 s, everybody names it", alone=True)
def killed():
    with Ranks(4) as run:
        run.train()
        os.kill(run.process(2).pid, signal.SIGKILL)
        codes = run.wait(10, but=(2,))
        assert [c for c in codes if c is not None] == [3, 3, 3], run.errors()
        for rank in (0, 1, 3):
            assert re.search(rf"error: rank {rank}: .*: rank 2 has ended", run.error(rank)), f"rank {rank} does not name rank 2: {run.errors()}"
        assert not run.weights.exists(), "weights of a failed run were written"


@test("env/a rank that hangs: the time-out names the collective and the rank", alone=True)
def hangs():
    with Ranks(4, timeout=3) as run:
        run.train()
        os.kill(run.process(1).pid, signal.SIGSTOP)
        codes = run.wait(30, but=(1,))
        assert [c for c in codes if c is not None] == [3, 3, 3], run.errors()
        assert re.search(r"(gather|reduce|norm|publish|scalars|barrier).*: timed out after 3 s, nothing has arrived from rank 1\b", run.errors()), run.errors()


def stopped(number, rank, code):
    with Ranks(2, plan_of=lambda r: plan(3)) as run:
        run.train()
        os.kill(run.process(rank).pid, number)
        assert run.wait(20) == [code, code], run.errors()
        assert_bits_of_threads(run, 3, 2)


for number, rank, code in ((signal.SIGTERM, 1, 143), (signal.SIGUSR2, 0, 143), (signal.SIGINT, 1, 130)):
    add(f"env/{number.name} to rank {rank}: all end after the same step", stopped, number, rank, code, alone=True)


@test("env/SIGTERM while others are awaited ends the rank")
def stopped_early():
    with Ranks(2, ranks=(0,)) as run:
        time.sleep(1.5)
        run.process(0).send_signal(signal.SIGTERM)
        assert run.wait(10) in ([143], [-signal.SIGTERM]), run.errors()


@test("env/SIGUSR1 saves and goes on; a killed run goes on from there with the same bits", alone=True)
def resumed():
    checkpoints = scratch("env") / "D"
    flags = ("--checkpoint-dir", checkpoints, "--resume=auto")
    with Ranks(2, *flags) as run:
        run.train()
        run.process(1).send_signal(signal.SIGUSR1)
        deadline = time.time() + 30 * Settings.patience
        while not (checkpoints / "latest").exists():
            assert time.time() < deadline, f"no checkpoint: {run.errors()}"
            time.sleep(0.02)
        os.kill(run.process(0).pid, signal.SIGKILL)
        assert run.wait(10, but=(0,)) == [None, 3], run.errors()
    at = int((checkpoints / "latest").read_text().strip().removeprefix("global_step"))
    with Ranks(2, *flags, steps=at + 5) as run:
        assert run.wait() == [0, 0], run.errors()
        losses, weights = as_threads(3, 2, at + 5)
        assert [(s["loss"], s["grad_norm"]) for s in read_metrics(run.metrics)[1]] == losses[at:], "other losses after resuming"
        differ = tensors.same_bits(tensors.load(run.weights), weights)
        assert not differ, f"other weights after resuming: {differ[:3]}"


# ---------------------------------------------------------------------------------------------------------------------
# Hosts: network namespaces, one for each and one between them
# ---------------------------------------------------------------------------------------------------------------------

def ip(*words):
    return subprocess.run(["ip", *map(str, words)], capture_output=True, text=True)


class Hosts:
    """Two network namespaces that see each other through a pair of interfaces; 10.77.0.1 and 10.77.0.2."""

    def __enter__(self):
        self.names = [f"zopt-{os.getpid()}-{id(self) & 0xffff}-{i}" for i in (1, 2)]
        links = [f"zv{os.getpid() % 100000}{i}" for i in (1, 2)]
        self.links = links
        if not shutil.which("ip"):
            raise Skip("no ip (iproute2)")
        for name in self.names:
            made = ip("netns", "add", name)
            if made.returncode:
                self.__exit__()
                raise Skip(f"network namespaces are not permitted: {made.stderr.strip()}")
        made = ip("link", "add", links[0], "netns", self.names[0], "type", "veth", "peer", "name", links[1], "netns", self.names[1])
        if made.returncode:
            self.__exit__()
            raise Skip(f"interfaces are not permitted: {made.stderr.strip()}")
        for i, (name, link) in enumerate(zip(self.names, links)):
            for words in (("addr", "add", f"10.77.0.{i + 1}/24", "dev", link), ("link", "set", link, "up"), ("link", "set", "lo", "up")):
                assert ip("-n", name, *words).returncode == 0
        return self

    def __exit__(self, *_):
        for name in self.names:
            ip("netns", "del", name)

    def cut(self):
        assert ip("-n", self.names[1], "link", "set", self.links[1], "down").returncode == 0

    def ranks(self, *flags, **options):
        """Ranks 0 and 1 on the first host, 2 and 3 on the second; the first pair meets by its loopback as well."""
        return Ranks(4, *flags, address="10.77.0.1", prefix=lambda r: ["ip", "netns", "exec", self.names[r // 2]],
                     variables=lambda r: {"LOCAL_RANK": str(r % 2), "LOCAL_WORLD_SIZE": "2", **({"MASTER_ADDR": "127.0.0.1"} if r == 1 else {})}, **options)


@test("hosts/2 x 2 ranks in network namespaces: the bits of threads", alone=True)
def two_hosts():
    with Hosts() as hosts, hosts.ranks(steps=10) as run:
        assert run.wait() == [0] * 4, run.errors()
        assert_bits_of_threads(run, 3, 4)


@test("hosts/a host dies: its link goes down and its ranks are killed; the others end in time and name them", alone=True)
def host_dies():
    with Hosts() as hosts, hosts.ranks(timeout=4) as run:
        run.train()
        hosts.cut()
        for rank in (2, 3):
            os.killpg(run.process(rank).pid, signal.SIGKILL)
        codes = run.wait(20, but=(2, 3))
        assert codes[:2] == [3, 3], run.errors()
        for rank in (0, 1):
            assert re.search(r"(timed out after 4 s, nothing has arrived from rank (2, 3|3, 2|2|3)|rank [23].* has ended|rank [01] has ended)", run.error(rank)), run.errors()


@test("hosts/a network that is cut: all ranks end in time and name who is missing", alone=True)
def partition():
    with Hosts() as hosts, hosts.ranks(timeout=4) as run:
        run.train()
        hosts.cut()
        assert run.wait(20) == [3] * 4, run.errors()
        # What was under way when the network was cut may have arrived from one of two.
        text = run.errors()
        assert re.search(r"error: rank [01]: .*nothing has arrived from rank [0-9, ]*[23]", text) and re.search(r"error: rank [23]: .*nothing has arrived from rank [0-9, ]*[01]", text), f"a side does not name the other: {text}"


@test("hosts/a host that cannot be reached: the time-out names its ranks", alone=True)
def unreachable():
    with Hosts() as hosts:
        hosts.cut()
        with hosts.ranks(timeout=3) as run:
            assert run.wait(20) == [3] * 4, run.errors()
            for rank in (0, 1):
                assert re.search(r"timed out after 3 s, nothing has arrived from rank 2, 3", run.error(rank)), run.errors()
            for rank in (2, 3):
                assert re.search(r"timed out after 3 s, rank 0 is not to be found at 10\.77\.0\.1", run.error(rank)), run.errors()


@test("hosts/--hostfile starts ranks on another host, --include and --exclude choose", alone=True)
def hostfile():
    """mpirun's remote shell is a script that enters the other namespace, under another host name."""
    with Hosts() as hosts:
        folder = scratch("hosts")
        agent = folder / "agent"
        agent.write_text(f"#!/bin/bash\nhost=$1\nshift\necho $host >> {folder}/entered\n[ $host = 10.77.0.2 ] || exit 1\n"
                         f"exec ip netns exec {hosts.names[1]} unshare --uts bash -c 'hostname host2; exec bash -c \"$*\"' agent \"$@\"\n")
        agent.chmod(0o755)
        (folder / "hosts").write_text("10.77.0.1 slots=2\n10.77.0.2 slots=2 # behind the agent\n10.77.0.3 slots=4\n")
        variables = {"OMPI_MCA_plm_rsh_agent": str(agent), "OMPI_MCA_plm_rsh_no_tree_spawn": "1"}
        command = ["ip", "netns", "exec", hosts.names[0], Settings.tools / "zrun", plan(), "--hostfile", folder / "hosts", "--threads", 1, "--data", DATA, "--steps", 5]
        succeed([*command, "--exclude", "10.77.0.3", "--nproc", 4, "--metrics", folder / "m", "--weights-out", folder / "w"], timeout=90, **variables)
        assert (folder / "entered").read_text().split() == ["10.77.0.2"], "the agent was not asked for the other host alone"
        differ = tensors.same_bits(tensors.load(folder / "w"), as_threads(3, 4, 5)[1])
        assert not differ, f"weights are not those of threads: {differ[:3]}"
        succeed([*command, "--include", "10.77.0.1@10.77.0.2:0", "--nproc", 2, "--metrics", folder / "m2"], timeout=90, **variables)
        expect_refusal(execute([*command, "--include", "10.77.0.1", "--nproc", 4], **variables), 1, r"has 2 slots that --include and --exclude leave, but --nproc is 4")
        expect_refusal(execute([*command, "--include", "host9", "--nproc", 4], **variables), 2, r"no 'host9'")
