"""Whole jobs as YAML, scripts/run_distributed.py, and --zero-stage=auto."""
import json
import os
import re
import sys

import numpy as np

import tensors
from harness import EXAMPLES, HERE, MODELS, Settings, execute, expect_refusal, read_metrics, scratch, succeed, test

ROOT = HERE.parent.parent
CONFIGS = ROOT / "configs"
SCRIPT = ROOT / "scripts/run_distributed.py"
GRAPHS = HERE.parent / "Graphs"


def sft_data(folder, rows=16):
    random = np.random.default_rng(3)
    with open(folder / "train-0.jsonl", "w") as stream:
        for _ in range(rows):
            prompt, completion = ([int(t) for t in random.integers(0, 256, random.integers(2, 12))] for _ in range(2))
            stream.write(json.dumps({"prompt": prompt, "completion": completion}) + "\n")
    return folder / "train-0.jsonl"


def run_job(folder, text, *flags, ranks=2, name="job.yaml"):
    (folder / name).write_text(text)
    return execute([sys.executable, SCRIPT, "--config", folder / name, "--nproc_per_node", ranks, "--tools", Settings.tools, *flags, "--", "--comm=local", "--threads=1"], cwd=folder, timeout=300)


def steps_of(folder, name="m"):
    return [(s["loss"], s["grad_norm"], s["lr"]) for s in read_metrics(folder / name)[1]]


JOB = f"""
algorithm: sft
model: {{path: {EXAMPLES / 'gpt2-text/model.onnx'}, bind: {{seq: 64}}}}
training:
  distributed: true
  distributed_strategy: deepspeed
  mixed_precision: bf16
  gradient_accumulation_steps: 2
  max_steps: 4
  seed: 5
  deepspeed: {{config_path: {CONFIGS / 'sft_zero2.json'}}}
  dataloader: {{batch_size: 1, num_workers: 4, pin_memory: true, shuffle: true}}
data: train-*.jsonl
checkpoint: {{dir: saved, every: 2}}
output: {{weights: w.safetensors}}
monitor: {{metrics: m}}
"""


@test("jobs/an SFT job trains through run_distributed.py as flags do")
def sft():
    folder = scratch("job")
    data = sft_data(folder)
    done = run_job(folder, JOB, "--algorithm", "sft")
    assert done.code == 0, done
    assert (folder / "saved/global_step4").is_dir() and (folder / "saved/global_step2").is_dir() and (folder / "w.safetensors").exists(), done
    succeed(["zopt", EXAMPLES / "gpt2-text/model.onnx", "--bind=seq=64", "--bf16", "--zero-stage=2", "--micro-batch=1", "--grad-accum=2", "--clip=1", "--lr=2e-5", "--betas=0.9,0.999", "--eps=1e-8",
             "--weight-decay=0", "--schedule=WarmupDecayLR,warmup_min_lr=0,warmup_max_lr=2e-5,warmup_num_steps=100,total_num_steps=4", "-o", folder / "flags.mlir"])
    succeed(["zrun", folder / "flags.mlir", "--nproc=2", "--comm=local", "--threads=1", "--data", data, "--shuffle", "--seed=5", "--steps=4", "--metrics", folder / "f"])
    assert steps_of(folder) == steps_of(folder, "f"), f"{steps_of(folder)} of the job, {steps_of(folder, 'f')} of the flags"


@test("jobs/ranks of run_distributed.py over mpi have the same bits")
def mpi():
    folder = scratch("job")
    sft_data(folder)
    (folder / "job.yaml").write_text(JOB)
    done = execute([sys.executable, SCRIPT, "--config", "job.yaml", "--nproc_per_node", 4, "--tools", Settings.tools, "--", "--threads=1", "--metrics=mpi"], cwd=folder, timeout=300)
    assert done.code == 0, done
    other = scratch("job")
    sft_data(other)
    done = run_job(other, JOB, ranks=4)
    assert done.code == 0 and steps_of(folder, "mpi") == steps_of(other), done


def run_gpt2_tiny(job):
    """A job of this model on its batches, BATCH in the text. Where it ran, the batches, their length and what was said."""
    folder, batch = scratch("job"), MODELS / "gpt2-tiny/batch.safetensors"
    seq = tensors.load(batch)["input_ids"].shape[1]
    done = run_job(folder, f"model: {{path: {MODELS / 'gpt2-tiny/model.onnx'}, bind: {{seq: {seq}}}}}\n" + job.replace("BATCH", str(batch)))
    assert done.code == 0, done
    return folder, batch, seq, done


@test("jobs/ddp and a plain loader at top level, with zopt's defaults")
def ddp():
    folder, batch, seq, _ = run_gpt2_tiny("training: {distributed_strategy: ddp, learning_rate: 0.01, max_steps: 3}\ndataloader: {batch_size: 2}\ndata: [BATCH]\nmonitor: {metrics: m}\n")
    succeed(["zopt", MODELS / "gpt2-tiny/model.onnx", f"--bind=seq={seq}", "--lr=0.01", "--micro-batch=2", "-o", folder / "flags.mlir"])
    succeed(["zrun", folder / "flags.mlir", "--nproc=2", "--comm=local", "--threads=1", "--data", batch, "--steps=3", "--metrics", folder / "f"])
    assert steps_of(folder) == steps_of(folder, "f") and steps_of(folder)[0][2] == 0.01


