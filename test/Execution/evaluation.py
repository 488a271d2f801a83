"""Evaluation on held-out data: the same bits at every stage, the numbers that logits give, memory, the best checkpoint, and what is refused."""
import dataclasses
import json
import math
from pathlib import Path

import numpy as np

import batch_norm
import tensors
from harness import MODELS, add, compile_plan, every_run, execute, expect_refusal, memoize, model_path, read_metrics, scratch, succeed, test

STATES = ("--eval",)


def events_of(path, kind="eval"):
    return [e for e in map(json.loads, Path(path).read_text().splitlines()) if e["event"] == kind]


@dataclasses.dataclass
class Evaluated:
    evals: list
    steps: list
    start: dict
    end: dict
    weights: dict
    stderr: str
    folder: Path


@memoize
def held_out(model, samples):
    """`samples` samples of the model's batches, from the end on and in another order, so that they do not divide by the batch."""
    batch = tensors.load(MODELS / model / "batch.safetensors")
    count = len(next(iter(batch.values())))
    order = [(count - 1 - 3 * i) % count for i in range(samples)]
    path = scratch("held-out") / "held-out.safetensors"
    tensors.save(path, {name: np.ascontiguousarray(array[order]) for name, array in batch.items()})
    return path


@memoize
def evaluate(model, flags, ranks, comm, samples, steps, run_flags):
    plan = compile_plan(model, *STATES, *flags)
    folder = scratch("eval")
    done = succeed(["zrun", plan, "--nproc", ranks, f"--comm={comm}", "--threads", 1, "--data", MODELS / model / "batch.safetensors", "--steps", steps,
                    "--eval-data", held_out(model, samples), "--metrics", folder / "m.jsonl", "--weights-out", folder / "w.safetensors", *run_flags])
    starts, told, ends = read_metrics(folder / "m.jsonl")
    assert starts[0]["planned_peak"] == ends[0]["measured_peak"], f"planned {starts[0]['planned_peak']}, measured {ends[0]['measured_peak']}: {done}"
    every_run.append((("evaluation", model, flags, ranks), starts[0]["planned_peak"], ends[0]["measured_peak"]))
    return Evaluated(events_of(folder / "m.jsonl"), told, starts[0], ends[0], tensors.load(folder / "w.safetensors"), done.stderr, folder)


def numbers(result):
    return [(e["step"], e["loss"], e.get("perplexity"), e.get("accuracy"), e["labels"], e["samples"]) for e in result.evals]


def same_at_every_stage(model, precision, samples=7):
    flags = ("--micro-batch=2", "--clip=1", *precision)
    all_stages = [evaluate(model, (*flags, f"--zero-stage={stage}", f"--bucket-bytes={1 << 14}"), 2, "local", samples, 6, ("--eval-every=2",)) for stage in range(4)]
    assert [e["step"] for e in all_stages[0].evals] == [2, 4, 6], numbers(all_stages[0])
    for stage, result in enumerate(all_stages):
        assert numbers(result) == numbers(all_stages[0]), f"stage {stage}: {numbers(result)}, stage 0: {numbers(all_stages[0])}"


for model in ("gpt2-tiny", "llama-tiny"):
    for name, precision in (("fp32", ()), ("bf16", ("--bf16",)), ("fp16", ("--fp16",))):
        if model == "gpt2-tiny" or name == "bf16":
            add(f"evaluation/stages 0-3 give equal bits/{model}/{name}", same_at_every_stage, model, precision)


@test("evaluation/it changes nothing of training")
def training_is_the_same():
    flags = ("--micro-batch=2", "--clip=1", "--zero-stage=3", "--grad-accum=2")
    seen = evaluate("gpt2-tiny", flags, 2, "local", 7, 6, ("--eval-every=2",))
    unseen = evaluate("gpt2-tiny", flags, 2, "local", 7, 6, ("--eval-every=100", "--eval-steps=1"))
    assert len(seen.evals) == 3 and len(unseen.evals) == 1, (seen.evals, unseen.evals)
    for what in ("loss", "grad_norm"):
        assert [s[what] for s in seen.steps] == [s[what] for s in unseen.steps], what
    differ = tensors.same_bits(seen.weights, unseen.weights)
    assert not differ, differ
    # One batch of two ranks is four samples.
    assert unseen.evals[0]["samples"] == 4, unseen.evals


