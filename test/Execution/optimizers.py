"""Optimizers, schedules and the loss scale of fp16.

The rules are checked on a model whose loss is sum(w * x) / 64: its gradient is the data, so that a reference in float64 takes the very same steps. On real models they must not depend on the stage (I1).
"""
import dataclasses

import numpy as np

import onnx_writer
import tensors
from harness import Config, add, assert_same_training, execute, expect_refusal, memoize, read_metrics, scratch, succeed, test, train

STEPS = 100
SHAPES = {"matrix": (9, 31), "vector": (150,)}


@memoize
def linear_model(more=()):
    """loss = (sum(matrix * x) + sum(vector * y)) / 64, and `more`: (name, shape) of further weights in the sum. What divides is fp32 in fp16 too, so that the cotangent of the sums has room for the loss scale."""
    folder, rng = scratch("linear"), np.random.default_rng(7)
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in (*SHAPES.items(), *more)}
    n = onnx_writer.node
    # Further weights pass through a product with a matrix of ones on its diagonal, which changes neither values nor gradients: Muon takes what products read.
    terms = [node for i, (name, shape) in enumerate(more) for node in (n("MatMul", [name, f"one{shape[-1]}"] if shape[-1] <= 11 else [f"one{shape[0]}", name], [f"p{i}"]), n("Mul", [f"{name}.x", f"p{i}"], [f"m{i}"]), n("ReduceSum", [f"m{i}"], [f"s{i}"], keepdims=0), n("Add", [f"sum{i}", f"s{i}"], [f"sum{i + 1}"]))]
    model = onnx_writer.model(
        [n("Mul", ["x", "matrix"], ["xm"]), n("ReduceSum", ["xm"], ["sx"], keepdims=0), n("Mul", ["y", "vector"], ["yv"]), n("ReduceSum", ["yv"], ["sy"], keepdims=0), n("Add", ["sx", "sy"], ["sum0"]), *terms, n("Mul", [f"sum{len(more)}", "share"], ["loss"])],
        [onnx_writer.tensor(name, array) for name, array in weights.items()] + [onnx_writer.tensor("share", np.float32(1 / 64)), *(onnx_writer.tensor(f"one{n}", np.eye(n, dtype=np.float32)) for n in sorted({shape[-1] if shape[-1] <= 11 else shape[0] for _, shape in more}))],
        [onnx_writer.value("x", ["batch", *SHAPES["matrix"]]), onnx_writer.value("y", ["batch", *SHAPES["vector"]]), *(onnx_writer.value(f"{name}.x", ["batch", *shape]) for name, shape in more)], [onnx_writer.value("loss", [])])
    (folder / "model.onnx").write_bytes(model)
    gradients = {name: rng.standard_normal((STEPS, *shape)).astype(np.float32) for name, shape in (*SHAPES.items(), *more)}
    tensors.save(folder / "data.safetensors", {"x": 64 * gradients["matrix"], "y": 64 * gradients["vector"], **{f"{name}.x": 64 * gradients[name] for name, _ in more}})
    return folder, weights, gradients


def run_linear(flags, run_flags=(), steps=STEPS, ranks=1, data=None, more=()):
    """Metrics and final weights of a run on the linear model."""
    folder, out = linear_model(more)[0], scratch("optimizer")
    succeed(["zopt", "--loss=output", "--micro-batch=1", "--train-only=" + "|".join(["matrix", "vector", *(name for name, _ in more)]), *flags, folder / "model.onnx", "-o", out / "plan.mlir"])
    succeed(["zrun", out / "plan.mlir", "--nproc", ranks, "--comm=local", "--threads", 1, "--data", data or folder / "data.safetensors", "--steps", steps, "--metrics", out / "m", "--weights-out", out / "w", *run_flags])
    return read_metrics(out / "m")[1], tensors.load(out / "w"), out


# ---------------------------------------------------------------------------------------------------------------------
# Rules: the formulas of docs/Optimizers.md in float64
# ---------------------------------------------------------------------------------------------------------------------

def adam(decoupled, beta1=0.9, beta2=0.999, eps=1e-8):
    def step(p, g, s, lr, decay, t):
        if decoupled:
            p = p * (1 - lr * decay)
        else:
            g = g + decay * p
        s["m"] = beta1 * s.get("m", 0) + (1 - beta1) * g
        s["v"] = beta2 * s.get("v", 0) + (1 - beta2) * g * g
        return p - lr / (1 - beta1**t) * s["m"] / (np.sqrt(s["v"]) / np.sqrt(1 - beta2**t) + eps)
    return step


