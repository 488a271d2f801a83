"""I1: loss, gradient norm and weights do not depend in a bit on the ZeRO stage, the bucket size, fusion, or how ranks communicate.

A group is (model, precision, accumulation, ranks); within it every variant must equal stage 0 on --comm=local.
"""
import dataclasses

from harness import Config, Settings, add, assert_same_training, train

GLOBAL_BATCH = {"gpt2-tiny": 8, "mlp-tiny": 16}
SMALL_BUCKETS = {"gpt2-tiny": 32768, "mlp-tiny": 65536}  # bytes: several buckets, of uneven size


def group(model, precision, accum, ranks):
    batch = 12 if ranks == 3 else GLOBAL_BATCH[model]
    return Config(model, precision=precision, accum=accum, ranks=ranks, micro=batch // (ranks * accum))


def check(base, variant):
    assert_same_training(train(base), train(variant))


def mpi_subset(model, precision, accum, ranks, stage):
    """Over mpi by default: every (stage, ranks) pair once for each model, precision and accumulation alternating, so that every pair of settings occurs."""
    number = stage + {1: 0, 2: 1, 3: 2, 4: 3}[ranks]
    return ranks > 1 and (precision, accum) == [("fp32", 1), ("bf16", 2), ("bf16", 1), ("fp32", 2)][(number + (model == "mlp-tiny")) % 4]


for model in GLOBAL_BATCH:
    for precision in ("fp32", "bf16"):
        for accum in (1, 2):
            for ranks in (1, 2, 3, 4):
                base = group(model, precision, accum, ranks)
                name = f"I1/{model}/{precision}/accum{accum}/ranks{ranks}"
                small = SMALL_BUCKETS[model]
                variants = {f"stage{stage}": dict(stage=stage) for stage in (1, 2, 3)}
                for stage in (0, 1, 2, 3):
                    if Settings.full or stage in (1, 3) and ranks > 1:
                        variants[f"stage{stage}-small-buckets"] = dict(stage=stage, bucket=small)
                    if Settings.full or stage == (3 if ranks > 1 else 0):
                        variants[f"stage{stage}-no-fusion"] = dict(stage=stage, fuse=False)
                    if Settings.full or mpi_subset(model, precision, accum, ranks, stage):
                        variants[f"stage{stage}-mpi"] = dict(stage=stage, comm="mpi")
                if Settings.full:
                    variants["stage3-one-bucket"] = dict(stage=3, bucket=1 << 30)
                    variants["stage3-mpi-small-buckets"] = dict(stage=3, comm="mpi", bucket=small)
                for label, changes in variants.items():
                    add(f"{name}/{label}", check, base, dataclasses.replace(base, **changes))

# Collectives that are under way for longer than one bucket. What these models send is too little to be hidden by default.
for model in GLOBAL_BATCH:
    for precision, accum, ranks in (("fp32", 1, 4), ("bf16", 2, 2)):
        base = group(model, precision, accum, ranks)
        for stage in (0, 1, 2, 3):
            moved = dataclasses.replace(base, stage=stage, bucket=SMALL_BUCKETS[model] // 4, hide_all=True)
            add(f"I1/{model}/{precision}/accum{accum}/ranks{ranks}/stage{stage}-hidden", check, base, moved)
        add(f"I1/{model}/{precision}/accum{accum}/ranks{ranks}/stage3-hidden-mpi", check, base, dataclasses.replace(moved, comm="mpi"))

# fp16, whose loss is scaled, by a scale that grows on the way.
for model in GLOBAL_BATCH:
    for accum, ranks in ((1, 4), (2, 3)) if not Settings.full else ((1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 3)):
        base = dataclasses.replace(group(model, "fp16", accum, ranks), flags=("--clip=1", "--loss-scale-window=6", "--loss-scale-init-power=12"))
        variants = {f"stage{stage}": dict(stage=stage) for stage in (1, 2, 3)}
        variants["stage3-small-buckets"] = dict(stage=3, bucket=SMALL_BUCKETS[model])
        variants["stage3-no-fusion"] = dict(stage=3, fuse=False)
        if accum == 1:
            variants["stage2-mpi"] = dict(stage=2, comm="mpi")
        for label, changes in variants.items():
            add(f"I1/{model}/fp16/accum{accum}/ranks{ranks}/{label}", check, base, dataclasses.replace(base, **changes))

# Eight ranks: more than gpt2-tiny's batch of the other groups has samples a micro-step for, so one sample a rank; padding is uneven.
for comm in ("local", "mpi"):
    base = Config("gpt2-tiny", ranks=8, steps=5)
    for stage in (0, 3) if comm == "mpi" else (1, 2, 3):
        add(f"I1/gpt2-tiny/fp32/accum1/ranks8/stage{stage}{'-mpi' if comm == 'mpi' else ''}", check, base, dataclasses.replace(base, stage=stage, comm=comm))

# Persistent (replicated) small parameters and frozen ones do not change the bits either.
base = Config("gpt2-tiny", ranks=4, micro=2)
add("I1/gpt2-tiny/fp32/persistent-parameters", check, base, dataclasses.replace(base, stage=3, flags=base.flags + ("--persist-bytes=1024",)))
frozen = dataclasses.replace(base, flags=base.flags + (r"--freeze=.*\.ln_.*",))
for stage in (1, 2, 3):
    add(f"I1/gpt2-tiny/fp32/frozen-norms/stage{stage}", check, frozen, dataclasses.replace(frozen, stage=stage))
