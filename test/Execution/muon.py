"""Muon beside float64, its ZeRO handling, moving averages of rules that do not know the new parameter, and OneCycle's momentum."""
import dataclasses

import numpy as np

import tensors
from harness import Config, MODELS, add, assert_same_training, execute, expect_refusal, scratch, succeed, test, train
from optimizers import adam, assert_near, check_stages, lamb, linear_model, rates, reference, run_linear

# Wide, tall, square and a filter of a convolution; a matrix that is named as a table. `matrix`, which no product reads, and `vector` are AdamW's.
MORE = (("wide", (9, 31)), ("tall", (40, 10)), ("square", (11, 11)), ("filter", (6, 3, 4, 2)), ("word_embedding", (11, 5)))


def newton_schulz(m):
    a, b, c = 3.4445, -4.7750, 2.0315
    x = m.T if m.shape[0] > m.shape[1] else m
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if m.shape[0] > m.shape[1] else x


def muon(momentum=0.95, adam_rate=None):
    """DeepSpeed's MuonWithAuxAdam (deepspeed/runtime/zero/muon/original_muon.py), in float64."""
    other = adam(True)

    def step(p, g, s, lr, decay, t):
        if s["name"] in ("matrix", "vector", "word_embedding"):
            return other(p, g, s, adam_rate or lr, decay, t)
        m = s.get("m", np.zeros_like(p))
        s["m"] = m = m + (g - m) * (1 - momentum)
        update = newton_schulz((g + (m - g) * momentum).reshape(len(p), -1)).reshape(p.shape)
        update *= max(1, p.shape[-2] / p.shape[-1]) ** 0.5
        return p * (1 - lr * decay) - lr * update
    return step


def check_rule(flags, rule, precision):
    _, weights, _ = run_linear(["--optimizer=muon", "--lr=0.01", "--weight-decay=0.1", *flags, *precision], more=MORE)
    assert_near(weights, reference(rule, more=MORE)[0], 1e-12 if precision else 1e-6)


for precision in ((), ("--fp64",)):
    name = precision[0][2:] if precision else "fp32"
    add(f"optimizers/muon/{name} against float64", check_rule, (), muon(), precision)
add("optimizers/muon/momentum and Adam's rate against float64", check_rule, ("--momentum=0.8", "--adam-lr=0.03"), muon(0.8, 0.03), ("--fp64",))


@test("optimizers/muon/what it does not update is AdamW's")
def slots():
    folder = linear_model(MORE)[0]
    plan = succeed(["zopt", "--loss=output", "--micro-batch=1", "--train-only=matrix|vector|wide|tall|square|filter|word_embedding", "--optimizer=muon", "--muon-exclude=TALL", folder / "model.onnx"]).stdout
    for name, rule in (("wide", "muon"), ("filter", "muon"), ("word_embedding", "muon"), ("tall", "adamw"), ("vector", "adamw"), ("matrix", "adamw")):
        assert f"@{name}.{'momentum' if rule == 'muon' else 'exp_avg'} :" in plan, f"{name} is not {rule}'s"
    # Tables of positions and heads that are tied to the table, whatever their names.
    plan = succeed(["zopt", "--optimizer=muon", "--muon-exclude=", MODELS / "gpt2-tiny/model.onnx"]).stdout
    for name, slot in (("transformer.wpe.weight", "exp_avg"), ("lm_head.weight", "exp_avg"), ("transformer.h.0.mlp.c_fc.weight", "momentum")):
        assert f"@{name}.{slot} :" in plan, f"{name} has no {slot}"


def check_average(flags, rule, more):
    out = scratch("ema") / "ema"
    _, weights, _ = run_linear([*flags, "--lr=0.01", "--weight-decay=0.1", "--ema=0.95"], ["--ema-out", out], more=more)
    expected = reference(rule, average=0.95, more=more)
    assert_near(weights, expected[0], 1e-6)
    assert_near(tensors.load(out), expected[1], 1e-6)


add("optimizers/muon/the moving average is that of the weights", check_average, ["--optimizer=muon"], muon(), MORE)
add("optimizers/lamb/the moving average is that of the weights", check_average, ["--optimizer=lamb"], lamb(), ())

