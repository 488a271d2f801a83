"""Every key of DeepSpeed's config that zopt honours: two values make two plans or two runs. What it does not honour makes no difference and says why, or is refused."""
import copy
import json
import re

from harness import MODELS, add, execute, expect_refusal, memoize, scratch, succeed, test

MODEL = MODELS / "mlp-tiny/model.onnx"
BASE = {"train_micro_batch_size_per_gpu": 2, "optimizer": {"type": "AdamW", "params": {"lr": 0.001}}, "zero_optimization": {"stage": 3}}
FP16, SGD = {"fp16": {"enabled": True}}, {"optimizer": {"type": "SGD", "params": {"momentum": 0.9}}}
WARMUP = {"scheduler": {"type": "WarmupLR"}}
MUON = {"optimizer": {"type": "Muon"}}


@memoize
def table():
    """[(key, type, default, class, about)] as zopt lists them, without the keys of jobs."""
    text = succeed(["zopt", "--list-config-keys"]).stdout.split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]
    return [(row[0].strip("`"), *row[1:5]) for row in rows]


def merged(base, more):
    base = copy.deepcopy(base)
    for key, value in more.items():
        base[key] = merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
    return base


def nested(path, value):
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def compile_config(config):
    folder = scratch("keys")
    (folder / "ds.json").write_text(json.dumps(config))
    return execute(["zopt", "--config", folder / "ds.json", MODEL, "-o", folder / "plan.mlir"]), folder / "plan.mlir"


def plan_of(config):
    """The plan as it is compiled: without what is recorded of flags and of the run."""
    done, path = compile_config(config)
    assert done.code == 0, done
    return re.sub(r"train\.(compiled|run) = \{[^}]*\}(, )?", "", path.read_text())


# Key: two values, and what else the config must say for them to mean something. Both plans are compiled and must differ.
PLANS = {
    "train_batch_size": (8, 16, {"train_micro_batch_size_per_gpu": None}),
    "train_micro_batch_size_per_gpu": (1, 2, {}),
    "gradient_accumulation_steps": (1, 2, {}),
    "gradient_clipping": (0, 1, {}),
    "communication_data_type": ("fp32", "bf16", {"bf16": {"enabled": True}}),
    "optimizer.type": ("AdamW", "Lion", {}),
    "optimizer.params.lr": (0.001, 0.002, {}),
    "optimizer.params.betas": ([0.9, 0.999], [0.9, 0.95], {}),
    "optimizer.params.eps": (1e-8, 1e-6, {}),
    "optimizer.params.weight_decay": (0, 0.1, {}),
    "optimizer.params.momentum": (0, 0.9, {"optimizer": {"type": "SGD"}}),
    "optimizer.params.nesterov": (False, True, SGD),
    "optimizer.params.adam_w_mode": (True, False, {"optimizer": {"type": "Adam", "params": {"weight_decay": 0.1}}}),
    "optimizer.params.muon_lr": (0.01, 0.02, MUON),
    "optimizer.params.adam_lr": (0.001, 0.002, MUON),
    "scheduler.type": ("WarmupLR", "LRRangeTest", {}),
    "scheduler.params.*": ({"warmup_num_steps": 10}, {"warmup_num_steps": 20}, WARMUP),
    "fp16.enabled": (False, True, {}),
    "fp16.loss_scale": (0, 128, FP16),
    "fp16.initial_scale_power": (16, 8, FP16),
    "fp16.loss_scale_window": (1000, 100, FP16),
    "fp16.hysteresis": (2, 1, FP16),
    "fp16.consecutive_hysteresis": (False, True, FP16),
    "fp16.min_loss_scale": (1, 2, FP16),
    "bf16.enabled": (False, True, {}),
    "zero_optimization.stage": (1, 3, {}),
    "zero_optimization.reduce_bucket_size": (64, 5e8, {"zero_optimization": {"stage": 2}}),
    "zero_optimization.stage3_prefetch_bucket_size": (64, 5e8, {"zero_optimization": {"stage3_param_persistence_threshold": 0}}),
    "zero_optimization.stage3_param_persistence_threshold": (0, 1e6, {}),
    "activation_checkpointing.partition_activations": (False, True, {}),
    "activation_checkpointing.number_checkpoints": (None, 4, {}),
}
MONITOR = {"tensorboard": {"enabled": True}, "csv_monitor": {"enabled": True}, "wandb": {"enabled": True}}
# Key: two values, what else the config says, and what to look at after a run in an empty folder: its files, or what it prints.
RUNS = {
    "steps_per_print": (1, 2, {}, "lines"),
    "wall_clock_breakdown": (False, True, {"steps_per_print": 2}, "parts"),
    "memory_breakdown": (False, True, {}, "stdout"),
    "tensorboard.enabled": (False, True, {}, "files"),
    "tensorboard.output_path": ("a", "b", {"tensorboard": {"enabled": True}}, "files"),
    "tensorboard.job_name": ("a", "b", {"tensorboard": {"enabled": True}}, "files"),
    "csv_monitor.enabled": (False, True, {}, "files"),
    "csv_monitor.output_path": ("a", "b", {"csv_monitor": {"enabled": True}}, "files"),
    "csv_monitor.job_name": ("a", "b", {"csv_monitor": {"enabled": True}}, "files"),
    "comms_logger.enabled": (False, True, {}, "files"),
    "wandb.enabled": (False, True, {}, "wandb"),
    "wandb.project": ("a", "b", {"wandb": {"enabled": True}}, "wandb"),
    "wandb.group": ("a", "b", {"wandb": {"enabled": True}}, "wandb"),
    "wandb.team": ("a", "b", {"wandb": {"enabled": True}}, "wandb"),
}
# Honoured by being refused.
REFUSED = {"data_types.grad_accum_dtype": ("fp32", "bf16", {}), "optimizer.params.ns_method": ("standard", "taylor", MUON)}

