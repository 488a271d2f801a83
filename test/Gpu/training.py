"""It trains: gpt2-124m from one set of initial weights on the bytes of a text, beside PyTorch, with the same rate, clip and order of data.

The mean loss of every STRETCH steps must be within TOLERANCE of PyTorch's: of autocast over fp32 weights, and of bf16 weights with fp32 masters. The rate is one at which PyTorch's two agree within
TOLERANCE with one another: at 3e-4 from the first step on they are 1.8% apart on the way, which says nothing of zopt.
"""
import json
import time

from device import ROOT, Device, find_graph
from harness import execute, model_path, read_metrics, scratch, succeed

STRETCH, TOLERANCE = 20, 5e-3
TEXT = ROOT / "examples/gpt2-text/text.txt"


def workload(quick):
    """model, vocabulary, positions, batch, sequence, steps, rate."""
    if Device.target == "cuda":
        return "gpt2-124m", 50257, 1024, 16, 1024, 100 if quick else 500, 1e-4
    return "gpt2-text", 256, 128, 4, 64, 20 if quick else 60, 1e-3


def means(losses):
    return [sum(losses[i:i + STRETCH]) / STRETCH for i in range(0, len(losses) - STRETCH + 1, STRETCH)]


def compare(ours, theirs):
    """The largest relative difference of the stretches' means and its first step; of the last losses."""
    differences = [(abs(a - b) / b, i * STRETCH + 1) for i, (a, b) in enumerate(zip(means(ours), means(theirs)))]
    return max(differences), abs(ours[-1] - theirs[-1]) / theirs[-1]


def peer_losses(python, variant, options, deadline):
    done = execute([python, ROOT / "benchmarks/peers/torch_curve.py", "--variant", variant, *options], timeout=max(60, min(500, deadline - time.time())))
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.code or not lines:
        raise AssertionError(f"torch_curve.py failed: {done}")
    return [entry["loss"] for entry in lines if "loss" in entry], lines[-1]["median_ms"]


def run(args, deadline):
    name, vocabulary, positions, batch, seq, steps, rate = workload(args.quick)
    steps, rate = args.steps or steps, args.lr or rate
    folder, tests, details = scratch("training"), [], []
    graph = model_path(name) if name == "gpt2-text" else find_graph(name)
    assert graph, f"{name}.onnx is nowhere here (--graphs names its folder)"
    model = ["--model", name, "--vocab", vocabulary, "--positions", positions]
    weights = folder / "init.safetensors"
    succeed([args.torch_python, ROOT / "benchmarks/peers/torch_curve.py", *model, "--make-weights", weights], timeout=120)
    succeed(["zopt", "--bf16", f"--micro-batch={batch}", f"--bind=seq={seq}", f"--lr={rate}", "--betas=0.9,0.999", "--weight-decay=0.01", "--clip=1", graph, "-o", folder / "plan.mlir"], timeout=300)
    begin = time.time()
    succeed(["zrun", folder / "plan.mlir", "--nproc", 1, f"--target={Device.target}", "--weights", weights, "--data", TEXT, "--data-format=bytes", "--steps", steps,
             "--metrics", folder / "metrics.jsonl"], timeout=500)
    starts, ours, ends = read_metrics(folder / "metrics.jsonl")
    losses = [s["loss"] for s in ours]
    curves = {"zopt": losses}
    median = sorted(s["step_ms"] for s in ours)[len(ours) // 2]
    details.append(f"{name} B{batch} T{seq}, {steps} steps: zopt {losses[0]:.4f} -> {means(losses)[-1]:.4f} (last {STRETCH}), median {median:.1f} ms, {time.time() - begin:.0f} s in all")
    tests.append({"name": "training/zopt", "code": "PASS" if losses[-1] < 0.8 * losses[0] else "FAIL", "output": f"loss {losses[0]} -> {losses[-1]}"})
    options = [*model, "--device", Device.target, "--weights", weights, "--data", TEXT, "--steps", steps, "--batch", batch, "--seq", seq, "--lr", rate, "--weight-decay", 0.01, "--clip", 1.0]
    for variant in () if args.no_peers else ("autocast", "master"):
        test = {"name": f"training/as PyTorch, {variant}", "code": "FAIL", "output": ""}
        tests.append(test)
        if time.time() > deadline:
            test["code"] = "OUT OF TIME"
            continue
        try:
            curves[variant], median = peer_losses(args.torch_python, variant, options, deadline)
            (worst, where), last = compare(losses, curves[variant])
            test["output"] = f"largest difference of {STRETCH}-step means {worst * 100:.3f}% at step {where}, of the last loss {last * 100:.3f}%"
            test["code"] = "PASS" if worst <= TOLERANCE and last <= TOLERANCE else "FAIL"
            details.append(f"PyTorch {variant:8}: {curves[variant][0]:.4f} -> {means(curves[variant])[-1]:.4f}, median {median:.1f} ms (eager); {test['output']}")
        except AssertionError as error:
            test["output"] = str(error)
            print(f"FAIL: {test['name']}\n{error}", flush=True)
    if "autocast" in curves and "master" in curves:
        (worst, where), last = compare(curves["master"], curves["autocast"])
        details.append(f"PyTorch's two between themselves: {worst * 100:.3f}% at step {where}, last loss {last * 100:.3f}%")
    details.append(f"means of {STRETCH} steps: " + "; ".join(f"{who} " + " ".join(f"{m:.4f}" for m in means(curve)) for who, curve in curves.items()))
    if args.output:
        args.output.with_suffix(".curves.json").write_text(json.dumps(curves))
    return tests, details