# Matrices that slices and buckets cut; gradients accumulate as slices; masters beside bf16 and fp16.
add("I1/optimizers/muon", check_stages, ["--optimizer=muon", "--ema=0.9"])
add("I1/optimizers/muon/bf16", check_stages, ["--optimizer=muon", "--param-group=ln_:lr=0.01"], precision="bf16", accum=2, bucket=32768)
add("I1/optimizers/muon/fp16", check_stages, ["--optimizer=muon"], precision="fp16")


@test("I1/optimizers/muon/stage 2 over mpi")
def stage2():
    base = Config("gpt2-tiny", ranks=4, micro=2, steps=3, flags=("--optimizer=muon",))
    assert_same_training(train(base), train(dataclasses.replace(base, stage=2)))


@test("optimizers/muon/a step that is skipped changes nothing")
def skipped():
    folder = scratch("skipped")
    data = tensors.load(linear_model(MORE)[0] / "data.safetensors")
    data = {name: array[:4].copy() for name, array in data.items()}
    good = {name: np.delete(array, 1, axis=0) for name, array in data.items()}
    data["wide.x"][1, 0, 0] = np.inf
    for name, arrays in (("bad", data), ("good", good)):
        tensors.save(folder / f"{name}.safetensors", arrays)
    flags = ["--optimizer=muon", "--lr=0.1"]
    metrics, with_skip, _ = run_linear(flags, steps=4, data=folder / "bad.safetensors", more=MORE)
    _, without, _ = run_linear(flags, steps=3, data=folder / "good.safetensors", more=MORE)
    assert [m["skipped"] for m in metrics] == [False, True, False, False]
    assert not tensors.same_bits(with_skip, without), "the weights differ"


@test("optimizers/muon/it trains")
def trains():
    losses = train(Config("gpt2-tiny", micro=4, steps=12, flags=("--optimizer=muon", "--lr=0.01", "--adam-lr=0.003"))).losses
    assert losses[-1] < 0.8 * losses[0], losses


# ---------------------------------------------------------------------------------------------------------------------
# OneCycle's momentum: (schedule, rates, first betas) as deepspeed/runtime/lr_schedules.py (0.19.8) gave them as it ran on torch.optim.AdamW; the second beta is 0.99 throughout.
# ---------------------------------------------------------------------------------------------------------------------

GOLDEN = {
    "decaying": ("cycle_min_lr=.1,cycle_max_lr=1,cycle_first_step_size=4,decay_step_size=2,decay_lr_rate=.5,cycle_min_mom=.8,cycle_max_mom=.9,decay_mom_rate=.01",
                 [.1, .325, .55, .775, 1, .775, .55, .325, .1, .08, .06667, .05714], [.8, .875, .85, .825, .8, .825, .85, .875, .9, .9045, .909, .9135]),
    "stairs": ("cycle_min_lr=.1,cycle_max_lr=1,cycle_first_step_size=4,cycle_first_stair_count=2", [.1, .1, .55, .55, 1, .55, .55, .1, .1, .1, .1, .1], [.8, .9, .85, .85, .8, .85, .85, .9, .9, .9, .9, .9]),
    "two lengths": ("cycle_min_lr=.1,cycle_max_lr=1,cycle_first_step_size=3,cycle_second_step_size=5,cycle_min_mom=.85,cycle_max_mom=.99,decay_mom_rate=.01",
                    [.1, .4, .7, 1, .82, .64, .46, .28, .1, .1, .1, .1], [.85, .94333, .89667, .85, .878, .906, .934, .962, .99, .99, .99, .99]),
}


def cycled_adam(betas, decoupled=True):
    def step(p, g, s, lr, decay, t):
        return adam(decoupled, betas[t - 1], 0.99)(p, g, s, lr, decay, t)
    return step


