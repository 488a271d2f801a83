"""I9: the device gives what the CPU and PyTorch give; I6: planned == measured there; the bits repeat, whichever way the plan comes."""
import dataclasses
import json

import numpy as np

import batch_norm
import harness
import images
import operators
import tensors
from device import Device, compute_capability, find_graph, gradients, on_cpu, on_device, specialization
from harness import MODELS, Settings, add, assert_same_training, compile_plan, every_run, expected_gradients, reference, scratch, succeed, train, train_anew
from reference import (BF16_LOSS, BF16_WEIGHTS_TOTAL, FP32_LOSS, FP32_NORM, FP32_WEIGHTS, MODELS_WITH_CURVES, MSE_LOSS, MSE_NORM, check_losses, check_norms, check_weights,
                       check_weights_total, configuration)
from sketches import Sketch

# ||g - g'|| / ||g'|| of each tensor, and beside it a part of the norm of all gradients, for tensors that are zero but for rounding.
RELATIVE = {"fp32": 1e-4, "bf16": 2e-2}
ABSOLUTE = {"fp32": 1e-7, "bf16": 2e-5}
FLOAT64 = {"fp32": 1e-4, "bf16": 5e-2}  # PyTorch's are of float64: rounding every result to bf16 alone moves mlp-tiny's by 3e-2
# bert-tiny's sums over positions nearly cancel, which bf16 shows: the CPU's are 0.11 from float64's as well.
COARSE = {("bert-tiny", "bf16"): (6e-2, 1.5e-1)}  # beside the CPU, beside float64
CURVES = {"fp32": "fp32-adamw", "bf16": "bf16-adamw-exact-master"}

worst_gradients = {}  # (model, precision) -> (error, tensor): the largest relative error against the CPU, for the table


def norm(array):
    return array.norm if isinstance(array, Sketch) else float(np.linalg.norm(np.asarray(array, np.float64).ravel()))


def distance(ours, theirs):
    return theirs.distance(ours) if isinstance(theirs, Sketch) else norm(ours.astype(np.float64) - theirs)


def compare_gradients(model, precision, ours, theirs, relative, remember=False):
    assert ours.keys() == theirs.keys(), f"gradients missing: {sorted(theirs.keys() - ours.keys())}, not expected: {sorted(ours.keys() - theirs.keys())}"
    whole = np.sqrt(sum(norm(g) ** 2 for g in theirs.values()))
    wrong = []
    for name, g in theirs.items():
        error, size = distance(ours[name], g), norm(g)
        if remember and size > 1e-3 * whole:
            key = (model, precision)
            worst_gradients[key] = max(worst_gradients.get(key, (0, "")), (error / size, name))
        if not error <= relative * size + ABSOLUTE[precision] * whole:
            wrong.append(f"'{name}' {list(ours[name].shape)}: off by {error:.3g}, its norm is {size:.3g}, relative {error / size if size else float('inf'):.3g}")
    assert not wrong, f"{len(wrong)} of {len(theirs)} gradients are off by more than {relative:g} relative:\n" + "\n".join(wrong[:12])


def against_cpu(model, precision, stage, *loss):
    compare_gradients(model, precision, gradients(model, precision, stage, Device.target, *loss), gradients(model, precision, stage, "cpu", *loss), COARSE.get((model, precision), (RELATIVE[precision],))[0], remember=True)


def against_pytorch(model, precision, suffix, *loss):
    compare_gradients(model, precision, gradients(model, precision, 0, Device.target, suffix, *loss), expected_gradients(model, suffix), COARSE.get((model, precision), (0, FLOAT64[precision]))[1])


def curve(config, recorded, loss, skip):
    """All of I8 for one run; what fails is told together."""
    problems = []
    if recorded["precision"].startswith("bf16"):
        checks = [(check_losses, (BF16_LOSS,)), (check_weights_total, (BF16_WEIGHTS_TOTAL,))]
    else:
        checks = [(check_losses, (MSE_LOSS if loss == "mse" else FP32_LOSS,)), (check_norms, (MSE_NORM if loss == "mse" else FP32_NORM,)), (check_weights, (skip, FP32_WEIGHTS))]
    for check, arguments in checks:
        try:
            check(config, recorded, *arguments)
        except AssertionError as error:
            problems.append(str(error))
    assert not problems, "\n".join(problems)


