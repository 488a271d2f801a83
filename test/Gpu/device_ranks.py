"""Several ranks: N on one GPU, as threads and over MPI, give the same bits at every stage (I1) and the curve of one rank (I2); NCCL with one rank, and with
as many as there are GPUs, is issued and gives the same curve."""
import dataclasses
import json

import harness
from device import Device, gpus, on_cpu, on_device, specialization
from harness import MODELS, add, assert_same_training, compile_plan, scratch, succeed, train, train_anew
from ranks import TOLERANCE
from reference import BF16_LOSS, FP32_LOSS

STEPS = 10
NCCL = 1e-6  # between stages, relative: NCCL's order of sums is its own
TO_CPU = {"fp32": FP32_LOSS, "bf16": BF16_LOSS}
GLOBAL_BATCH = {"gpt2-tiny": 8, "llama-tiny": 8, "mlp-tiny": 16}


def same(base, variant):
    assert_same_training(train(base), train(variant))


def same_curve(one, many, tolerance):
    a, b = train(one), train(many)
    worst = max(abs(x - y) / abs(x) for x, y in zip(a.losses, b.losses))
    assert worst <= tolerance, f"losses differ by {worst:.3g} relative, more than {tolerance:g}, between {one} and {many}"


def again(config):
    """The same bits from run to run."""
    assert_same_training(train(config), train_anew(config))


def rank_order(local, nccl, **environment):
    """Gradients are only carried: norms and weights have the bits of ranks that are threads. The loss that is told is a sum of scalars, which NCCL makes; nothing depends on it."""
    a, b = train(local), train_anew(nccl, **environment)
    assert_same_training(a, dataclasses.replace(b, steps=[step | {"loss": other["loss"]} for step, other in zip(b.steps, a.steps)]))
    worst = max(abs(x - y) / abs(x) for x, y in zip(a.losses, b.losses))
    assert worst <= NCCL, f"losses differ by {worst:.3g} relative, more than {NCCL:g}"


def collectives_in_trace(stage, ranks):
    """The trace of a step has NCCL's collectives on their stream."""
    folder = scratch("trace")
    plan = compile_plan("gpt2-tiny", f"--zero-stage={stage}", "--micro-batch=4", "--bf16", "--clip=1", *specialization(Device.target, ranks))
    succeed(["zrun", plan, "--nproc", ranks, "--comm=nccl", "--threads", 1, f"--target={Device.target}", "--data", MODELS / "gpt2-tiny/batch.safetensors", "--steps", 4,
             "--trace", folder / "trace.json"], timeout=300)
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    names = [e["name"] for e in events if e.get("ph") == "X" and e.get("cat") == "collectives"]
    wanted = ("all_gather", "reduce_scatter") if stage == 3 else ("all_reduce",)
    missing = [w for w in wanted if not any(n.startswith(w) for n in names)]
    assert not missing, f"no {', '.join(missing)} in the trace; its collectives: {sorted(set(names))}"


def register():
    models = ("gpt2-tiny",) if Device.quick else ("gpt2-tiny", "llama-tiny", "mlp-tiny")
    for model in models:
        one = on_device(harness.Config(model, micro=GLOBAL_BATCH[model], steps=STEPS))
        for ranks in (2, 4):
            for precision, accum in (("fp32", 1), ("bf16", 2)) if not Device.quick else (("fp32", 1),):
                plain = harness.Config(model, precision=precision, accum=accum, ranks=ranks, micro=GLOBAL_BATCH[model] // (ranks * accum), steps=STEPS)
                base = on_device(plain)
                name = f"I1/{model}/{precision}/accum{accum}/ranks{ranks}"
                for stage in (3,) if Device.quick else (1, 2, 3):
                    add(f"{name}/stage{stage}", same, base, dataclasses.replace(base, stage=stage))
                for stage in (0, 3) if Device.quick or model != "gpt2-tiny" else (0, 1, 2, 3):
                    add(f"{name}/stage{stage}-mpi", same, base, dataclasses.replace(base, stage=stage, comm="mpi"))
                if precision == "fp32":
                    for stage in (0, 3):
                        add(f"I2/{model}/ranks{ranks}/stage{stage}", same_curve, one, dataclasses.replace(base, stage=stage), TOLERANCE)
    if Device.target != "cuda":
        return
    for precision in ("fp32", "bf16"):
        one = on_device(harness.Config("gpt2-tiny", precision=precision, micro=8, steps=STEPS))
        for stage in (0, 3) if Device.quick else (0, 1, 2, 3):
            add(f"nccl/gpt2-tiny/{precision}/ranks1/stage{stage}", same_curve, one, dataclasses.replace(one, stage=stage, comm="nccl"), NCCL)
        add(f"nccl/gpt2-tiny/{precision}/ranks1/rank order", rank_order, dataclasses.replace(one, stage=3), dataclasses.replace(one, stage=3, comm="nccl"), ZOPT_RANK_ORDER_SUMS="1")
    for stage in (0, 3):
        add(f"nccl/trace/ranks1/stage{stage}", collectives_in_trace, stage, 1)
    for ranks in (2, 4, 8):
        if len(gpus()) < ranks:
            break
        for model in ("gpt2-tiny", "llama-tiny"):
            for precision in ("fp32", "bf16"):
                name = f"nccl/{model}/{precision}/ranks{ranks}"
                plain = harness.Config(model, precision=precision, micro=8, steps=STEPS)
                base = on_device(dataclasses.replace(plain, ranks=ranks, micro=8 // ranks, comm="nccl", run_flags=("--timeout=60",)))
                add(f"{name}/as one rank on the CPU", same_curve, on_cpu(plain), base, TO_CPU[precision])
                if precision == "fp32":
                    add(f"{name}/as one rank", same_curve, on_device(plain), base, TOLERANCE)
                for stage in (0, 1, 2, 3):
                    at = dataclasses.replace(base, stage=stage)
                    add(f"{name}/stage{stage}/again", again, at)
                    if stage > 0:
                        add(f"{name}/stage{stage}", same_curve, base, at, NCCL)
                        local = dataclasses.replace(at, comm="local")
                        add(f"{name}/stage{stage}, rank order", rank_order, local, at)
                        add(f"{name}/stage{stage}, rank order by NCCL's kernels", rank_order, local, at, ZOPT_COPY_ENGINES="0", ZOPT_RANK_ORDER_SUMS="1")
        add(f"nccl/trace/ranks{ranks}/stage3", collectives_in_trace, 3, ranks)