@test("jobs/configs/train_sft.yaml compiles")
def shipped():
    folder = scratch("job")
    succeed(["zopt", "--config", CONFIGS / "train_sft.yaml", "--bind=seq=64", EXAMPLES / "gpt2-text/model.onnx", "--nproc=4", "--portable", "-o", folder / "plan.mlir"], cwd=ROOT)
    text = (folder / "plan.mlir").read_text()
    assert 'data = "train-*.jsonl"' in text and '"checkpoint-every" = "30min"' in text and '"zero-stage" = "2"' in text, text[:2000]
    assert "plan.target" not in text, "--portable makes a portable plan"


@test("jobs/held-out data, workers and the log of collectives")
def evaluated():
    folder, _, _, done = run_gpt2_tiny("training: {max_steps: 2}\ndata: BATCH\ndataloader: {batch_size: 2, num_workers: 2}\nevaluation: {files: BATCH, every: 1, steps: 1}\n"
                                       "checkpoint: {dir: saved, keep_best: true}\nmonitor: {metrics: m, comm_log: comm.json}\n")
    events = [json.loads(line) for line in (folder / "m").read_text().splitlines()]
    assert [e["step"] for e in events if e["event"] == "eval"] == [1, 2] and json.loads((folder / "comm.json").read_text()), events
    assert "no effect" not in done.stderr, done


@test("jobs/what is wrong is said in one report, and nothing is written")
def wrong():
    folder = scratch("job")
    done = run_job(folder, "training: {gradient_acumulation_steps: 8, mixed_precision: int8}\nmodle: x.onnx\n")
    lines = expect_refusal(done, 1, "gradient_acumulation_steps is no key of a job; did you mean training.gradient_accumulation_steps", "mixed_precision is \"int8\", expected one of no, bf16, fp16, fp32", "modle is no key of a job")
    assert len(lines) == 3 and os.listdir(folder) == ["job.yaml"], done
    for flags, code, pattern in ((("--algorithm", "ppo"), 2, "--algorithm is ppo"), (("--nnodes", "2", "--node_rank", "2"), 2, "--node_rank is 2"), (("--algorithm", "pretrain"), 1, "is sft")):
        expect_refusal(run_job(folder, JOB, *flags), code, pattern)


def auto(*flags):
    return execute(["zopt", "--zero-stage=auto", *flags])


def reason_of(done):
    assert done.code == 0, done
    lines = [line for line in done.stderr.splitlines() if "--zero-stage=auto:" in line]
    assert len(lines) == 1, done
    return lines[0]


GPT2 = ("--bf16", "--bind=seq=1024")


def peak_of(*flags):
    done = succeed(["zopt", *GPT2, "--nproc=4", "--memory-report=json", *flags])
    return sum(json.loads(done.stdout)["planned_peak"].values())


@test("jobs/--zero-stage=auto goes by parameters, and is raised while the peak exceeds the memory")
def auto_stage():
    small, large = GRAPHS / "gpt2-124m.onnx", GRAPHS / "gpt2-1.5b.onnx"
    folder = scratch("auto")
    line = reason_of(auto(*GPT2, small, "-o", folder / "a.mlir"))
    assert "stage 0 for 124.44 million parameters (below 1 billion)" in line and "give --nproc" in line, line
    line = reason_of(auto(*GPT2, large, "-o", folder / "b.mlir"))
    assert re.search(r"stage 2 for 1\.56 billion parameters \(1 to 7 billion\)", line), line
    assert '"zero-stage" = "2"' in (folder / "b.mlir").read_text()[:5000]
    peaks = [peak_of(f"--zero-stage={stage}", small) for stage in range(4)]
    assert peaks[0] > peaks[1] and peaks[1] >= peaks[2] > peaks[3], peaks
    for limit, stage in ((peaks[0], 0), (peaks[0] - 1, 1), (peaks[3], 3), (peaks[3] - 1, 3)):
        done = auto(*GPT2, f"--device-memory={limit}", "--nproc=4", "--memory-report=json", small)
        line = reason_of(done)
        assert sum(json.loads(done.stdout)["planned_peak"].values()) == peaks[stage], f"{limit}: {line}, expected stage {stage}"
        assert ("raised to stage" in line) == (stage > 0 and limit >= peaks[3]), line
        assert ("exceeds" in line) == (limit < peaks[3]), line


@test("jobs/--zero-stage=auto looks at this machine; a job may ask for it")
def auto_machine():
    folder = scratch("auto")
    line = reason_of(auto(MODELS / "mlp-tiny/model.onnx", "--nproc=2", "--portable", "-o", folder / "a.mlir"))
    assert "fits" in line and "over 2 ranks" in line, line
    done = run_job(folder, f"model: {MODELS / 'mlp-tiny/model.onnx'}\ntraining: {{distributed_strategy: auto, max_steps: 2}}\ndataloader: {{batch_size: 1}}\nmonitor: {{metrics: m}}\n")
    assert reason_of(done) and len(steps_of(folder)) == 2, done


@test("jobs/flags of --zero-stage=auto that mean nothing are refused")
def auto_refusals():
    for flags, pattern in ((("--device-memory=5",), "--device-memory is what --zero-stage=auto plans for"), (("--zero-stage=auto", "--device-memory=0"), "positive number of bytes"),
                           (("--zero-stage=auto", "--print-pipeline"), "depends on it"), (("--zero-stage=four",), "0, 1, 2, 3 or auto, but got 'four'")):
        expect_refusal(execute(["zopt", *flags, MODELS / "mlp-tiny/model.onnx"]), 2, pattern)
