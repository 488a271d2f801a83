"""Frozen parameters leave a run with the bits that they came with, in every precision and at every stage; the others move."""
import dataclasses
import re

import tensors
from harness import Config, add, memoize, scratch, train, train_anew

FROZEN = r".*\.(attn|ln_1)\..*|.*wpe.*"


@memoize
def start():
    """Weights that no exporter's file has: those of a short run, so that they have all their bits."""
    return train(Config("gpt2-tiny", micro=4, steps=2)).weights


def check(config):
    path = scratch("frozen") / "weights.safetensors"
    tensors.save(path, start())
    run = train_anew(dataclasses.replace(config, run_flags=("--weights", str(path))))
    moved = {name for name, array in run.weights.items() if array.tobytes() != start()[name].tobytes()}
    frozen = {name for name in run.weights if re.fullmatch(FROZEN, name)}
    assert frozen and not moved & frozen, f"frozen parameters moved: {sorted(moved & frozen)}"
    assert moved == run.weights.keys() - frozen, f"parameters that train stayed as they were: {sorted(run.weights.keys() - frozen - moved)}"


for precision in ("fp32", "bf16", "fp16"):
    for stage, ranks, accum in ((0, 1, 1), (3, 2, 2)):
        # A weight decay and a clip, which would reach them if they were trained.
        config = Config("gpt2-tiny", precision=precision, stage=stage, ranks=ranks, accum=accum, micro=2, steps=3, flags=("--clip=0.1", "--weight-decay=0.5", f"--freeze={FROZEN}"))
        add(f"frozen/{precision}/stage{stage}", check, config)
