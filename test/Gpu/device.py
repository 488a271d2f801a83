"""What the GPU tests share: configurations on the device, gradients of both targets, and what this machine has.

Everything else is test/Execution's: `harness.Config` and `harness.train`, the readers, the recorded curves. A configuration goes to the device by its
flags, so that the same code runs CUDA against the CPU and, with --device-target=cpu, the CPU against itself.
"""
import dataclasses
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "test/Execution"))

import harness  # noqa: E402
import tensors  # noqa: E402
from harness import MODELS, Settings, compile_plan, memoize, scratch, succeed  # noqa: E402


class Device:
    """Set once by run.py."""
    target = "cuda"
    quick = False
    final = False  # zopt specializes for the device instead of zrun
    graphs = None  # a folder with the graphs that test/Graphs lacks


def specialization(target, ranks):
    """zopt's flags that make a final plan; none where zrun is to specialize."""
    return (f"--target={target}", f"--nproc={ranks}", "--threads=1") if Device.final else ()


def on_device(config):
    """The same configuration on the device."""
    return dataclasses.replace(config, flags=config.flags + specialization(Device.target, config.ranks), run_flags=config.run_flags + (f"--target={Device.target}",))


def on_cpu(config):
    return dataclasses.replace(config, flags=config.flags + specialization("cpu", config.ranks), run_flags=config.run_flags + ("--target=cpu",))


@memoize
def gradients(model, precision, stage, target, suffix="", loss="cross_entropy"):
    """Step 0's gradients of a test model on one rank."""
    details = harness.reference(model, f"reference{suffix}.json")
    flags = ["--mode=gradient", f"--loss={loss}", f"--zero-stage={stage}", f"--micro-batch={details['runs']['fp32-adamw']['global_batch']}", *specialization(target, 1)]
    if precision != "fp32":
        flags.append(f"--{precision}")
    if details.get("tied_copies"):
        flags.append("--tie-weights")
    folder = scratch("gradients")
    succeed(["zrun", compile_plan(model, *flags), "--nproc", 1, "--comm=local", "--threads", 1, f"--target={target}", "--data", MODELS / model / f"batch{suffix}.safetensors",
             "--steps", 1, "--gradients-out", folder / "g.safetensors", "--metrics", folder / "metrics.jsonl"], timeout=300)
    return tensors.load(folder / "g.safetensors")


def library_path():
    """LD_LIBRARY_PATH with the folders of those of CUDA's libraries that the loader would not find by itself: CUDA's own, and those of Python's nvidia packages."""
    known = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True).stdout
    given = [p for p in os.environ.get("LD_LIBRARY_PATH", "").split(":") if p]
    packages = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    places = [*sorted(Path("/usr/local").glob("cuda*/lib64")), *sorted(Path("/usr/local").glob("nvidia/lib*")), *sorted(packages.glob("*/lib"))]
    found = []
    for library in ("libcuda.so.1", "libcublasLt.so.13", "libcudnn.so.9", "libnccl.so.2", "libnvrtc.so.13"):
        if f"{library} " in known or any((Path(p) / library).exists() for p in given + found):
            continue
        found += [str(place) for place in places if (place / library).exists()][:1]
    return ":".join(given + found)


def find_program(name):
    """A program of CUDA, on PATH or where CUDA is installed; None where there is none."""
    return shutil.which(name) or next((str(p) for p in sorted(Path("/usr/local").glob(f"cuda*/bin/{name}"))), None)


@memoize
def gpus():
    """The names of this machine's GPUs."""
    program = shutil.which("nvidia-smi") or next((str(p) for p in [Path("/usr/local/nvidia/bin/nvidia-smi")] if p.exists()), None)
    if Device.target != "cuda" or not program:
        return []
    done = subprocess.run([program, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"], capture_output=True, text=True)
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


@memoize
def compute_capability():
    """"9.0" of the first GPU; empty where nvidia-smi knows none."""
    if not shutil.which("nvidia-smi"):
        return ""
    done = subprocess.run(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"], capture_output=True, text=True)
    return done.stdout.split("\n")[0].strip() if done.returncode == 0 else ""


def find_graph(name):
    """The file of a graph without weights, or None."""
    for folder in (Device.graphs, Settings.tools.parent / "graphs", ROOT / "test/Graphs", *sorted(ROOT.parent.glob("*/graphs"))):
        if folder and (folder / f"{name}.onnx").exists():
            return folder / f"{name}.onnx"
    return None