FAKE_WANDB = """
import os
class config: update = staticmethod(lambda *a, **k: None)
class summary: update = staticmethod(lambda *a, **k: None)
class Run:
    config, summary = config, summary
    def log(self, *a, **k): pass
    def finish(self): pass
def init(**names):
    open(os.environ["CALLS"], "w").write(repr(sorted(names.items(), key=str)))
    return Run()
"""


def makes_two_plans(key):
    a, b, more = PLANS[key]
    path = key.removesuffix(".*")
    plans = []
    for value in (a, b):
        config = merged(merged(BASE, more), nested(path, value))
        plans.append(plan_of({name: part for name, part in config.items() if part is not None}))
    assert plans[0] != plans[1], f"{key} = {a} and {b} make the same plan"


def makes_two_runs(key):
    a, b, more, look = RUNS[key]
    seen = []
    for value in (a, b):
        done, plan = compile_config(merged(merged(BASE, more), nested(key, value)))
        assert done.code == 0, done
        folder = scratch("run")
        (folder / "wandb.py").write_text(FAKE_WANDB)
        run = succeed(["zrun", plan, "--steps", 4, "--threads", 1], cwd=folder, PYTHONPATH=str(folder), CALLS=str(folder / "calls"))
        files = sorted(str(p.parent.relative_to(folder)) if "tfevents" in p.name else str(p.relative_to(folder)) for p in folder.rglob("*") if p.name not in ("wandb.py", "calls"))
        lines = sum(bool(re.match(r"step \d", line)) for line in run.stderr.splitlines())
        parts = run.stderr.count("collectives")
        seen.append({"files": files, "stdout": bool(run.stdout), "lines": lines, "parts": parts, "wandb": (folder / "calls").read_text() if (folder / "calls").exists() else ""}[look])
    assert seen[0] != seen[1], f"{key} = {a} and {b}: {look} is {seen[0]} twice"


def is_refused(key):
    a, b, more = REFUSED[key]
    assert compile_config(merged(merged(BASE, more), nested(key, a)))[0].code == 0
    expect_refusal(compile_config(merged(merged(BASE, more), nested(key, b)))[0], 1, re.escape(key))


for key in PLANS:
    add(f"config-keys/{key}: two plans", makes_two_plans, key)
for key in RUNS:
    add(f"config-keys/{key}: two runs", makes_two_runs, key)
for key in REFUSED:
    add(f"config-keys/{key}: refused", is_refused, key)