@test("evaluation/1, 2 and 4 ranks agree, mpi and local in every bit")
def ranks():
    per_rank = {n: evaluate("gpt2-tiny", (f"--micro-batch={4 // n}", "--zero-stage=3"), n, "local", 10, 6, ("--eval-every=3",)) for n in (1, 2, 4)}
    for n, result in per_rank.items():
        for a, b in zip(result.evals, per_rank[1].evals):
            assert abs(a["loss"] - b["loss"]) <= 1e-5 * abs(b["loss"]), f"{n} ranks: {a}, 1 rank: {b}"
            assert (a["labels"], a["samples"]) == (b["labels"], b["samples"]), (a, b)
    mpi = evaluate("gpt2-tiny", ("--micro-batch=2", "--zero-stage=3"), 2, "mpi", 10, 6, ("--eval-every=3",))
    assert numbers(mpi) == numbers(per_rank[2]), (numbers(mpi), numbers(per_rank[2]))


@test("evaluation/loss, perplexity and accuracy are those of the logits of a forward plan")
def against_logits():
    samples = 7
    result = evaluate("gpt2-tiny", ("--micro-batch=2", "--zero-stage=2"), 2, "local", samples, 5, ())
    folder = scratch("forward")
    data = held_out("gpt2-tiny", samples)
    tensors.save(folder / "w.safetensors", result.weights)
    succeed(["zrun", compile_plan("gpt2-tiny", "--mode=forward", "--micro-batch=1"), "--comm=local", "--data", data, "--weights", folder / "w.safetensors", "--outputs", folder / "o.safetensors"])
    outputs, batch = tensors.load(folder / "o.safetensors"), tensors.load(data)
    logits = outputs["logits"].astype(np.float64)
    labels = batch["labels"]
    assert logits.shape[:2] == labels.shape, (logits.shape, labels.shape)
    counted = labels != -100
    largest = logits.max(-1)
    lse = largest + np.log(np.exp(logits - largest[..., None]).sum(-1))
    at = np.take_along_axis(logits, np.where(counted, labels, 0)[..., None], -1)[..., 0]
    loss = float((lse - at)[counted].mean())
    accuracy = float((logits.argmax(-1) == labels)[counted].mean())
    last = result.evals[-1]
    assert last["step"] == 5 and last["labels"] == int(counted.sum()) and last["samples"] == samples, last
    assert abs(last["loss"] - loss) <= 2e-6 * loss, f"{last}, numpy has loss {loss}"
    assert last["accuracy"] == accuracy, f"{last}, numpy has accuracy {accuracy}"
    assert math.isclose(last["perplexity"], math.exp(last["loss"]), rel_tol=1e-12), last
    assert 0 < accuracy < 1, accuracy  # otherwise it says little


@test("evaluation/the arena grows by three scalars at most")
def memory():
    for stage in (0, 3):
        for flags in (("--micro-batch=4",), ("--micro-batch=2", "--grad-accum=2", "--bf16"), ("--micro-batch=4", "--recompute=full")):
            peaks = []
            for extra in ((), STATES):
                plan = compile_plan("gpt2-tiny", f"--zero-stage={stage}", *flags, *extra)
                report = json.loads(succeed(["zopt", plan, "--nproc=2", "--threads=1", "--memory-report=json"]).stdout)
                peaks.append(sum(report["classes"].values()))
            assert 0 <= peaks[1] - peaks[0] <= 3 * 64, f"stage {stage} {flags}: planned {peaks[0]} without, {peaks[1]} with evaluation"


