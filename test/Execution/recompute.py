"""I3: what backward computes again instead of keeping it changes no bit, and saves the memory that it is for."""
import dataclasses
import re

from harness import Config, add, assert_same_training, compile_plan, test, train


def check(base, policy):
    kept, again = train(base), train(dataclasses.replace(base, flags=base.flags + (f"--recompute={policy}",)))
    assert_same_training(kept, again)


for policy in ("selective", "full"):
    for model, micro in (("gpt2-tiny", 2), ("llama-tiny", 2), ("mlp-tiny", 4)):
        for precision in ("fp32", "bf16"):
            for stage in (0, 3):
                config = Config(model, precision=precision, stage=stage, ranks=2, micro=micro, accum=2 if stage else 1, steps=10)
                add(f"I3/{model}/{precision}/stage{stage}/{policy}", check, config, policy)
    add(f"I3/gpt2-tiny/fp32/no-fusion/{policy}", check, Config("gpt2-tiny", ranks=2, micro=2, fuse=False, steps=5), policy)
    add(f"I3/gpt2-tiny/bf16/stage3-mpi/{policy}", check, Config("gpt2-tiny", precision="bf16", stage=3, ranks=2, micro=2, comm="mpi", steps=5), policy)


def activations(policy):
    text = compile_plan("gpt2-text", f"--recompute={policy}", "--micro-batch=8", "--nproc=1", "--threads=1").read_text()
    return int(re.search(r"plan.arena @\w+ device (\d+)", text).group(1))


@test("memory/gpt2-text: full recomputation needs less than selective, and that less than none")
def peaks():
    none, selective, full = (activations(policy) for policy in ("none", "selective", "full"))
    assert selective < 0.85 * none, f"planned peak {selective} with selective recomputation, {none} without"
    assert full < selective, f"planned peak {full} with full recomputation, {selective} with selective"