def sgd(momentum=0.0, nesterov=False):
    def step(p, g, s, lr, decay, t):
        g = g + decay * p
        s["m"] = momentum * s["m"] + g if "m" in s else g
        return p - lr * (g + momentum * s["m"] if nesterov else s["m"])
    return step


def adagrad(eps=1e-8):
    def step(p, g, s, lr, decay, t):
        g = g + decay * p
        s["sum"] = s.get("sum", 0) + g * g
        return p - lr * g / (np.sqrt(s["sum"]) + eps)
    return step


def lion(beta1=0.9, beta2=0.999):
    def step(p, g, s, lr, decay, t):
        m = s.get("m", np.zeros_like(p))
        s["m"] = beta2 * m + (1 - beta2) * g
        return p * (1 - lr * decay) - lr * np.sign(beta1 * m + (1 - beta1) * g)
    return step


def lamb(beta1=0.9, beta2=0.999, eps=1e-8):
    """DeepSpeed's FusedLamb (csrc/lamb/fused_lamb_cuda_kernel.cu), eps outside the root."""
    def step(p, g, s, lr, decay, t):
        s["m"] = beta1 * s.get("m", 0) + (1 - beta1) * g
        s["v"] = beta2 * s.get("v", 0) + (1 - beta2) * g * g
        direction = s["m"] / (1 - beta1**t) / (np.sqrt(s["v"] / (1 - beta2**t)) + eps) + decay * p
        ratio = min(max(np.linalg.norm(p) / np.linalg.norm(direction), 0.01), 10.0)
        return p - lr * ratio * direction
    return step


RULES = {
    "adamw": (["--optimizer=adamw"], adam(True)),
    "adam": (["--optimizer=adam", "--betas=0.8,0.99", "--eps=1e-6"], adam(False, 0.8, 0.99, 1e-6)),
    "sgd": (["--optimizer=sgd"], sgd()),
    "sgd-momentum": (["--optimizer=sgd", "--momentum=0.9"], sgd(0.9)),
    "sgd-nesterov": (["--optimizer=sgd", "--momentum=0.9", "--nesterov"], sgd(0.9, True)),
    "adagrad": (["--optimizer=adagrad", "--eps=1e-10"], adagrad(1e-10)),
    "lion": (["--optimizer=lion", "--betas=0.9,0.99"], lion(0.9, 0.99)),
    "lamb": (["--optimizer=lamb"], lamb()),
}


def reference(rule, lr=lambda name, t: 0.01, decay=lambda name: 0.1, average=None, more=(), steps=STEPS):
    _, weights, gradients = linear_model(more)
    result, averages = {}, {}
    for name, w in weights.items():
        p, state = w.astype(np.float64), {"name": name}
        e = p
        for t in range(1, steps + 1):
            p = rule(p, gradients[name][t - 1].astype(np.float64), state, lr(name, t), decay(name), t)
            e = average * e + (1 - average) * p if average else e
        result[name], averages[name] = p, e
    return result, averages


def assert_near(ours, theirs, tolerance):
    for name, expected in theirs.items():
        error = np.linalg.norm(ours[name] - expected) / np.linalg.norm(expected)
        assert error <= tolerance, f"'{name}' is off by {error:.3g} relative after {STEPS} steps, more than {tolerance:g}"


def check_rule(name, precision):
    flags, rule = RULES[name]
    _, weights, _ = run_linear([*flags, "--lr=0.01", "--weight-decay=0.1", *precision])
    assert_near(weights, reference(rule)[0], 1e-12 if precision else 1e-6)


for name in RULES:
    add(f"optimizers/{name}/fp32 against float64", check_rule, name, ())
    add(f"optimizers/{name}/fp64 against float64", check_rule, name, ("--fp64",))


@test("optimizers/groups have a rate and a decay of their own")
def groups():
    _, weights, _ = run_linear(["--optimizer=sgd", "--momentum=0.9", "--lr=0.01", "--weight-decay=0.1", "--param-group=^vec:lr=0.03", "--param-group=mat|vec:weight-decay=0"])
    # The first group that matches counts: `vector` keeps the decay that all have.
    assert_near(weights, reference(sgd(0.9), lambda name, t: 0.03 if name == "vector" else 0.01, lambda name: 0.1 if name == "vector" else 0)[0], 1e-6)