def same_as(config, other):
    assert_same_training(train(config), train(other))


def repeats(config):
    """Twice from nothing: plans compiled anew, nothing kept in between."""
    runs = []
    for _ in range(2):
        folder = scratch("cache")
        runs.append(train_anew(config, XDG_CACHE_HOME=str(folder), CUDA_CACHE_PATH=str(folder / "cuda")))
    assert_same_training(*runs)


def same_with(config, **variables):
    """Environment variables that change how a plan runs, not what it computes."""
    assert_same_training(train(config), train_anew(config, **variables))


def as_cpu(config, tolerance):
    """Losses of the device beside the CPU's."""
    ours, theirs = train(on_device(config)), train(on_cpu(config))
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours.losses, theirs.losses))
    assert worst <= tolerance, f"losses differ by {worst:.2e} relative, {tolerance:.0e} is allowed"


def same_recomputed(config, policy, tolerance):
    """I3. Products of 16-bit types take GELU, sums and one another in before they round, and what runs again may leave them less to take: there the losses agree within a tolerance."""
    kept, again = train(config), train(dataclasses.replace(config, flags=config.flags + (f"--recompute={policy}",)))
    assert again.start["planned_peak"]["device"] < kept.start["planned_peak"]["device"], "nothing was saved"
    if not tolerance:
        assert_same_training(kept, again)
        return
    worst = max(abs(a - b) / abs(a) for a, b in zip(kept.losses, again.losses))
    assert worst <= tolerance, f"losses differ by {worst:.2e} relative, {tolerance:.0e} is allowed"


def evaluates(stage, precision, tolerance):
    """--eval-data on the device: what the CPU finds within the precision's rounding, planned == measured, and again the same bits (the second evaluation is a replayed graph)."""
    data, found = MODELS / "gpt2-tiny" / "batch.safetensors", {}
    for target in ("cpu", Device.target):
        folder = scratch("eval")
        plan = compile_plan("gpt2-tiny", "--eval", "--micro-batch=2", f"--zero-stage={stage}", *precision)
        succeed(["zrun", plan, "--target", target, "--data", data, "--lr=0", "--weight-decay=0", "--steps", 4, "--eval-data", data, "--eval-every=1", "--eval-steps=20", "--metrics", folder / "m"])
        events = [json.loads(line) for line in (folder / "m").read_text().splitlines()]
        evals = [(e["loss"], e["accuracy"], e["labels"]) for e in events if e["event"] == "eval"]
        assert len(evals) == 4 and len(set(evals)) == 1, f"{target}: weights do not change, but evaluations give {evals}"
        assert events[0]["planned_peak"]["device"] == events[-1]["measured_peak"]["device"], (events[0], events[-1])
        found[target] = evals[0]
    (cpu, _, labels), (device, _, counted) = found["cpu"], found[Device.target]
    assert counted == labels and abs(device - cpu) <= tolerance * cpu, found


def own_attention(positions):
    """The gradients of all parameters where the runtime's kernels make those of attention, which heads of 64 have on Hopper: beside cuDNN's, and the same bits again."""
    folder, found = scratch("attention"), {}
    for run, chip in (("ours", "sm_90"), ("again", "sm_90"), ("library", "sm_80")):
        plan, file = folder / f"{run}.mlir", folder / f"{run}.safetensors"
        succeed(["zopt", "--mode=gradient", "--bf16", "--micro-batch=2", f"--bind=seq={positions}", "--target=cuda", "--nproc=1", "--threads=1", f"--chip={chip}", find_graph("gpt2-124m"), "-o", plan])
        assert ("own_kernels" in plan.read_text()) == (chip == "sm_90"), f"--chip={chip}: own_kernels"
        succeed(["zrun", plan, "--nproc", 1, "--threads", 1, "--target=cuda", "--init=gpt2", "--steps", 1, "--gradients-out", file, "--metrics", folder / "m"], timeout=300)
        found[run] = tensors.load(file)
    changed = [name for name, g in found["ours"].items() if not np.array_equal(g, found["again"][name])]
    assert not changed, f"other bits in a second run: {changed[:5]}"
    compare_gradients("gpt2-124m", "bf16", found["ours"], found["library"], RELATIVE["bf16"])


