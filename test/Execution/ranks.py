"""I2: the same global batch on 1, 2, 4 (and 8) ranks gives every loss within 1e-5 relative in fp32."""
import dataclasses

from harness import Config, add, train

TOLERANCE = 1e-5


def check(one, many):
    a, b = train(one), train(many)
    worst = max(abs(x - y) / abs(x) for x, y in zip(a.losses, b.losses))
    assert worst <= TOLERANCE, f"losses differ by {worst:.3g} relative, more than {TOLERANCE:g}, between {one.ranks} and {many.ranks} ranks"


for model, batch in (("gpt2-tiny", 8), ("mlp-tiny", 16), ("llama-tiny", 8)):
    one = Config(model, micro=batch)
    for stage, accum, ranks in ((0, 1, 2), (0, 1, 4), (3, 1, 4), (2, 1, 8), (0, 2, 1), (1, 2, 2), (3, 2, 4)):
        many = dataclasses.replace(one, stage=stage, accum=accum, ranks=ranks, micro=batch // (accum * ranks))
        add(f"I2/{model}/stage{stage}/accum{accum}/ranks{ranks}", check, one, many)
