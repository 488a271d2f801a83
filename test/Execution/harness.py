"""What the execution tests share: running zopt and zrun, reading what they leave, and a runner that counts every check.

A test is a function of no argument that raises on failure (an AssertionError says what differed). Modules register them with `add` or
`@test`; `run.py` runs them. Runs are memoized, so that many tests can look at one run; planned and measured peak are compared in every one.
"""
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

import sketches
import tensors

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent / "Models"
EXAMPLES = HERE.parent.parent / "examples"


class Settings:
    """Set once by run.py."""
    tools: Path
    work: Path
    full = False
    keep = False
    patience = 1.0
    sanitized = False


# ---------------------------------------------------------------------------------------------------------------------
# Registry and runner
# ---------------------------------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Test:
    name: str
    function: object
    alone: bool  # timing matters: not beside other tests
    plain: bool  # looks at allocations or resident memory, which a sanitizer changes


tests = []


class Skip(Exception):
    """Raised by a test that this machine cannot run, with the reason."""


def add(name, function, *arguments, alone=False, plain=False, **named):
    """Registers `function(*arguments, **named)` as the test `name`."""
    assert all(t.name != name for t in tests), f"two tests are named {name}"
    tests.append(Test(name, functools.partial(function, *arguments, **named), alone, plain))


def test(name, **options):
    def register(function):
        add(name, function, **options)
        return function
    return register


def run_tests(pattern, jobs, deadline=float("inf")):
    """Runs the tests whose name matches; prints a line for each that fails; returns [{name, code, elapsed, output}]. A test that would begin after
    `deadline` (time.time()) fails with code OUT OF TIME."""
    chosen = [t for t in tests if re.search(pattern, t.name)]
    results, lock = [], threading.Lock()

    def run(t):
        begin = time.time()
        try:
            if begin > deadline:
                code, output = "OUT OF TIME", "not begun: no time was left"
            elif t.plain and Settings.sanitized:
                code, output = "UNSUPPORTED", "the tools are built with a sanitizer"
            else:
                t.function()
                code, output = "PASS", ""
        except Skip as reason:
            code, output = "UNSUPPORTED", str(reason)
        except AssertionError as error:
            code, output = "FAIL", str(error)
        except Exception:
            code, output = "FAIL", traceback.format_exc()
        with lock:
            results.append({"name": t.name, "code": code, "elapsed": time.time() - begin, "output": output})
            if code not in ("PASS", "UNSUPPORTED"):
                print(f"{code}: {t.name} ({len(results)} of {len(chosen)})\n    " + output.strip().replace("\n", "\n    "), flush=True)
            elif len(results) % 50 == 0:
                print(f"... {len(results)} of {len(chosen)}", flush=True)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, [t for t in chosen if not t.alone]))
    for t in chosen:
        if t.alone:
            run(t)
    return results


_memo, _memo_lock = {}, threading.Lock()


def memoize(function):
    """Like functools.cache, but a second caller waits for the first instead of running too; failures are kept as well."""
    @functools.wraps(function)
    def wrapper(*key):
        with _memo_lock:
            future = _memo.get((function, key))
            mine = future is None
            if mine:
                future = _memo[(function, key)] = concurrent.futures.Future()
        if mine:
            try:
                future.set_result(function(*key))
            except BaseException as error:
                future.set_exception(error)
        return future.result()
    return wrapper


# ---------------------------------------------------------------------------------------------------------------------
# Processes
# ---------------------------------------------------------------------------------------------------------------------

def environment(**extra):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMI", "SLURM_"))}
    env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", XDG_CACHE_HOME=str(Settings.work / "cache"))
    env.update(extra)
    return env


@dataclasses.dataclass
class Finished:
    command: list
    code: int
    stdout: str
    stderr: str
    seconds: float

    def __str__(self):
        return f"{' '.join(map(str, self.command))}\nexit code {self.code} after {self.seconds:.1f} s\n{self.stderr[-3000:]}"


