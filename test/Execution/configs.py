"""DeepSpeed's configs as they are: configs/zero1.json, zero2.json and zero3.json train gpt2-text on 4 ranks as the flags that they stand for do."""
import json

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
