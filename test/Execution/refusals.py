"""Flags that zopt and zrun refuse before they read much: one line that names the flag and the value, and the exit code of the interface."""
import re

from harness import MODELS, add, compile_plan, execute, expect_refusal, memoize, model_path, scratch, test

BATCH = MODELS / "mlp-tiny" / "batch.safetensors"

# Wrong whatever the model is: exit code 2.
ZOPT = {
    "--mode=backward": "--mode is train, gradient or forward, but got 'backward'",
    "--fp64 --loss-scale=8": "--loss-scale is a setting of --fp16, which is not given",
    "--fp16 --loss-scale=8 --loss-scale-window=9": "--loss-scale-window is a setting of a dynamic scale, but --loss-scale is 8",
    "--keep-fp32=norm": "--keep-fp32 is a setting of --bf16 and --fp16, which are not given",
    "--grad-dtype=fp8": "--grad-dtype is bf16, fp16 or fp32, but got 'fp8'",
    "--zero-stage=4": "--zero-stage is 0, 1, 2, 3 or auto, but got '4'",
    "--zero-stage=2 --device-memory=9": "--device-memory is what --zero-stage=auto plans for, but --zero-stage is 2",
    "--zero-stage=auto --device-memory=-9": "--device-memory is a positive number of bytes, but got -9",
    "--mode=forward --eval": "--eval is about a plan that trains, but --mode is forward",
    "--bucket-bytes=0": "--bucket-bytes is a positive number or auto, but got '0'",
    "--recompute=some": "--recompute is none, selective or full, but got 'some'",
    "--loss=hinge": "--loss is 'hinge', ",
    "--loss=mse --class-weights=1,2": "--class-weights are of cross_entropy, but --loss is mse",
    "--loss=mse --pos-weight=1,2": "--pos-weight is of bce_with_logits, but --loss is mse",
    "--class-weights=nowhere.json": "--class-weights: 'nowhere.json' cannot be read: No such file or directory",
    "--class-weights=1,x": "--class-weights is '1,x', but ",
    "--label-smoothing=1": "--label-smoothing is at least 0 and below 1, but got 1",
    "--loss-average=mean": "--loss-average is global or micro-batch, but got 'mean'",
    "--optimizer=shampoo": "--optimizer is adamw, adam, sgd, adagrad, lion, lamb or muon, but got 'shampoo'",
    "--muon-exclude=head": "--muon-exclude is a setting of --optimizer=muon, but the optimizer is adamw",
    "--decay=some": "--decay is all or matrices, but got 'some'",
    "--param-group=a;b:lr=1": "--param-group 'a;b:lr=1' has a ';', which separates groups; '.' matches it too",
    "--schedule=steps": "--schedule: ",
    "--training-mode=on": "--training-mode is keep, train or eval, but got 'on'",
    "--nproc=1 --memory-report=xml": "--memory-report is text or json, but got 'xml'",
    "--memory-report": "--memory-report needs --nproc: bytes a rank depend on the number of ranks",
    "--micro-batch=-1": "--micro-batch is positive, but got -1",
    "--global-batch=8 --grad-accum=2": "--global-batch with --grad-accum leaves the micro-batch to the number of ranks: give --micro-batch or --nproc",
    "--global-batch=9 --grad-accum=2 --nproc=2": "--global-batch=9 is not divisible by --grad-accum=2 times --nproc=2",
    "--print-pipeline --zero-stage=auto": "--print-pipeline does not read the model, but --zero-stage=auto depends on it",
    "--bind=seq": "--bind takes NAME=SIZE with a positive size, but got 'seq'",
    "--bind=seq=0": "--bind takes NAME=SIZE with a positive size, but got 'seq=0'",
    "--verify-plan": "--verify-plan needs a final plan: give --nproc",
    "--strict": "--strict is about the file of --config, which is not given",
}