def execute(command, timeout=120, cwd=None, before=None, **extra):
    """Runs a command to its end; a command that outlives its timeout (times run.py's --patience) is killed with its whole session, and that is a failure."""
    timeout *= Settings.patience
    command = [str(c) for c in command]
    if command[0] in ("zopt", "zrun"):
        command[0] = str(Settings.tools / command[0])
    begin = time.time()
    process = subprocess.Popen(command, cwd=cwd, env=environment(**extra), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True, preexec_fn=before)
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        raise AssertionError(f"hangs: {' '.join(command)} still runs after {timeout} s\n{stderr[-3000:]}") from None
    return Finished(command, process.returncode, stdout, stderr, time.time() - begin)


def succeed(command, **options):
    done = execute(command, **options)
    assert done.code == 0, f"failed: {done}"
    return done


def scratch(prefix="t"):
    """A new empty folder."""
    return Path(tempfile.mkdtemp(prefix=prefix + "-", dir=Settings.work))


refusals = []  # (module of the test, line) of every error that was expected; troubleshooting.py looks for them in the guide


def expect_refusal(done, code, *patterns):
    """One line a problem on stderr with `error:` in it, this exit code, nothing like a crash."""
    lines = [line for line in done.stderr.splitlines() if "error:" in line]
    assert done.code == code, f"expected exit code {code}: {done}"
    assert lines, f"no line with 'error:': {done}"
    for bad in ("Stack dump", "terminate called", "Sanitizer", "Segmentation", "core dumped", "Assertion", "PLEASE submit"):
        assert bad not in done.stderr, f"a crash: {done}"
    for pattern in patterns:
        assert any(re.search(pattern, line) for line in lines), f"no error line matches /{pattern}/: {done}"
    module = sys._getframe(1).f_globals["__name__"]
    refusals.extend((module, line) for line in lines)
    return lines


# ---------------------------------------------------------------------------------------------------------------------
# Compiling and training
# ---------------------------------------------------------------------------------------------------------------------

def model_path(name):
    folder = MODELS / name
    return folder / "model.onnx" if folder.is_dir() else EXAMPLES / name / "model.onnx"


@memoize
def reference(model, file="reference.json"):
    return json.loads((MODELS / model / file).read_text())


@memoize
def bindings(model):
    """What binds a test model's symbolic dimensions to its data: the sequence length of batch.safetensors."""
    batch = MODELS / model / "batch.safetensors"
    ids = tensors.load(batch).get("input_ids") if batch.exists() else None
    return [] if ids is None else [f"--bind=seq={ids.shape[1]}"]


@memoize
def compile_plan(model, *flags):
    """The plan that zopt makes of a test model with these flags."""
    path = scratch("plan") / "plan.mlir"
    succeed(["zopt", *bindings(model), *flags, model_path(model), "-o", path])
    return path


def compile_hiding(least, model, *flags):
    """The final plan of a model with these flags, in which collectives move apart from what they wait for where a rank sends at least so many bytes."""
    path, name = scratch("plan") / "plan.mlir", "zopt-convert-zero-to-plan{"
    pipeline = succeed(["zopt", *flags, "--print-pipeline", model]).stdout.strip().splitlines()[-1]
    assert pipeline.count(name) == 1
    imported = [flag for flag in flags if flag.startswith(("--bind", "--micro-batch", "--grad-accum"))]
    succeed(["zopt", *imported, f"--pass-pipeline={pipeline.replace(name, f'{name}hide-bytes={least} ')}", model, "-o", path])
    return path