@test("evaluation/a loss without ignored labels drops what fills no batch, and says so")
def dropped():
    folder = scratch("mse")
    data = MODELS / "mlp-tiny" / "batch-mse.safetensors"
    tensors.save(folder / "held-out.safetensors", {name: np.ascontiguousarray(array[:7]) for name, array in tensors.load(data).items()})
    done = succeed(["zrun", compile_plan("mlp-tiny", *STATES, "--micro-batch=2", "--loss=mse"), "--nproc", 2, "--comm=local", "--data", data, "--steps", 3,
                    "--eval-data", folder / "held-out.safetensors", "--metrics", folder / "m.jsonl"])
    last, = events_of(folder / "m.jsonl")
    assert last["samples"] == 4 and last["labels"] == 40 and "accuracy" not in last and "perplexity" not in last, last
    assert "--eval-data: " in done.stderr and "the 3 samples left of 7" in done.stderr, done


@test("evaluation/once an epoch where no interval is given, and at the end")
def once_an_epoch():
    batch = tensors.load(MODELS / "gpt2-tiny" / "batch.safetensors")
    per_epoch = len(batch["labels"]) // 4
    result = evaluate("gpt2-tiny", ("--micro-batch=2",), 2, "local", 4, 2 * per_epoch + 1, ())
    assert [e["step"] for e in result.evals] == [per_epoch, 2 * per_epoch, 2 * per_epoch + 1], result.evals


def best_run(folder, *flags, steps=8):
    plan = compile_plan("gpt2-tiny", *STATES, "--micro-batch=2", "--zero-stage=1", "--lr=0.03")
    done = succeed(["zrun", plan, "--nproc", 2, "--comm=local", "--threads", 1, "--data", MODELS / "gpt2-tiny" / "batch.safetensors", "--steps", steps,
                    "--eval-data", held_out("gpt2-tiny", 6), "--eval-every=1", "--checkpoint-dir", folder / "c", "--keep=1", "--keep-best",
                    "--metrics", folder / "m.jsonl", *flags])
    return done, events_of(folder / "m.jsonl")


@test("evaluation/--keep-best keeps the checkpoint of the least loss beside the newest, over a restart too")
def keep_best():
    folder = scratch("best")
    # A rate that grows until the loss does: the best step is in the middle.
    done, evals = best_run(folder, "--schedule=LRRangeTest,lr_range_test_min_lr=0.001,lr_range_test_step_size=2,lr_range_test_step_rate=30")
    best = min(evals, key=lambda e: e["loss"])
    assert 1 <= best["step"] < 8, f"the rate was to spoil the loss in the end: {[e['loss'] for e in evals]}"
    tag, loss = (folder / "c" / "best").read_text().split()
    assert tag == f"global_step{best['step']}" and float(loss) == best["loss"], f"{tag} {loss}, but the metrics have {best}"
    there = sorted(p.name for p in (folder / "c").glob("global_step*"))
    assert there == sorted({tag, "global_step8"}), there
    # What is kept is that step's state: evaluated again, it has that loss.
    plan = compile_plan("gpt2-tiny", *STATES, "--micro-batch=2", "--zero-stage=1", "--lr=0.03")
    succeed(["zrun", plan, "--nproc", 2, "--comm=local", "--threads", 1, "--data", MODELS / "gpt2-tiny" / "batch.safetensors", "--steps", best["step"], f"--resume={folder / 'c' / tag}",
             "--eval-data", held_out("gpt2-tiny", 6), "--metrics", folder / "again.jsonl"])
    again = events_of(folder / "again.jsonl")
    assert [e["loss"] for e in again] == [best["loss"]], (again, best)
    # Worse losses after a restart do not replace it.
    best_run(folder, "--resume", "--lr=10", steps=10)
    assert (folder / "c" / "best").read_text().split()[0] == tag
    there = sorted(p.name for p in (folder / "c").glob("global_step*"))
    assert there == sorted({tag, "global_step10"}), there


