"""DeepSpeed's configs as they are: configs/zero1.json, zero2.json and zero3.json train gpt2-text on 4 ranks as the flags that they stand for do."""
import json
import re

from harness import EXAMPLES, add, execute, expect_refusal, read_metrics, scratch, succeed, test

CONFIGS = EXAMPLES.parent / "configs"
MODEL = EXAMPLES / "gpt2-text/model.onnx"
FLAGS = ("--bf16", "--micro-batch=4", "--grad-accum=1", "--clip=1", "--lr=0.001", "--betas=0.9,0.95", "--eps=1e-8", "--weight-decay=0.1",
         "--schedule=WarmupLR,warmup_min_lr=0,warmup_max_lr=0.001,warmup_num_steps=20")


def steps_of(*flags):
    folder = scratch("config")
    succeed(["zopt", *flags, MODEL, "-o", folder / "plan.mlir"])
    succeed(["zrun", folder / "plan.mlir", "--nproc", 4, "--comm=local", "--threads", 1, "--data", EXAMPLES / "gpt2-text/text.txt", "--steps", 6, "--metrics", folder / "m"], timeout=120)
    return [(s["loss"], s["grad_norm"], s["lr"]) for s in read_metrics(folder / "m")[1]]


def trains(stage):
    ours, theirs = steps_of("--config", CONFIGS / f"zero{stage}.json"), steps_of(*FLAGS, f"--zero-stage={stage}")
    assert ours == theirs, f"{ours} with the config, {theirs} with flags"
    assert ours[0][2] < ours[-1][2] <= 0.001, f"the rate warms up, but is {[s[2] for s in ours]}"


for stage in (1, 2, 3):
    add(f"config/zero{stage}.json", trains, stage)


@test("config/zero3.json trains gpt2-text by the two commands of the guide, over mpi")
def two_commands():
    folder = scratch("config")
    succeed(["zopt", "--config", CONFIGS / "zero3.json", MODEL, "-o", folder / "plan.mlir"])
    succeed(["zrun", folder / "plan.mlir", "--nproc", 4, "--threads", 1, "--data", EXAMPLES / "gpt2-text/text.txt", "--steps", 6, "--metrics", folder / "m"], timeout=200)
    assert [(s["loss"], s["grad_norm"], s["lr"]) for s in read_metrics(folder / "m")[1]] == steps_of("--config", CONFIGS / "zero3.json")


MLP = EXAMPLES / "two-layer/model.onnx"
SETTINGS = {"train_micro_batch_size_per_gpu": 2, "optimizer": {"type": "AdamW", "params": {"lr": 0.01}}, "gradient_clipping": 0.5, "steps_per_print": 2,
            "scheduler": {"type": "WarmupDecayLR", "params": {"warmup_num_steps": 2, "warmup_max_lr": "auto", "warmup_min_lr": "auto", "total_num_steps": "auto"}},
            "csv_monitor": {"enabled": True, "output_path": "tables", "job_name": "first"}}


def write_config(folder, name, config):
    (folder / name).write_text(json.dumps(config))
    return folder / name


def run_in(folder, *flags, code=0, steps=6):
    done = execute(["zrun", folder / "plan.mlir", "--nproc", 2, "--comm=local", "--threads", 1, "--steps", steps, "--metrics", "m", *flags], cwd=folder)
    assert done.code == code, done
    return done, [s["lr"] for s in read_metrics(folder / "m")[1]] if code == 0 else []


def settings_plan():
    folder = scratch("config")
    succeed(["zopt", "--config", write_config(folder, "ds.json", SETTINGS), MLP, "-o", folder / "plan.mlir"])
    return folder


@test("config/the plan holds the run's part, and zrun resolves the total of the schedule")
def run_part():
    folder = settings_plan()
    done, rates = run_in(folder)
    assert (folder / "tables/first.csv").exists(), done
    assert sum(line.startswith("step ") for line in done.stderr.splitlines()) == 3, done  # 2, 4, 6
    # WarmupDecayLR over as many steps as this run has: the last rate depends on that number.
    explicit = scratch("config")
    succeed(["zopt", MLP, "--micro-batch=2", "--lr=0.01", "--clip=0.5", "--weight-decay=0", "--schedule=WarmupDecayLR,warmup_num_steps=2,warmup_min_lr=0,warmup_max_lr=0.01,total_num_steps=6", "-o", explicit / "plan.mlir"])
    assert rates == run_in(explicit)[1], rates
    assert rates != run_in(folder, steps=9)[1][:6]