@test("config-keys/further settings of Muon and OneCycle: two plans, or two runs")
def further():
    plans = [plan_of(merged(BASE, {"optimizer": {"type": "Muon", "params": {name: value}}})) for name, value in (("momentum", 0.95), ("momentum", 0.8), ("weight_decay", 0.1), ("betas", [0.9, 0.99]), ("eps", 1e-8))]
    assert len(set(plans)) == 5 and "@muon" in plans[0]
    cycle = {"cycle_min_lr": 0.01, "cycle_max_lr": 0.1, "cycle_first_step_size": 2, "cycle_second_step_size": 2, "decay_step_size": 1}
    momenta = []
    for more in ({}, {"cycle_min_mom": 0.5}, {"cycle_max_mom": 0.95}, {"decay_mom_rate": 0.01}, {"cycle_momentum": False}):
        done, plan = compile_config(merged(BASE, {"scheduler": {"type": "OneCycle", "params": {**cycle, **more}}}))
        assert done.code == 0, done
        folder = scratch("cycle")
        succeed(["zrun", plan, "--steps", 6, "--threads", 1, "--metrics", folder / "m"])
        momenta.append(tuple(s.get("momentum") for s in map(json.loads, (folder / "m").read_text().splitlines()) if s["event"] == "step"))
    assert len(set(momenta)) == 5 and momenta[-1] == (None,) * 6, momenta


@test("config-keys/every honoured key is in a table here")
def all_keys():
    honoured = {key for key, _, _, kind, _ in table() if kind == "honoured"}
    tested = {*PLANS, *RUNS, *REFUSED}
    assert honoured == tested, f"not tested: {sorted(honoured - tested)}; tested, but not honoured: {sorted(tested - honoured)}"


def another_value(kind, default):
    """Of this type, and not the default."""
    kind, _, allowed = kind.partition(": ")
    if kind == "bool":
        return default != "true"
    if kind in ("int", "number"):
        return 3 if default != "3" else 4
    if kind == "string":
        return next(word for word in (allowed or "something").split(",") if json.dumps(word) != default)
    return ["x"] if kind == "list" else {"x": 1}


def all_of(kind):
    return [(key, type_, default, about) for key, type_, default, what, about in table() if what == kind]


@test("config-keys/what has no effect makes no other plan, and one warning gives each reason")
def no_effect():
    rows = all_of("no effect")
    assert len(rows) > 60, len(rows)
    config = BASE
    for key, type_, default, about in rows:
        assert about, f"{key} does not say why it has no effect"
        config = merged(config, nested(key, another_value(type_, default)))
    done, _ = compile_config(config)
    assert done.code == 0, done
    warning = next(line for line in done.stderr.splitlines() if "no effect here" in line)
    for key, *_ in rows:
        assert key in warning, f"{key} is not in: {warning}"
    assert plan_of(config) == plan_of(BASE)


@test("config-keys/what is not built is refused, each key in a line of its own")
def not_built():
    config, keys = BASE, []
    for key, type_, default, about in all_of("default only") + all_of("off only"):
        path = key.replace(".*", ".x")
        if key.startswith("optimizer.params."):
            continue  # of several optimizers: test/Unit/Config/corpus.txt
        config = merged(config, nested(path, another_value(type_, default)))
        keys.append(path)
    lines = expect_refusal(compile_config(config)[0], 1)
    for path in keys:
        assert any(f" {path} " in line for line in lines), f"{path} is not refused: {lines}"


@test("config-keys/what belongs to a section that is off says nothing")
def off():
    config = BASE
    for key, type_, default, about in all_of("of a section that is off"):
        config = merged(config, nested(key.replace(".*", ".x"), another_value(type_, default)))
    assert plan_of(config) == plan_of(BASE)


@test("config-keys/other spellings are taken for the key that is meant, with a warning")
def other_spellings():
    types = {key: (type_, default) for key, type_, default, *_ in table()}
    for key, _, _, about in all_of("other spelling"):
        type_, default = types[about]
        done, _ = compile_config(nested(key, another_value(type_, default)) if about.startswith("train") else merged(BASE, nested(key, another_value(type_, default))))
        assert f"{key} is taken for {about}" in done.stderr, done
