"""Several GPUs with NCCL: time a step, scaling against one GPU, planned against measured peak, exposed communication; FSDP2 beside them in the same call.

Exposed is the share of a rank's traced step in which kernels wait for a collective: it ends while no kernel runs, and the next one begins within 30 microseconds. (A step is traced command by command, so that
kernels wait for the host too.) What publishes the parameters behind the last kernel is not: steps that are not traced go on with the next one meanwhile. The rank with the least has what communication costs; what others have beyond that is waiting for the rank whose host is the last to issue a command. Of two GPUs every row is also measured with NCCL's
kernels in the place of copy engines (ZOPT_COPY_ENGINES=0, and "gathers" at stage 1). --rows takes parts of labels.
"""
import json
import shutil
import statistics
import time

from benchmarks import GIB, Options
from device import ROOT, Device, find_graph, gpus
from harness import execute, read_metrics, scratch, succeed

SKIP, STEPS = 4, 10
WORK = (("llama3-8b", 1, 4096, ()), ("llama3-8b", 1, 4096, ("--recompute=selective",)), ("gpt2-1.5b", 8, 1024, ()))


def exposed(kernels, collectives):
    """Microseconds, of spans."""
    total, end = 0.0, None  # of the kernels so far
    for first, last in [*sorted(kernels), (float("inf"), 0.0)]:
        if end is not None and first > end:
            awaited = [span for span in sorted(collectives) if end < span[1] <= first]
            if awaited and (first - max(e for _, e in awaited) <= 30 or first == float("inf")):
                covered = end
                for b, e in awaited:
                    total += max(0.0, e - max(b, covered))
                    covered = max(covered, e)
        end = last if end is None else max(end, last)
    return total


def traced(trace):
    """The exposed shares of all ranks, and of the rank with the most the milliseconds that kernels take, and gathers and reductions, which include waiting for other ranks."""
    ranks = {}
    for event in json.loads(trace.read_text())["traceEvents"]:
        if event.get("ph") == "X" and not event["name"].startswith("wait"):
            kind = event["name"].split(" ")[0] if event.get("cat") == "collectives" else "kernels"
            if event.get("args", {}).get("location", "").startswith("publish"):
                kind = "publish"
            ranks.setdefault(event["pid"], {}).setdefault(kind, []).append((event["ts"], event["ts"] + event["dur"]))
    result = {"exposed": []}
    for of in ranks.values():
        every = [span for spans in of.values() for span in spans]
        collectives = [span for kind, spans in of.items() if kind not in ("kernels", "publish") for span in spans]
        result["exposed"].append(exposed(of["kernels"], collectives) / (max(last for _, last in every) - min(first for first, _ in every)))
        for kind, spans in of.items():
            result[kind] = max(result.get(kind, 0.0), sum(last - first for first, last in spans) / 1e3)
    return result


def ours(name, batch, seq, flags, stage, ranks, environment=()):
    folder = scratch("scaling")
    try:
        plan = folder / "plan.mlir"
        succeed(["zopt", "--bf16", f"--zero-stage={stage}", f"--micro-batch={batch}", f"--bind=seq={seq}", "--clip=1", "--lr=3e-4", "--betas=0.9,0.95", "--weight-decay=0.1", *flags,
                 find_graph(name), "-o", plan], timeout=300)
        command = ["zrun", plan, "--nproc", ranks, f"--target={Device.target}", "--init=gpt2", "--steps", SKIP + STEPS, "--timeout", 60, "--metrics", folder / "m", "--trace", folder / "t"]
        done = succeed(command, timeout=300, **dict(environment))
        if Options.traces:
            Options.traces.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / "t", Options.traces / f"{name}-B{batch}-{'-'.join((*flags, f'stage{stage}', f'on{ranks}'))}.json")
        starts, steps, ends = read_metrics(folder / "m")
        ms = statistics.median(s["step_ms"] for s in steps[SKIP:])
        return {"ms": ms, "tok_s": batch * seq * ranks / ms * 1e3, "planned": starts[0]["planned_peak"]["device"], "measured": ends[0]["measured_peak"]["device"], "loss": steps[-1]["loss"],
                "warnings": [line for line in done.stderr.splitlines() if "warning" in line], "trace": traced(folder / "t")}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def peer(name, batch, seq, ranks, *flags):
    command = [Options.torch_python, "-m", "torch.distributed.run", "--nproc_per_node", ranks, ROOT / "benchmarks/peers/torch_fsdp.py", f"{name}:{batch}:{seq}", *flags]
    done = execute(command, timeout=300, OMP_NUM_THREADS="8")
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {"error": (done.stderr.strip().splitlines() or [f"exit code {done.code}"])[-1][:300]}


