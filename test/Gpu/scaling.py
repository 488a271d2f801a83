"""Several GPUs with NCCL: time a step, scaling against one GPU, planned against measured peak, exposed communication; FSDP2 beside them in the same call.

Exposed is what a rank's traced step spends with a collective under way and nothing on its compute stream, as a share of the step.
"""
import json
import shutil
import statistics
import time

from benchmarks import GIB, Options
from device import ROOT, Device, find_graph, gpus
from harness import execute, read_metrics, scratch, succeed

SKIP, STEPS = 4, 10
WORK = (("gpt2-1.5b", 8, 1024, ()), ("llama3-8b", 1, 4096, ("--recompute=selective",)))


def cover(spans):
    """Length of a union of intervals."""
    total, end = 0.0, float("-inf")
    for first, last in sorted(spans):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total


def exposed(trace):
    """The largest share over ranks."""
    ranks = {}
    for event in json.loads(trace.read_text())["traceEvents"]:
        if event.get("ph") == "X":
            ranks.setdefault(event["pid"], []).append((event.get("cat") == "collectives", (event["ts"], event["ts"] + event["dur"])))
    shares = []
    for events in ranks.values():
        spans = [span for _, span in events]
        compute = [span for collective, span in events if not collective]
        shares.append((cover(spans) - cover(compute)) / (max(last for _, last in spans) - min(first for first, _ in spans)))
    return max(shares)


def ours(name, batch, seq, flags, stage, ranks, environment=()):
    folder = scratch("scaling")
    try:
        plan = folder / "plan.mlir"
        succeed(["zopt", "--bf16", f"--zero-stage={stage}", f"--micro-batch={batch}", f"--bind=seq={seq}", "--clip=1", "--lr=3e-4", "--betas=0.9,0.95", "--weight-decay=0.1", *flags,
                 find_graph(name), "-o", plan], timeout=300)
        command = ["zrun", plan, "--nproc", ranks, f"--target={Device.target}", "--init=gpt2", "--steps", SKIP + STEPS, "--metrics", folder / "m", "--trace", folder / "t"]
        succeed(command, timeout=300, **dict(environment))
        starts, steps, ends = read_metrics(folder / "m")
        ms = statistics.median(s["step_ms"] for s in steps[SKIP:])
        return {"ms": ms, "tok_s": batch * seq * ranks / ms * 1e3, "planned": starts[0]["planned_peak"]["device"], "measured": ends[0]["measured_peak"]["device"], "loss": steps[-1]["loss"],
                "exposed": exposed(folder / "t")}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def peer(name, batch, seq, ranks, *flags):
    command = [Options.torch_python, "-m", "torch.distributed.run", "--nproc_per_node", ranks, ROOT / "benchmarks/peers/torch_fsdp.py", f"{name}:{batch}:{seq}", *flags]
    done = execute(command, timeout=300, OMP_NUM_THREADS="8")
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {"error": (done.stderr.strip().splitlines() or [f"exit code {done.code}"])[-1][:300]}


def run(deadline, report):
    worlds = [n for n in (1, 2, 4, 8) if n <= len(gpus())]
    wanted = [w for w in Options.rows.split(",") if w]
    tests = []
    for name, batch, seq, flags in WORK:
        if wanted and name not in wanted:
            continue
        one, stage_one, best = None, {}, {}
        for ranks in worlds:
            if name == "llama3-8b" and ranks < worlds[-1]:
                continue  # fits no single GPU
            for stage in (0,) if ranks == 1 else (3,) if name == "llama3-8b" else (1, 3) if ranks < worlds[-1] else (1, 2, 3):
                label = f"{name} B{batch} T{seq} stage {stage}, {ranks} GPUs"
                entry = {"name": label, "code": "PASS"}
                tests.append(entry)
                if time.time() > deadline:
                    entry |= {"code": "OUT OF TIME"}
                    continue
                try:
                    entry |= ours(name, batch, seq, flags, stage, ranks)
                    assert entry["planned"] == entry["measured"], f"planned {entry['planned']}, measured {entry['measured']}"
                except Exception as error:
                    entry |= {"code": "FAIL", "output": str(error)}
                    report(f"{label}: {str(error)[-600:]}")
                    continue
                line = f"{label:44} {entry['ms']:8.2f} ms {entry['tok_s']:9.0f} tok/s {entry['planned'] / GIB:6.2f} GiB, exposed {entry['exposed'] * 100:.1f}%"
                if ranks == 1:
                    one = entry["ms"]
                elif one:
                    line += f", scaling {one / entry['ms'] * 100:.1f}%"
                if stage == 1:
                    stage_one[ranks] = entry["ms"]
                elif stage == 3 and ranks in stage_one:
                    line += f", {stage_one[ranks] / entry['ms']:.3f}x of stage 1"
                if stage == 3:
                    best[ranks] = entry["ms"]
                report(line)
        ranks = worlds[-1]
        if Options.peers and ranks > 1 and time.time() < deadline:
            for extra in ((), ("--keep-gathered",)) if name != "llama3-8b" else (("--checkpoint",), ()):
                theirs = peer(name, batch, seq, ranks, *extra)
                tests.append({"name": f"{name} FSDP2 {' '.join(extra)}", "code": "PASS" if "ms" in theirs else "FAIL", "output": theirs.get("error", ""), "peer": theirs})
                ratio = f", zopt's ZeRO-3 is {theirs['ms'] / best[ranks]:.3f}x" if "ms" in theirs and ranks in best else ""
                report(f"{name} B{batch} T{seq} FSDP2 {' '.join(extra)}, {ranks} GPUs: {theirs}{ratio}")
    return tests