# Of zrun, with a plan that trains.
ZRUN = {
    "--checkpoint-every=often": "--checkpoint-every takes a number of steps (100) or of minutes (10min), but got 'often'",
    "--checkpoint-every=5": "--checkpoint-every says when to save, but not where: --checkpoint-dir is wanted too",
    "--resume": "--resume looks in --checkpoint-dir, which is not given (--resume=D reads from D)",
    "--resume=auto": "--resume=auto looks in --checkpoint-dir, which is not given (--resume=D reads from D)",
    "--max-restarts=1": "--max-restarts goes on from checkpoints, but there is no --checkpoint-dir",
    "--nonfinite=rollback": "--nonfinite=rollback goes back to checkpoints, but there is no --checkpoint-dir",
    "--eval-every=5": "--eval-every is about --eval-data, which is not given",
    "--keep-best": "--keep-best goes by the loss of --eval-data, which is not given",
    "--comm=local --hostfile=hosts": "--hostfile starts ranks on other machines, which --comm=local cannot",
    "--include=a": "--include chooses among the machines of --hostfile, but there is none",
    "--launcher=env --hostfile=hosts": "--hostfile starts ranks on other machines, but with --launcher=env somebody else has started them",
    "--launcher=env --comm=mpi": "--launcher=env connects ranks by gloo or nccl, but --comm is mpi",
    "--comm=gloo": "--comm=gloo connects ranks that were started with --launcher=env",
    "--comm=nccl --target=cpu": "--comm=nccl connects GPUs, but --target is cpu",
    "--init=zeros": "--init takes model, normal:STD or gpt2, but got 'zeros'",
    "--schedule=steps": "--schedule: ",
    "--pack": "--bad-records, --long-rows, --pad-token and --pack apply to jsonl, but ",
    "--token-dtype=uint16": "--token-dtype applies to token files, but ",
    "--no-such-flag": " (zrun --help lists the flags)",
}

# What contradicts the plan or the data: exit code 1.
PLAN = {
    "--outputs=o": "--outputs is for forward plans, but this plan's mode is train",
    "--ema-out=e": "--ema-out needs a moving average, which a plan of zopt --ema=DECAY keeps",
    "--wandb=colour=red": "--wandb takes project=P,group=G,team=T,name=N, of which each may be absent, but got 'colour=red'",
}
FORWARD = {
    "--comm-log=c": "--comm-log is about the collectives of training steps, but this plan's mode is forward",
    "--gradients-out=g": "--gradients-out needs gradients, but this plan's mode is forward",
    "--checkpoint-dir=D": "--checkpoint-dir and --resume are for training, but this plan's mode is forward",
}


plan = memoize(lambda *flags: compile_plan("mlp-tiny", *flags))


def refuse(command, code, message):
    folder = scratch("refused")
    done = execute([*command], timeout=60, cwd=folder)
    expect_refusal(done, code, re.escape(message))
    assert not list(folder.iterdir()), f"files were left: {sorted(folder.iterdir())}"


def of_zopt(flags, message):
    refuse(["zopt", *flags, model_path("mlp-tiny")], 2, message)


def of_zrun(flags, code, message, *zopt):
    refuse(["zrun", plan(*zopt), "--data", BATCH, *([] if any(f.startswith("--comm=") or f == "--launcher=env" for f in flags) else ["--comm=local"]), *flags], code, message)


for flags, message in ZOPT.items():
    add(f"refused flags/zopt {flags}", of_zopt, flags.split(), message)
for code, table, zopt in ((2, ZRUN, ()), (1, PLAN, ()), (1, FORWARD, ("--mode=forward",))):
    for flags, message in table.items():
        add(f"refused flags/zrun {' '.join((*zopt, flags))}", of_zrun, flags.replace("=hosts", f"={BATCH}").split(), code, message, *zopt)


def hosts(text, flags, code, message):
    folder = scratch("hosts")
    (folder / "hosts").write_text(text)
    expect_refusal(execute(["zrun", plan(), "--hostfile", folder / "hosts", *flags], timeout=60), code, re.escape(message))


for text, flags, code, message in (
        ("a slots=x\n", [], 1, ":1: 'slots=x' is not a number of slots"), ("a slots=2\n", ["--include=b"], 2, "--include=b: the host file has no 'b'"),
        ("a slots=2\n", ["--include=a:2"], 2, "--include=a:2: '2' is no slot of a, which has 2"), ("a slots=2\n", ["--include=a:"], 2, "--include=a:: no slot follows 'a:'"),
        ("a slots=2\n", ["--exclude=a"], 2, "--exclude leaves no machine of "), ("a slots=2\n", ["--exclude=a:0"], 2, "--exclude leaves slot 1 of a without slot 0")):
    add(f"refused hosts/{text.strip()} {' '.join(flags)}", hosts, text, flags, code, message)


@test("refused flags/a plan is wanted")
def no_plan():
    expect_refusal(execute(["zrun", "--comm=local"], timeout=20), 2, re.escape("a plan is wanted: zrun plan.mlir"))