def rows(name, worlds):
    """(GPUs, stage, what the label says besides, environment)"""
    for ranks in worlds:
        if name == "llama3-8b" and ranks < worlds[-1]:
            continue  # fits no single GPU
        for stage in (0,) if ranks == 1 else (3,) if name == "llama3-8b" else (1, 2, 3):
            yield ranks, stage, "", ()
            if ranks == 2:
                yield ranks, stage, ", NCCL's kernels", (("ZOPT_COPY_ENGINES", "0"),)
            if ranks == 2 and stage == 1:
                yield ranks, stage, ", gathers alone by copy engines", (("ZOPT_COPY_ENGINES", "gathers"),)


def run(deadline, report):
    worlds = [n for n in (1, 2, 4, 8) if n <= len(gpus())]
    wanted = [w for w in Options.rows.split(",") if w]
    tests = []
    for name, batch, seq, flags in WORK:
        one, stage_one, best = None, {}, {}
        for ranks, stage, said, environment in rows(name, worlds):
            label = f"{name} B{batch} T{seq} stage {stage} on {ranks} GPUs{''.join(f' {flag}' for flag in flags)}{said}"
            if wanted and not any(w in label for w in wanted):
                continue
            entry = {"name": label, "code": "PASS"}
            tests.append(entry)
            if time.time() > deadline:
                entry |= {"code": "OUT OF TIME"}
                continue
            begin = time.time()
            try:
                entry |= ours(name, batch, seq, flags, stage, ranks, environment)
                assert entry["planned"] == entry["measured"], f"planned {entry['planned']}, measured {entry['measured']}"
            except Exception as error:
                entry |= {"code": "FAIL", "output": str(error)}
                report(f"{label}: {str(error)[-600:]}")
                continue
            times = ", ".join(f"{kind} {value:.1f}" for kind, value in entry["trace"].items() if kind != "exposed")
            line = f"{label:64} {entry['ms']:8.2f} ms {entry['tok_s']:9.0f} tok/s {entry['planned'] / GIB:6.2f} GiB"
            if ranks == 1:
                one = entry["ms"]
            elif one:
                line += f", scaling {one / entry['ms'] * 100:.1f}%"
            if stage == 1 and not said:
                stage_one[ranks] = entry["ms"]
            elif stage == 3 and not said:
                best[ranks] = entry["ms"]
                if ranks in stage_one:
                    line += f", {stage_one[ranks] / entry['ms']:.3f}x of stage 1"
            report(f"{line}, exposed {min(entry['trace']['exposed']) * 100:.1f}%, with skew {max(entry['trace']['exposed']) * 100:.1f}%, traced ms: {times}; loss {entry['loss']:.6f}; {time.time() - begin:.0f} s" + "".join(f"; {w}" for w in entry["warnings"]))
        ranks = worlds[-1]
        if Options.peers and not flags and ranks > 1:
            for extra in ((), ("--keep-gathered",)) if name != "llama3-8b" else ((), ("--checkpoint",)):
                label = f"{name} FSDP2 {' '.join(extra) or 'plain'}"
                if time.time() > deadline or (wanted and not any(w in label for w in wanted)):
                    continue
                theirs = peer(name, batch, seq, ranks, *extra)
                tests.append({"name": label, "code": "PASS" if "ms" in theirs else "FAIL", "output": theirs.get("error", ""), "peer": theirs})
                ratio = f", zopt's ZeRO-3 is {theirs['ms'] / best[ranks]:.3f}x" if "ms" in theirs and ranks in best else ""
                report(f"{label}, B{batch} T{seq} on {ranks} GPUs: {theirs}{ratio}")
    return tests