@test("config/zrun's flags and its own --config override the plan's part")
def overrides():
    folder = settings_plan()
    other = write_config(folder, "run.json", {"optimizer": {"type": "AdamW", "params": {"lr": 0.25}}, "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 2, "warmup_max_lr": 0.25}},
                                              "csv_monitor": {"enabled": True, "output_path": "tables", "job_name": "second"}, "steps_per_print": 3})
    done, rates = run_in(folder, "--config", other)
    assert max(rates) == 0.25 and (folder / "tables/second.csv").exists() and not (folder / "tables/first.csv").exists(), (rates, done)
    assert sum(line.startswith("step ") for line in done.stderr.splitlines()) == 2, done  # 3, 6
    done, rates = run_in(folder, "--config", other, "--schedule=constant", "--lr=0.125", "--csv=own.csv", "--print-every=6")
    assert rates == [0.125] * 6 and (folder / "own.csv").exists() and sum(line.startswith("step ") for line in done.stderr.splitlines()) == 1, (rates, done)
    # What the launcher settles reaches ranks that mpirun starts.
    succeed(["zrun", folder / "plan.mlir", "--nproc", 2, "--threads", 1, "--steps", 6, "--metrics", "mpi", "--config", "run.json"], cwd=folder)
    assert max(s["lr"] for s in read_metrics(folder / "mpi")[1]) == 0.25


@test("config/a config of zrun that contradicts what was compiled is refused, with both values")
def contradictions():
    folder = settings_plan()
    config = {"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2, "bf16": {"enabled": True}, "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 7}, "optimizer": {"type": "Lion"}}
    done, _ = run_in(folder, "--config", write_config(folder, "run.json", config), code=1)
    lines = expect_refusal(done, 1, r"run.json: error: zero_optimization.stage asks for --zero-stage=3, but the plan was compiled with --zero-stage=0", "bf16.enabled asks for --bf16=true, .* with --fp32",
                           "train_micro_batch_size_per_gpu asks for --micro-batch=4, .* micro-batch of 2", "gradient_accumulation_steps asks for --grad-accum=2, .* 1 micro-step", "--optimizer=lion, .* --optimizer=adamw")
    assert len(lines) == 6, lines
    done, _ = run_in(folder, "--config", write_config(folder, "same.json", SETTINGS))
    expect_refusal(run_in(folder, "--config", write_config(folder, "bad.json", {"gradient_cliping": 1}), code=1)[0], 1, "did you mean gradient_clipping")
    expect_refusal(execute(["zrun", folder / "plan.mlir", "--config", "/nowhere"]), 2, "/nowhere")


@test("config/monitors of a config: event files, the bridge, where the time went")
def monitors():
    folder = scratch("config")
    config = {"train_micro_batch_size_per_gpu": 2, "tensorboard": {"enabled": True, "output_path": "boards", "job_name": "job"}, "wandb": {"enabled": True, "project": "p, q", "team": "t"}}
    expect_refusal(execute(["zopt", "--config", write_config(folder, "bad.json", config), MLP]), 1, "wandb.project is \"p, q\", expected a name without a comma")
    config["wandb"]["project"] = "p"
    config["wall_clock_breakdown"] = True
    succeed(["zopt", "--config", write_config(folder, "ds.json", config), MLP, "-o", folder / "plan.mlir"])
    (folder / "wandb.py").write_text("raise ImportError('not here')")
    done = execute(["zrun", folder / "plan.mlir", "--steps", 10, "--threads", 1], cwd=folder, PYTHONPATH=str(folder))
    assert done.code == 0 and "wandb_bridge: error: not here" in done.stderr and "ended with code 1" in done.stderr, done
    assert list((folder / "boards/job").glob("events.out.tfevents*")), done
    line = next(line for line in done.stderr.splitlines() if "products" in line)
    assert re.fullmatch(r"zrun: step 10: products [\d.]+ ms, kernels [\d.]+ ms, collectives [\d.]+ ms, optimizer [\d.]+ ms, other [\d.]+ ms", line), line


@test("config/zero3_offload.json is refused, with both keys")
def offload():
    done = execute(["zopt", "--config", CONFIGS / "zero3_offload.json", MODEL, "-o", scratch("config") / "plan.mlir"])
    lines = "\n".join(expect_refusal(done, 1))
    assert "offload_optimizer.device" in lines and "offload_param.device" in lines, lines


@test("config/--config-check tells where every value comes from; a flag overrides")
def check():
    done = succeed(["zopt", "--config", CONFIGS / "zero2.json", "--config-check", "--lr=0.5"])
    settings = json.loads(done.stdout)["settings"]
    assert settings["--lr"]["value"] == "0.5" and settings["--lr"]["origin"] == "flag", settings["--lr"]
    assert settings["--zero-stage"] == {"key": "zero_optimization.stage", "origin": "config", "value": "2"}, settings["--zero-stage"]
    assert settings["--loss"]["origin"] == "zopt's default", settings["--loss"]


@test("config/--strict refuses what has no effect")
def strict():
    expect_refusal(execute(["zopt", "--strict", "--config", CONFIGS / "zero2.json", MODEL, "-o", scratch("config") / "plan.mlir"]), 1, "overlap_comm")


@test("config/a missing file, a key twice")
def broken():
    expect_refusal(execute(["zopt", "--config", "/nowhere/ds.json", MODEL]), 1, "cannot read")
    path = scratch("config") / "ds.json"
    path.write_text('{"train_batch_size": 8, "train_batch_size": 16}')
    expect_refusal(execute(["zopt", "--config", path, MODEL]), 1, "train_batch_size is given twice")