def check_cycle(text, expected_rates, expected_betas, precision):
    metrics, weights, _ = run_linear([f"--schedule=OneCycle,{text}", *precision], steps=len(expected_rates))
    ours = [m["momentum"] for m in metrics]
    assert np.allclose(rates(metrics), expected_rates, rtol=0, atol=0.5e-5) and np.allclose(ours, expected_betas, rtol=0, atol=0.5e-5), f"momenta are {ours}, DeepSpeed's {expected_betas}"
    # What the metrics tell is what was used.
    expected, _ = reference(cycled_adam(ours), lr=lambda name, t: metrics[t - 1]["lr"], decay=lambda name: 0.01, steps=len(ours))
    assert_near(weights, expected, 1e-12 if precision else 1e-6)


for name, golden in GOLDEN.items():
    add(f"schedules/OneCycle's momentum/{name}", check_cycle, *golden, ())
add("schedules/OneCycle's momentum/fp64", check_cycle, *GOLDEN["decaying"], ("--fp64",))


@test("schedules/OneCycle's momentum/lamb and lion cycle too, sgd does not")
def others():
    text = GOLDEN["two lengths"][0]
    for optimizer in ("lamb", "lion", "adam"):
        runs = [run_linear([f"--optimizer={optimizer}", f"--schedule=OneCycle,{text.replace('.85', least)}"], steps=4)[1] for least in (".85", ".6")]
        assert tensors.same_bits(*runs), f"{optimizer}: two least momenta, one result"
    metrics, _, _ = run_linear(["--optimizer=sgd", "--momentum=0.9", f"--schedule=OneCycle,{text}"], steps=2)
    assert "momentum" not in metrics[0]


@test("schedules/OneCycle's momentum/a skipped step does not move it, and a resumed run goes on where it was")
def skips_and_resumes():
    folder = scratch("cycle")
    data = {name: array[:8].copy() for name, array in tensors.load(linear_model()[0] / "data.safetensors").items()}
    data["x"][2, 0, 0] = np.inf
    tensors.save(folder / "d.safetensors", data)
    schedule = f"--schedule=OneCycle,{GOLDEN['decaying'][0]}"
    metrics, whole, _ = run_linear([schedule], steps=8, data=folder / "d.safetensors")
    assert np.allclose([m["momentum"] for m in metrics], [.8, .875, .85, .85, .825, .8, .825, .85]), metrics
    run_linear([schedule], ["--checkpoint-dir", folder / "D"], steps=5, data=folder / "d.safetensors")
    _, resumed, _ = run_linear([schedule], ["--checkpoint-dir", folder / "D", "--resume"], steps=8, data=folder / "d.safetensors")
    assert not tensors.same_bits(whole, resumed), "another momentum after the resumption"


@test("schedules/OneCycle's momentum/what is wrong is refused")
def wrong_cycles():
    folder, out = linear_model()[0], scratch("cycle")
    cycle = f"OneCycle,{GOLDEN['decaying'][0]}"
    model = ["zopt", "--loss=output", "--micro-batch=1", "--train-only=matrix|vector", folder / "model.onnx"]
    expect_refusal(execute([*model, "--schedule=OneCycle,cycle_min_lr=.1,cycle_max_lr=1,cycle_max_mom=1"]), 2, r"cycle_max_mom is 1, expected more than 0 and less than 1")
    succeed([*model, "-o", out / "plain.mlir"])
    succeed([*model, f"--schedule={cycle}", "-o", out / "cycle.mlir"])
    data = ["--data", folder / "data.safetensors", "--comm=local", "--steps", 4]
    expect_refusal(execute(["zrun", out / "plain.mlir", *data, f"--schedule={cycle}"]), 2, r"--schedule: it cycles the momentum, which the plan has as a number: give it to zopt --schedule")
    expect_refusal(execute(["zrun", out / "cycle.mlir", *data, "--schedule=linear"]), 2, r"--schedule: the plan's schedule cycles the momentum, which this one does not set")
    succeed([*model, f"--schedule={cycle.replace('decay_mom_rate=.01', 'decay_mom_rate=1')}", "-o", out / "grows.mlir"])
    expect_refusal(execute(["zrun", out / "grows.mlir", "--data", folder / "data.safetensors", "--comm=local", "--steps", 12]), 1, r"the schedule's momentum is 1\..* after \d+ steps, expected less than 1: decay_mom_rate is too large")