def memory_report(model):
    plan = compile_plan(model, "--micro-batch=4", "--bf16", *specialization(Device.target, 1))
    done = succeed(["zrun", plan, "--comm=local", "--threads", 1, f"--target={Device.target}", "--steps", 2, "--memory-report=json"], timeout=300)
    report = json.loads(done.stdout)
    tiers = report["tiers"]
    for name, tier in (tiers.items() if isinstance(tiers, dict) else ((t.get("tier"), t) for t in tiers)):
        assert tier["planned"] == tier["measured"], f"tier {name}: {tier}"


def every():
    assert every_run, "no run was recorded"
    different = [(c, p, m) for c, p, m in every_run if p != m]
    assert not different, f"{len(different)} of {len(every_run)} runs: {different[:3]}"


def register():
    models = ("gpt2-tiny", "llama-tiny", "mlp-tiny") if Device.quick else MODELS_WITH_CURVES
    for model in models:
        details = reference(model)
        skip = set(details["zero_gradient"])
        for precision in ("fp32", "bf16"):
            recorded = details["runs"][CURVES[precision]]
            base = on_device(configuration(model, recorded, details["loss"], "batch.safetensors"))
            add(f"I9/{model}/{precision}/gradients-as-pytorch", against_pytorch, model, precision, "")
            for stage in (0, 3) if Device.quick else (0, 1, 2, 3):
                name = f"I9/{model}/{precision}/stage{stage}"
                add(f"{name}/gradients-as-cpu", against_cpu, model, precision, stage)
                add(f"{name}/curve", curve, dataclasses.replace(base, stage=stage), recorded, details["loss"], skip)
                if stage:
                    add(f"I1/{model}/{precision}/stage{stage}", same_as, base, dataclasses.replace(base, stage=stage))
        config = dataclasses.replace(base, stage=3 if model.startswith("gpt2") else 0, steps=5)
        add(f"repeat/{model}/bf16", repeats, config)
        if not Device.quick:
            fp32 = details["runs"]["fp32-adamw"]
            add(f"repeat/{model}/fp32", repeats, dataclasses.replace(on_device(configuration(model, fp32, details["loss"], "batch.safetensors")), steps=5))
            for run in ("fp32-sgd", "fp32-adamw-accum2-global-mean", "fp32-adamw-accum2-mean-of-means"):
                recorded = details["runs"][run]
                config = on_device(configuration(model, recorded, details["loss"], "batch.safetensors"))
                add(f"I9/{model}/{run}/curve", curve, config, recorded, details["loss"], skip)
    for suffix, loss in () if Device.quick else (("-mse", "mse"), ("-bce", "bce_with_logits")):
        details = reference("mlp-tiny", f"reference{suffix}.json")
        recorded = details["runs"]["fp32-adamw"]
        config = on_device(configuration("mlp-tiny", recorded, loss, f"batch{suffix}.safetensors"))
        add(f"I9/mlp-tiny/{loss}/curve", curve, config, recorded, loss, set(details["zero_gradient"]))
        add(f"I9/mlp-tiny/{loss}/gradients-as-cpu", against_cpu, "mlp-tiny", "fp32", 0, suffix, loss)
    # The plan that zopt specializes, on a machine with or without a GPU, is the one that zrun makes of the portable plan.
    if not Device.final:
        for model in ("gpt2-tiny", "llama-tiny"):
            base = on_device(harness.Config(model, stage=1, precision="bf16", micro=4, steps=5))
            ahead = dataclasses.replace(base, flags=base.flags + (f"--target={Device.target}", "--nproc=1", "--threads=1"))
            add(f"plans/{model}/specialized by zopt as by zrun", same_as, base, ahead)
    # Bytes that nothing has written hold NaN, and steps run command by command, without a graph.
    for model in ("gpt2-tiny", "llama-tiny", "mlp-tiny"):
        for precision, stage in (("bf16", 3),) if Device.quick else (("fp32", 0), ("bf16", 3)):
            config = on_device(harness.Config(model, stage=stage, precision=precision, micro=4, steps=5))
            add(f"poison/{model}/{precision}/stage{stage}", same_with, config, ZOPT_POISON="1")
            if Device.target == "cuda":
                add(f"no graph/{model}/{precision}/stage{stage}", same_with, config, ZOPT_CUDA_GRAPH="0")
    # Small buckets, unfused kernels, several micro-steps: other plans for the same bits.
    base = on_device(harness.Config("gpt2-tiny", stage=0, precision="bf16", micro=4, accum=2, steps=8))
    add("I1/gpt2-tiny/bf16/accum2/stage3-small-buckets", same_as, base, dataclasses.replace(base, stage=3, bucket=32768))
    if not Device.final:
        unfused = dataclasses.replace(base, stage=1, fuse=False)
        add("I1/gpt2-tiny/bf16/accum2/stage1-no-fusion", same_as, base, dataclasses.replace(unfused, flags=unfused.flags + (f"--target={Device.target}",)))
    for model in ("gpt2-tiny", "llama-tiny"):
        for policy in ("selective", "full"):
            for precision, tolerance in (("fp32", 0), ("bf16", 5e-3)):
                config = on_device(harness.Config(model, stage=3, precision=precision, micro=4, steps=8))
                add(f"I3/{model}/{precision}/{policy}", same_recomputed, config, policy, tolerance if Device.target == "cuda" else 0)
        add(f"I6/{model}/memory-report", memory_report, model)
    # fp16 with its loss scale, and the other update rules.
    for model in ("gpt2-tiny", "llama-tiny"):
        config = harness.Config(model, precision="fp16", micro=4, steps=10)
        add(f"I9/{model}/fp16/as cpu", as_cpu, config, 5e-3)
        for stage in (1, 3):
            add(f"I1/{model}/fp16/stage{stage}", same_as, on_device(config), on_device(dataclasses.replace(config, stage=stage)))
        falls = dataclasses.replace(config, flags=config.flags + ("--loss-scale-init-power=30", "--loss-scale-hysteresis=1"), steps=30)
        add(f"I1/{model}/fp16/a scale that falls/stage3", same_as, on_device(falls), on_device(dataclasses.replace(falls, stage=3)))
    for flags in (("--optimizer=lamb",), ("--optimizer=lion", "--lr=1e-4"), ("--optimizer=adagrad",), ("--optimizer=sgd", "--momentum=0.9", "--nesterov", "--lr=1e-2"), ("--ema=0.9",),
                  ("--schedule=WarmupLR,warmup_num_steps=5",)):
        config = harness.Config("gpt2-tiny", stage=3, micro=4, steps=10, flags=("--clip=1", *flags))
        add(f"I9/gpt2-tiny/fp32/{' '.join(flags)}", as_cpu, config, 1e-4)
    # Dropout draws the CPU's masks; a mask that differed would move losses by percents.
    for precision, tolerance in (("fp32", 1e-4), ("bf16", 2e-2)):
        config = harness.Config("gpt2-dropout", precision=precision, micro=4, accum=2, steps=8, run_flags=("--init=gpt2", "--seed=7", "--shuffle"))
        add(f"I9/gpt2-dropout/{precision}/as cpu", as_cpu, config, tolerance)
        add(f"I1/gpt2-dropout/{precision}/stage3", same_as, on_device(config), on_device(dataclasses.replace(config, stage=3)))
        for policy in ("selective", "full"):
            add(f"I3/gpt2-dropout/{precision}/{policy}", same_recomputed, on_device(config), policy, 0 if precision == "fp32" or Device.target == "cpu" else 5e-3)
    for name, flags in (("alone", ()), ("recomputed", ("--recompute=full",)), ("synchronized", ("--sync-batchnorm",))):
        case = batch_norm.Case(flags=flags + specialization(Device.target, 1), run_flags=(f"--target={Device.target}",))
        add(f"I9/batch_norm/{name}/as PyTorch", batch_norm.check_pytorch, "alone", case, 1e-4)
    if Device.target == "cuda" and compute_capability() == "9.0":
        for positions in (197, 512):
            add(f"I9/gpt2-124m/bf16/T{positions}/attention's gradients by our kernels as by cuDNN", own_attention, positions)
    images.register(compare_gradients)
    operators.register()
    for stage in (0, 3):
        add(f"evaluation/gpt2-tiny/fp32/stage{stage}", evaluates, stage, (), 1e-5)
        add(f"evaluation/gpt2-tiny/bf16/stage{stage}", evaluates, stage, ("--bf16",), 5e-3)
    add("I6/planned == measured in every run", every, alone=True)


def summary():
    """Lines for the table: the largest error of each model's gradients."""
    return [f"{model:16} {precision}: largest gradient error against the CPU {error:.2e} ({name})" for (model, precision), (error, name) in sorted(worst_gradients.items())]