@test("optimizers/the moving average is that of the weights")
def moving_average():
    out = scratch("ema") / "ema"
    _, weights, folder = run_linear(["--lr=0.01", "--weight-decay=0.1", "--ema=0.95"], ["--ema-out", out])
    expected = reference(adam(True), average=0.95)
    assert_near(weights, expected[0], 1e-6)
    assert_near(tensors.load(out), expected[1], 1e-6)
    # It is a file of weights like another.
    succeed(["zrun", folder / "plan.mlir", "--comm=local", "--steps", 1, "--weights", out])
    _, _, plain = run_linear(["--lr=0.01"], steps=1)
    expect_refusal(execute(["zrun", plain / "plan.mlir", "--comm=local", "--steps", 1, "--ema-out", out]), 1, r"--ema-out needs a moving average, which a plan of zopt --ema=DECAY keeps")


def check_average(stage):
    outs = [scratch("ema") / "ema" for _ in range(2)]
    base = Config("gpt2-tiny", precision="bf16", ranks=4, micro=2, steps=5, flags=("--ema=0.9",))
    for out, number in zip(outs, (0, stage)):
        train(dataclasses.replace(base, stage=number, run_flags=("--ema-out", str(out))))
    assert not tensors.same_bits(*map(tensors.load, outs))


def check_stages(flags, **changes):
    base = Config("gpt2-tiny", ranks=4, micro=1 if changes.get("accum") == 2 else 2, steps=5, flags=("--clip=1", *flags), **changes)
    for stage in (1, 3):
        assert_same_training(train(base), train(dataclasses.replace(base, stage=stage)))
    if changes.get("bucket"):
        assert_same_training(train(base), train(dataclasses.replace(base, bucket=0)))


for name in ("adagrad", "lion", "sgd-nesterov", "lamb"):
    add(f"I1/optimizers/{name}", check_stages, RULES[name][0])
# Norms of single tensors, which buckets and slices cut, in bf16 and with accumulation.
add("I1/optimizers/lamb/bf16", check_stages, [*RULES["lamb"][0], "--param-group=ln_:lr=0.01"], precision="bf16", accum=2, bucket=32768)
for stage in (1, 3):
    add(f"I1/optimizers/moving average/stage{stage}", check_average, stage)
add("I1/optimizers/groups", check_stages, ["--param-group=lm_head|wpe:lr=0.01,weight-decay=0", "--param-group=ln_:lr=0.002", "--no-decay=bias$"])


# ---------------------------------------------------------------------------------------------------------------------
# Schedules
# ---------------------------------------------------------------------------------------------------------------------

# As DeepSpeed's classes gave them when they ran.
GOLDEN = {
    "WarmupLR,warmup_max_lr=1,warmup_num_steps=5": [0, 0, .43068, .68261, .86135, 1, 1],
    "WarmupDecayLR,total_num_steps=10,warmup_max_lr=1,warmup_num_steps=4,warmup_type=linear": [0, 0, .25, .5, .75, 1, .83333, .66667, .5, .33333, .16667, 0],
    "WarmupCosineLR,total_num_steps=10,warmup_num_steps=4,warmup_type=linear": [0, 0, .025, .05, .075, .0933, .075, .05001, .02501, .00671, 1e-5],
    "OneCycle,cycle_min_lr=.1,cycle_max_lr=1,cycle_first_step_size=4,decay_step_size=2,decay_lr_rate=.5,cycle_momentum=false": [.1, .325, .55, .775, 1, .775, .55, .325, .1, .08, .06667, .05714],
}


def rates(metrics):
    return [m["lr"] for m in metrics]


def check_schedule(text, expected, where):
    flags, run_flags = (["--lr=0.1", f"--schedule={text}"], []) if where == "plan" else (["--lr=5", "--schedule=linear"], ["--lr", 0.1, f"--schedule={text}"])
    metrics, weights, _ = run_linear(["--optimizer=sgd", "--weight-decay=0", *flags], run_flags, steps=len(expected))
    assert np.allclose(rates(metrics), expected, rtol=0, atol=0.5e-5), f"rates are {rates(metrics)}, DeepSpeed's {expected}"
    # The rate that the metrics tell is the one that was used.
    _, start, gradients = linear_model()
    for name in start:
        taken = sum(np.float64(r) * g.astype(np.float64) for r, g in zip(rates(metrics), gradients[name]))
        assert np.allclose(weights[name], start[name] - taken, rtol=1e-5, atol=1e-5), f"'{name}' did not take the steps of the metrics"


for text, expected in GOLDEN.items():
    for where in ("plan", "run"):
        add(f"schedules/{text.split(',')[0]}/of the {where}", check_schedule, text, expected, where)


@test("schedules/the run's number of steps ends a schedule that leaves it open")
def open_schedule():
    metrics, _, _ = run_linear(["--optimizer=sgd", "--lr=1", "--schedule=linear,warmup_steps=1"], steps=5)
    assert rates(metrics) == [0, 1, .75, .5, .25], rates(metrics)


