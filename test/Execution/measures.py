"""What a run tells about itself beside its losses: flops and MFU, the communication log; and batches that are read ahead, which change nothing."""
import json
import re

import tensors
from harness import MODELS, compile_plan, execute, expect_refusal, read_metrics, scratch, succeed, test

LAYERS, WIDTH, VOCABULARY, SEQ = 2, 64, 256, 64  # gpt2-tiny


def zrun(plan, ranks, folder, *flags, steps=6, comm="local"):
    return succeed(["zrun", plan, "--nproc", ranks, f"--comm={comm}", "--threads", 1, "--data", MODELS / "gpt2-tiny" / "batch.safetensors", "--steps", steps, "--metrics", folder / "m.jsonl", *flags])


@test("measures/flops are those of the products, MFU is their share of the peak")
def flops():
    micro, accum, ranks = 2, 3, 2
    recomputed, plan = (compile_plan("gpt2-tiny", f"--micro-batch={micro}", f"--grad-accum={accum}", "--zero-stage=3", *more) for more in (("--recompute=full",), ()))
    told = [int(re.search(r"train\.flops = (\d+)", path.read_text())[1]) for path in (plan, recomputed)]
    assert told[0] == told[1], f"what is computed again does not count: {told}"
    # Three products a weight and token, forward and backward; six of causal attention's scores, half of each. Biases are the rest.
    tokens = micro * SEQ
    expected = 6 * tokens * (LAYERS * 12 * WIDTH ** 2 + WIDTH * VOCABULARY) + 6 * tokens * SEQ * WIDTH * LAYERS
    assert expected <= told[0] <= 1.01 * expected, f"{told[0]} flops, expected {expected} and biases"
    folder = scratch("flops")
    done = zrun(plan, ranks, folder, "--peak-flops=1e9")
    for step in read_metrics(folder / "m.jsonl")[1]:
        rate = told[0] * accum * ranks / (step["step_ms"] / 1e3)
        assert abs(step["flops"] / rate - 1) < 1e-9, f"{step}, expected {rate}"
        assert abs(step["mfu"] / (rate / (ranks * 1e9)) - 1) < 1e-9, step
    assert re.search(r"TFLOP/s \(MFU [\d.e+-]+%\)", done.stderr), done
    zrun(plan, ranks, folder, steps=1)
    assert "mfu" not in read_metrics(folder / "m.jsonl")[1][0], "a CPU's peak is not known"


@test("measures/--comm-log counts the plan's collectives, and their bandwidths are consistent")
def comm_log():
    ranks, steps = 2, 5
    folder, plan = scratch("comm"), compile_plan("gpt2-tiny", "--micro-batch=2", "--zero-stage=3", f"--bucket-bytes={1 << 16}")
    for comm in ("local", "mpi"):
        log = folder / f"{comm}.json"
        done = zrun(plan, ranks, folder, "--comm-log", log, "--save-plan", folder / "final.mlir", steps=steps, comm=comm)
        told = json.loads(log.read_text())
        assert (told["world"], told["comm"], told["steps"]) == (ranks, comm, steps - 1), told
        text = (folder / "final.mlir").read_text()
        for kind in ("all_gather", "reduce_scatter", "all_reduce_scalars"):
            mine = [e for e in told["collectives"] if e["kind"] == kind]
            planned = len(re.findall(rf"^\s*plan\.{kind} ", text, re.M))
            assert planned > 0 and sum(e["count"] for e in mine) == planned * (steps - 1), f"{kind}: {mine}, {planned} in the plan"
            for e in mine:
                assert 0 < e["seconds"] <= e["slowest_rank_seconds"] * (1 + 1e-9), e
                assert abs(e["algorithm_bandwidth"] * e["seconds"] / (e["bytes"] * e["count"]) - 1) < 1e-9, e
                assert abs(e["bus_bandwidth"] / e["algorithm_bandwidth"] - {"all_reduce_scalars": 1.0}.get(kind, 0.5)) < 1e-9, e
                assert re.search(rf"^{kind} +{e['bytes']} +{e['count']} ", done.stdout, re.M), done.stdout
        # Parameters are gathered twice a step (forward and backward), gradients scattered once, all of a bucket's bytes.
        gathered, scattered = ({e["bytes"] for e in told["collectives"] if e["kind"] == kind} for kind in ("all_gather", "reduce_scatter"))
        assert gathered == scattered, (gathered, scattered)
    expect_refusal(execute(["zrun", compile_plan("gpt2-tiny", "--mode=forward"), "--comm=local", "--comm-log", folder / "x", "--steps", 1]), 1, "--comm-log is about the collectives of training steps")


@test("measures/--num-workers changes no bit, and its ring is planned and measured")
def workers():
    plan = compile_plan("gpt2-tiny", "--micro-batch=2", "--grad-accum=2", "--clip=1")
    runs = {}
    for count in (0, 1, 3):
        folder = scratch("workers")
        zrun(plan, 2, folder, "--shuffle", "--seed=5", f"--num-workers={count}", "--weights-out", folder / "w", steps=45)  # an epoch is 20
        starts, steps, ends = read_metrics(folder / "m.jsonl")
        assert starts[0]["planned_peak"] == ends[0]["measured_peak"], (starts, ends)
        # input_ids and labels of a micro-batch, one more of them than threads.
        assert starts[0]["planned_peak"]["host"] == (count + 1) * 2 * 2 * SEQ * 8 * (count > 0), starts
        runs[count] = [(s["loss"], s["grad_norm"]) for s in steps], (folder / "w").read_bytes()
    assert runs[0] == runs[1] == runs[3]


@test("measures/--num-workers goes on in the middle of an epoch, with the same bits")
def workers_resume():
    plan, folder = compile_plan("gpt2-tiny", "--micro-batch=2", "--clip=1"), scratch("workers")
    data = ("--shuffle", "--seed=5", "--num-workers=2")
    zrun(plan, 2, folder, *data, "--weights-out", folder / "whole", steps=14)
    zrun(plan, 2, folder, *data, "--checkpoint-dir", folder / "c", steps=7)
    zrun(plan, 2, folder, *data, "--checkpoint-dir", folder / "c", "--resume", "--weights-out", folder / "parts", steps=14)
    assert (folder / "whole").read_bytes() == (folder / "parts").read_bytes()


@test("measures/a bad value in a batch that is read ahead is told at its step")
def workers_fail():
    folder = scratch("workers")
    batch = {name: array.copy() for name, array in tensors.load(MODELS / "gpt2-tiny" / "batch.safetensors").items()}
    batch["input_ids"][13, 2] = 256  # of the fourth step
    tensors.save(folder / "bad.safetensors", batch)
    done = execute(["zrun", compile_plan("gpt2-tiny", "--micro-batch=2"), "--nproc", 2, "--comm=local", "--data", folder / "bad.safetensors", "--steps", 9, "--num-workers=4", "--metrics", folder / "m"])
    expect_refusal(done, 1, r"bad\.safetensors: input_ids: sample 13, position 2: value 256")
    assert [s["step"] for s in read_metrics(folder / "m")[1]] == [1, 2, 3], done
