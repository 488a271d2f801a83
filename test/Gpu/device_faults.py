"""What goes wrong on a device ends with one clear line: no GPU, too large a plan, a killed rank, NaN in the data."""
import os
import re
import signal

import numpy as np

import tensors
from device import Device, find_graph, gpus, specialization
from faults import Running
from harness import MODELS, add, compile_plan, execute, expect_refusal, read_metrics, scratch, succeed

MLP = MODELS / "mlp-tiny/batch.safetensors"


def mlp_plan(*flags):
    return compile_plan("mlp-tiny", "--micro-batch=4", *flags, *specialization(Device.target, 1))


def run_mlp(*flags, plan=None, data=MLP, **options):
    return execute(["zrun", plan or mlp_plan(), "--nproc", 1, "--comm=local", "--threads", 1, f"--target={Device.target}", "--data", data, *flags], timeout=120, **options)


def no_gpu():
    done = run_mlp("--steps", 2, CUDA_VISIBLE_DEVICES="")
    assert done.code in (1, 3), f"expected exit code 1 or 3: {done}"
    expect_refusal(done, done.code, r"GPU|device|CUDA")
    plan = compile_plan("mlp-tiny", "--micro-batch=4")
    done = succeed(["zrun", plan, "--comm=local", "--threads", 1, "--data", MLP, "--steps", 2, "--metrics", scratch("auto") / "m"], CUDA_VISIBLE_DEVICES="")
    assert "error" not in done.stderr, f"--target=auto without a GPU is the CPU: {done}"


def too_large():
    """Refused before anything is allocated, with what is needed and what is free."""
    graph = find_graph("gpt2-124m")
    assert graph, "gpt2-124m.onnx is not here"
    plan = scratch("large") / "plan.mlir"
    succeed(["zopt", "--bf16", "--micro-batch=512", "--bind=seq=1024", *specialization(Device.target, 1), graph, "-o", plan], timeout=300)
    done = execute(["zrun", plan, "--nproc", 1, "--comm=local", "--threads", 1, f"--target={Device.target}", "--init=gpt2", "--steps", 1], timeout=300)
    assert done.code in (1, 3), f"expected exit code 1 or 3: {done}"
    lines = expect_refusal(done, done.code)
    assert any(len(re.findall(r"\d[\d.,]* ?(?:[KMGT]i?B|bytes)", line)) >= 2 for line in lines), f"no line with both figures: {lines}"


def killed_rank():
    with Running("mpi", 2, f"--target={Device.target}") as run:
        os.kill(run.rank_pids()[1], signal.SIGKILL)
        code, _ = run.wait(20)
        text = run.stderr()
        assert code == 3, f"expected exit code 3, but got {code}: {text}"
        assert re.search(r"rank 1.*(killed|signal 9|SIGKILL|died)", text), f"rank 1 is not named: {text}"
        assert not run.weights.exists(), "weights of a failed run were written"


def killed_rank_nccl():
    """NCCL knows nothing of processes; the ranks look after one another."""
    with Running("nccl", 2, f"--target={Device.target}") as run:
        os.kill(run.rank_pids()[1], signal.SIGKILL)
        code, seconds = run.wait(20)
        text = run.stderr()
        assert code == 3, f"expected exit code 3, but got {code}: {text}"
        assert seconds <= 10, f"{seconds} s until the launcher ended"
        assert re.search(r"rank 1.*(killed|signal 9|SIGKILL|died)", text), f"rank 1 is not named: {text}"
        assert not run.weights.exists(), "weights of a failed run were written"


def hanging_rank_nccl():
    with Running("nccl", 2, f"--target={Device.target}", "--timeout", 5) as run:
        os.kill(run.rank_pids()[1], signal.SIGSTOP)
        code, _ = run.wait(40)
        text = run.stderr()
        assert code == 3, f"expected exit code 3, but got {code}: {text}"
        assert re.search(r"rank 0\b.*(gather|reduce|norm|publish|scalars|collective|barrier)", text), f"rank 0 does not say where it stood: {text}"


def interrupted():
    with Running("local", 2, f"--target={Device.target}") as run:
        os.kill(run.process.pid, signal.SIGINT)
        code, _ = run.wait(30)
        assert code == 130, f"expected exit code 130, but got {code}: {run.stderr()}"
        assert run.weights.exists(), f"no weights were written: {run.stderr()}"


def poisoned(first, last):
    """mlp-tiny's data with NaN in one input of steps first..last, four samples a step."""
    data = {name: array.copy() for name, array in tensors.load(MLP).items()}
    name = next(n for n, a in data.items() if a.dtype == np.float32)
    for step in range(first, last + 1):
        data[name][(step - 1) * 4 + 1].ravel()[3] = np.nan
    path = scratch("nan") / "data.safetensors"
    tensors.save(path, data)
    return path


def nan_is_skipped():
    folder = scratch("nan")
    done = run_mlp("--steps", 6, "--metrics", folder / "m", "--weights-out", folder / "w", data=poisoned(3, 3))
    assert done.code == 0, f"a step with NaN is skipped: {done}"
    _, steps, _ = read_metrics(folder / "m")
    assert [s["skipped"] for s in steps] == [False, False, True, False, False, False], f"only step 3 is skipped: {steps}"
    assert all(np.isfinite(a).all() for a in tensors.load(folder / "w").values()), "NaN reached the weights"
    assert re.search(r"step 3 was skipped", done.stderr), f"not said: {done}"


def nan_stops():
    expect_refusal(run_mlp("--steps", 6, "--nonfinite=stop", data=poisoned(3, 3)), 3, r"step 3")


def nan_for_long():
    expect_refusal(run_mlp("--steps", 20, data=poisoned(3, 20)), 3, r"10 steps in a row")


def register():
    if Device.target == "cuda":
        add("faults/no GPU", no_gpu)
    add("faults/too large a plan", too_large)
    add("faults/a killed rank, mpi", killed_rank, alone=True)
    if Device.target == "cuda" and len(gpus()) > 1:
        add("faults/a killed rank, nccl", killed_rank_nccl, alone=True)
        add("faults/a rank that hangs, nccl: the time-out names the collective", hanging_rank_nccl, alone=True)
    add("faults/SIGINT", interrupted, alone=True)
    add("faults/NaN in the data: the step is skipped", nan_is_skipped)
    add("faults/NaN in the data with --nonfinite=stop", nan_stops)
    add("faults/NaN in ten steps in a row", nan_for_long)