@test("evaluation/what is refused")
def refused():
    data = MODELS / "gpt2-tiny" / "batch.safetensors"
    without, plan = compile_plan("gpt2-tiny", "--micro-batch=2"), compile_plan("gpt2-tiny", *STATES, "--micro-batch=2")
    run = ["zrun", "--nproc", 1, "--comm=local", "--data", data, "--steps", 1]
    expect_refusal(execute([*run, without, "--eval-data", data]), 1, "--eval-data needs a plan with @eval_step, which zopt --eval makes")
    for flags, pattern in ((("--eval-every=2",), "--eval-every is about --eval-data"), (("--eval-steps=2",), "--eval-steps is about --eval-data"),
                           (("--keep-best",), "--keep-best goes by the loss of --eval-data"),
                           (("--keep-best", "--eval-data", data), "--keep-best keeps a checkpoint, but there is no --checkpoint-dir"),
                           (("--eval-data", data, "--eval-every=0"), "--eval-every")):
        expect_refusal(execute([*run, plan, *flags]), 2, pattern)
    expect_refusal(execute([*run, plan, "--eval-data", "/nowhere/x.safetensors"]), 1, "/nowhere/x.safetensors")
    expect_refusal(execute(["zopt", "--eval", "--mode=forward", MODELS / "gpt2-tiny" / "model.onnx", "-o", "-"]), 2, "--eval is about a plan that trains, but --mode is forward")


@test("evaluation/a value out of range names file, sample and position")
def out_of_range():
    folder = scratch("range")
    batch = {name: array.copy() for name, array in tensors.load(held_out("gpt2-tiny", 5)).items()}
    batch["labels"] = batch["labels"].astype(np.int64)  # the model's file has small integers
    batch["labels"][4, 3] = 10 ** 6
    tensors.save(folder / "bad.safetensors", batch)
    plan = compile_plan("gpt2-tiny", *STATES, "--micro-batch=1")
    expect_refusal(execute(["zrun", plan, "--nproc", 2, "--comm=local", "--data", MODELS / "gpt2-tiny" / "batch.safetensors", "--steps", 2, "--eval-data", folder / "bad.safetensors"]), 1,
                   r"bad\.safetensors: labels: sample 4, position 3")


@test("evaluation/dropout is off, and normalization takes the running averages")
def training_mode_is_off():
    # Evaluated after the last step, a model is what --training-mode=eval makes of its weights and averages.
    folder = scratch("mode")
    batch_norm.write_model(folder / "norm.onnx")
    _, values = batch_norm.values()
    tensors.save(folder / "norm.safetensors", values)
    for name, model, data in (("norm", folder / "norm.onnx", folder / "norm.safetensors"), ("dropout", model_path("gpt2-dropout"), MODELS / "gpt2-tiny" / "batch.safetensors")):
        bind = ["--bind=seq=64"] if name == "dropout" else []
        for part, flags in (("train", ("--eval", "--micro-batch=4", "--zero-stage=3")), ("fixed", ("--mode=gradient", "--training-mode=eval", "--micro-batch=8"))):
            succeed(["zopt", *bind, *flags, model, "-o", folder / f"{name}-{part}.mlir"])
        common = ["--comm=local", "--threads", 1, "--data", data]
        succeed(["zrun", folder / f"{name}-train.mlir", "--nproc", 2, *common, "--steps", 4, "--eval-data", data, "--eval-steps", 1, "--metrics", folder / "m", "--weights-out", folder / "w.safetensors",
                 *(["--init=gpt2"] if name == "dropout" else [])])
        succeed(["zrun", folder / f"{name}-fixed.mlir", *common, "--steps", 1, "--weights", folder / "w.safetensors", "--metrics", folder / "fixed"])
        evaluated, expected = events_of(folder / "m")[-1]["loss"], read_metrics(folder / "fixed")[1][0]["loss"]
        assert abs(evaluated - expected) <= 2e-6 * expected, f"{name}: evaluated {evaluated}, with training mode off {expected}"