@dataclasses.dataclass(frozen=True)
class Config:
    """One training run. Batches: micro-batch a rank, micro-steps a step, ranks."""
    model: str
    stage: int = 0
    precision: str = "fp32"  # fp32 | bf16 | fp16 | fp64
    micro: int = 1
    accum: int = 1
    ranks: int = 1
    comm: str = "local"
    bucket: int = 0  # bytes; 0: auto
    fuse: bool = True
    steps: int = 20
    flags: tuple = ("--clip=1",)
    data: str = "batch.safetensors"
    run_flags: tuple = ()
    hide_all: bool = False  # collectives move apart from what they wait for, however small

    def zopt_flags(self):
        flags = [f"--zero-stage={self.stage}", f"--micro-batch={self.micro}", f"--grad-accum={self.accum}", *self.flags]
        if self.precision != "fp32":
            flags.append(f"--{self.precision}")
        if self.bucket:
            flags.append(f"--bucket-bytes={self.bucket}")
        if not self.fuse or self.hide_all:  # a matter of specialization: the plan must be final
            flags += [*(() if self.fuse else ("--no-fuse",)), f"--nproc={self.ranks}", "--threads=1"]
        return flags


@dataclasses.dataclass
class Run:
    config: Config
    start: dict
    steps: list
    end: dict
    weights: dict
    stderr: str
    folder: Path

    @property
    def losses(self):
        return [s["loss"] for s in self.steps]

    @property
    def norms(self):
        return [s["grad_norm"] for s in self.steps]

    @property
    def digest(self):
        h = hashlib.sha256()
        for name in sorted(self.weights):
            h.update(name.encode() + self.weights[name].tobytes())
        return h.hexdigest()[:16]


def read_metrics(path):
    events = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return ([e for e in events if e["event"] == "start"], [e for e in events if e["event"] == "step"], [e for e in events if e["event"] == "end"])


every_run = []  # (what, planned, measured) of each run that ended well; memory.py looks at it


@memoize
def train(config):
    """Compiles and runs a configuration; every run is checked for planned == measured."""
    return train_anew(config)


def train_anew(config, **extra):
    """Like `train`, but runs even where it has run before; `extra` are environment variables."""
    plan = compile_hiding(0, model_path(config.model), *bindings(config.model), *config.zopt_flags()) if config.hide_all else compile_plan(config.model, *config.zopt_flags())
    folder = scratch("run")
    data = MODELS / config.model / config.data
    if not data.exists():
        data = EXAMPLES / config.model / config.data
    done = succeed(["zrun", plan, "--nproc", config.ranks, f"--comm={config.comm}", "--threads", 1, "--data", data, "--steps", config.steps,
                    "--metrics", folder / "metrics.jsonl", "--weights-out", folder / "weights.safetensors", *config.run_flags], timeout=300, **extra)
    starts, steps, ends = read_metrics(folder / "metrics.jsonl")
    assert len(starts) == 1 and len(ends) == 1, f"one start and one end record, but got {len(starts)} and {len(ends)}: {done}"
    assert [s["step"] for s in steps] == list(range(1, config.steps + 1)), f"steps 1..{config.steps} in the metrics: {done}"
    every_run.append((config, starts[0]["planned_peak"], ends[0]["measured_peak"]))
    assert starts[0]["planned_peak"] == ends[0]["measured_peak"], f"planned peak {starts[0]['planned_peak']}, measured {ends[0]['measured_peak']}: {done}"
    result = Run(config, starts[0], steps, ends[0], tensors.load(folder / "weights.safetensors"), done.stderr, folder)
    if not Settings.keep:
        shutil.rmtree(folder)
    return result


def expected_gradients(model, suffix=""):
    """Sketches of PyTorch's float64 gradients of step 0, by name."""
    return sketches.load(MODELS / model / f"grads0{suffix}.json")


def assert_same_training(a, b):
    """Losses, gradient norms and final weights agree in every bit."""
    for what, left, right in (("loss", a.losses, b.losses), ("grad_norm", a.norms, b.norms)):
        for step, (x, y) in enumerate(zip(left, right), 1):
            assert x == y, f"{what} of step {step}: {x!r} with {a.config}, {y!r} with {b.config}"
    differ = tensors.same_bits(a.weights, b.weights)
    assert not differ, f"{len(differ)} of {len(a.weights)} weights differ between {a.config} and {b.config}: {', '.join(differ[:5])}"
    assert len(a.weights) > 0, "no weights were written"