@test("schedules/a skipped step moves none")
def skipped_step():
    folder = scratch("skipped")
    data = tensors.load(linear_model()[0] / "data.safetensors")
    data = {name: array[:8].copy() for name, array in data.items()}
    data["x"][2, 0, 0] = data["x"][3, 0, 0] = np.inf
    tensors.save(folder / "data.safetensors", data)
    metrics, _, _ = run_linear(["--optimizer=sgd", "--lr=1", "--schedule=linear,total_steps=10"], steps=8, data=folder / "data.safetensors")
    assert [m["skipped"] for m in metrics] == [False, False, True, True] + [False] * 4, metrics
    assert np.allclose(rates(metrics), [1, .9, .8, .8, .8, .7, .6, .5]), rates(metrics)


@test("schedules/what is wrong is refused")
def wrong_schedules():
    model = linear_model()[0] / "model.onnx"
    expect_refusal(execute(["zopt", model, "--schedule=Linear"]), 2, r"--schedule: the schedule is 'Linear', expected one of WarmupLR")
    expect_refusal(execute(["zopt", model, "--schedule=WarmupLR,warmup_steps=3,warmup_type=x"]), 2, r"'warmup_steps' is none of its parameters .*; warmup_type is 'x'")
    expect_refusal(execute(["zrun", "plan.mlir", "--schedule=OneCycle"]), 2, r"cycle_min_lr is missing; cycle_max_lr is missing")
    expect_refusal(execute(["zrun", "plan.mlir", "--lr=-1"]), 2, r"--lr")


# ---------------------------------------------------------------------------------------------------------------------
# What a run sets in place of the plan
# ---------------------------------------------------------------------------------------------------------------------

@test("overrides/rate, clip and decay of a run are those of a plan that has them")
def overrides():
    common = ["--optimizer=adamw", "--no-decay=vector"]
    _, expected, _ = run_linear([*common, "--lr=0.02", "--clip=0.5", "--weight-decay=0.3"], steps=10)
    _, ours, out = run_linear([*common, "--lr=0.001", "--weight-decay=0"], ["--lr=0.02", "--clip=0.5", "--weight-decay=0.3"], steps=10)
    assert not tensors.same_bits(expected, ours), "the weights differ"
    _, unclipped, _ = run_linear([*common, "--lr=0.02", "--clip=0.5"], ["--clip=0"], steps=10)
    _, expected, _ = run_linear([*common, "--lr=0.02"], steps=10)
    assert not tensors.same_bits(expected, unclipped), "--clip=0 clips"


# ---------------------------------------------------------------------------------------------------------------------
# The loss scale of fp16
# ---------------------------------------------------------------------------------------------------------------------

def overflow_data(pattern, ranks=1):
    """Samples whose gradient overflows fp16 where the pattern has an X; on several ranks on the last one alone."""
    path, rng = scratch("overflow") / "data.safetensors", np.random.default_rng(3)
    data = {name: (0.05 * rng.standard_normal((len(pattern) * ranks, *shape))).astype(np.float32) for name, shape in (("x", SHAPES["matrix"]), ("y", SHAPES["vector"]))}
    for i, c in enumerate(pattern):
        if c == "X":
            data["x"][(i + 1) * ranks - 1, 0, 0] = 6400
    tensors.save(path, data)
    return path


# (pattern, flags, the scale used at each step): what DeepSpeed's DynamicLossScaler gave as it ran, window 3.
K = 65536
SCALES = {
    "hysteresis 2": ("XX....X.X....", [], [K, K] + [K // 2] * 4 + [K] * 3 + [K // 2] * 4),
    "consecutive": ("XX....X.X....", ["--loss-scale-consecutive-hysteresis"], [K, K] + [K // 2] * 4 + [K] * 7),
    "hysteresis 1": ("X....X.X....", ["--loss-scale-hysteresis=1"], [K] + [K // 2] * 4 + [K, K // 2, K // 2] + [K // 4] * 4),
    "clean": ("............", [], [K] * 4 + [2 * K] * 3 + [4 * K] * 3 + [8 * K] * 2),
}


def check_scales(pattern, flags, expected, ranks, stage):
    metrics, weights, _ = run_linear(["--fp16", "--optimizer=sgd", "--loss-scale-window=3", f"--zero-stage={stage}", *flags], steps=len(pattern), ranks=ranks, data=overflow_data(pattern, ranks))
    assert [m["loss_scale"] for m in metrics] == expected, f"scales are {[m['loss_scale'] for m in metrics]}, DeepSpeed's {expected}"
    assert [m["skipped"] for m in metrics] == [c == "X" for c in pattern], [m["skipped"] for m in metrics]
    assert all(np.isfinite(w).all() for w in weights.values())


for name, (pattern, flags, expected) in SCALES.items():
    for stage, ranks in ((0, 1), (3, 2)):
        add(f"fp16/loss scale/{name}/stage{stage}-ranks{ranks}", check_scales, pattern, flags, expected, ranks, stage)


@test("fp16/loss scale/a static one stays")
def static_scale():
    metrics, _, _ = run_linear(["--fp16", "--optimizer=sgd", "--loss-scale=1024"], steps=6, data=overflow_data("..X..."))
    assert [m["loss_scale"] for m in metrics] == [1024] * 6 and [m["skipped"] for m in metrics] == [False, False, True] + [False] * 3, metrics


@test("fp16/loss scale/an overflow at the least one ends the run")
def exhausted_scale():
    folder, out = linear_model()[0], scratch("exhausted")
    succeed(["zopt", "--loss=output", "--micro-batch=1", "--train-only=matrix|vector", "--fp16", "--loss-scale-init-power=12", "--loss-scale-min=2048", folder / "model.onnx", "-o", out / "plan.mlir"])
    done = execute(["zrun", out / "plan.mlir", "--comm=local", "--data", overflow_data("XXXX...."), "--steps", 8, "--metrics", out / "m", "--nonfinite=stop"])
    expect_refusal(done, 3, r"step 3 overflowed at the least loss scale, 2048")
    assert [m["loss_scale"] for m in read_metrics(out / "m")[1]] == [4096, 4096, 2048]


def simulate(scale, overflows, window=1000, hysteresis=2, least=1):
    """DeepSpeed's DynamicLossScaler: the scale used at each step."""
    used, last, left = [], -1, hysteresis
    for i, overflow in enumerate(overflows):
        used.append(scale)
        if overflow:
            if left == 1:
                scale = max(scale / 2, least)
            else:
                left -= 1
            last = i
        elif i - last - 1 > 0 and (i - last - 1) % window == 0:
            left, scale = hysteresis, scale * 2
    return used


def check_recovery(model):
    """From a scale far too large: skipped and halved until it fits, then doubled and halved on the way, alike at every stage."""
    flags = ("--clip=1", "--loss-scale-init-power=30", "--loss-scale-hysteresis=1", "--loss-scale-window=4")
    base = Config(model, precision="fp16", ranks=4, micro=2, steps=25, flags=flags)
    run = train(base)
    skips = [s["skipped"] for s in run.steps].index(False)
    assert 5 < skips < 20, f"{skips} steps were skipped before the first that fits"
    expected = simulate(2.0**30, [s["skipped"] for s in run.steps], window=4, hysteresis=1)
    assert [s["loss_scale"] for s in run.steps] == expected, f"scales are {[s['loss_scale'] for s in run.steps]}, DeepSpeed's {expected}"
    assert sum(s["skipped"] for s in run.steps[skips:]) <= 4 and run.losses[-1] < run.losses[0], run.losses
    for stage in (1, 2, 3):
        other = train(dataclasses.replace(base, stage=stage))
        assert_same_training(run, other)
        assert [s["loss_scale"] for s in other.steps] == [s["loss_scale"] for s in run.steps]


for model in ("gpt2-tiny", "mlp-tiny"):
    add(f"fp16/{model}/recovers from a scale that overflows", check_recovery, model)


@test("fp16/what is wrong is refused")
def wrong_scales():
    model = linear_model()[0] / "model.onnx"
    expect_refusal(execute(["zopt", model, "--fp16", "--bf16"]), 2, r"--bf16, --fp16 and --fp64 exclude one another")
    expect_refusal(execute(["zopt", model, "--loss-scale=8"]), 2, r"--loss-scale is a setting of --fp16")
    expect_refusal(execute(["zopt", model, "--fp16", "--loss-scale=8", "--loss-scale-window=3"]), 2, r"--loss-scale-window is a setting of a dynamic scale, but --loss-scale is 8")
    expect_refusal(execute(["zopt", model, "--fp16", "--loss=output", "--loss-scale=much"]), 1, r"loss scale is 'much', expected dynamic or a positive number")
    expect_refusal(execute(["zopt", model, "--fp16", "--loss=output", "--loss-scale-window=0"]), 1, r"window of 0 steps, expected 1 to 16777216")
    expect_refusal(execute(["zopt", model, "--optimizer=shampoo"]), 2, r"--optimizer is adamw, adam, sgd, adagrad, lion, lamb or muon, but got 'shampoo'")
