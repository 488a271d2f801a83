"""I6: planned peak == measured peak to the byte, and what each ZeRO stage saves."""
import json
import re
from pathlib import Path

from faults import Running
from harness import HERE, MODELS, Config, add, compile_plan, every_run, execute, expect_refusal, memoize, read_metrics, scratch, succeed, test, train
from plan_text import FinalPlan

BUCKET = 1 << 19  # bytes: gpt2-text in at least six buckets


def check_peak(config):
    result = train(config)
    planned, measured = result.start["planned_peak"], result.end["measured_peak"]
    assert planned == measured, f"planned {planned}, measured {measured}"
    assert planned["device"] > 0 and planned["host"] == planned["file"] == 0, f"only the device tier is used: {planned}"


for stage in (0, 1, 2, 3):
    for precision in ("fp32", "bf16"):
        for accum in (1, 2):
            config = Config("gpt2-tiny", stage=stage, precision=precision, accum=accum, ranks=2, micro=4 // accum)
            add(f"I6/gpt2-tiny/stage{stage}/{precision}/accum{accum}", check_peak, config)
    add(f"I6/llama-tiny/stage{stage}", check_peak, Config("llama-tiny", stage=stage, ranks=4, micro=2, steps=3))
    add(f"I6/gpt2-tiny/stage{stage}/mpi", check_peak, Config("gpt2-tiny", stage=stage, ranks=4, micro=2, comm="mpi", steps=5))


@test("I6/planned == measured in every run of the suite", alone=True)
def every():
    assert every_run, "no run was recorded"
    different = [(c, p, m) for c, p, m in every_run if p != m]
    assert not different, f"{len(different)} of {len(every_run)} runs: {different[:3]}"


def final_plan(stage, accum=1, precision="fp32", micro=1):
    flags = [f"--zero-stage={stage}", f"--grad-accum={accum}", f"--micro-batch={micro}", f"--bucket-bytes={BUCKET}", "--nproc=4", "--threads=1"]
    if precision != "fp32":
        flags.append(f"--{precision}")
    return FinalPlan(compile_plan("gpt2-text", *flags).read_text())


@test("memory/gpt2-text on 4 ranks: stage 3 holds exactly a quarter of stage 0's states")
def quarter():
    zero, three = final_plan(0), final_plan(3)
    assert len(three.placed) >= 6, f"at least 6 buckets, but got {len(three.placed)}"
    assert len(zero.placed) == len(three.placed)
    for what, column in (("parameters", 3), ("gradients", 4), ("optimizer state", 5)):
        whole, part = (sum(p.bytes_of(row[column]) for row in p.placed) for p in (zero, three))
        assert whole == 4 * part, f"{what}: {whole} bytes at stage 0, {part} at stage 3"
        logical = sum(three.logical.values())
        width = {"parameters": 4, "gradients": 4, "optimizer state": 8}[what]
        padding = sum(row[1] for row in three.placed) - logical
        assert 4 * part == (logical + padding) * width, f"{what}: 4 ranks hold {4 * part} bytes, {logical} elements and {padding} of padding are {(logical + padding) * width}"
        assert padding <= len(three.placed) * 512 + 128 * 60, f"{padding} elements of padding in {len(three.placed)} buckets"


@test("memory/gpt2-text: stages 1 and 2 shard what they say")
def middle_stages():
    plans = {stage: final_plan(stage) for stage in range(4)}
    def total(stage, column):
        return sum(plans[stage].bytes_of(row[column]) for row in plans[stage].placed)
    parameters, optimizer = ([total(s, c) for s in range(4)] for c in (3, 5))
    assert parameters[0] == parameters[1] == parameters[2] == 4 * parameters[3], f"parameters by stage: {parameters}"
    assert optimizer[0] == 4 * optimizer[1] == 4 * optimizer[2] == 4 * optimizer[3], f"optimizer state by stage: {optimizer}"


@test("memory/gpt2-text: every stage needs less than the one before")
def ordered():
    peaks = [sum(final_plan(stage).arenas.values()) for stage in range(4)]
    assert peaks[0] > peaks[1] >= peaks[2] > peaks[3], f"planned peaks by stage: {peaks}"


@test("memory/gpt2-text: gathered bytes at most two buckets consecutive in the order of uses")
def gathered():
    plan = final_plan(3)
    lives = plan.gathers()
    assert len(lives) >= 6, f"gathers in the micro-step: {len(lives)}"
    bound = max(a[0] + b[0] for a, b in zip(lives, lives[1:]))
    for index in range(len(plan.sequences["micro_step"])):
        live = sum(size for size, first, last in lives if first <= index <= last)
        assert live <= bound, f"{live} gathered bytes live at command {index}, more than {bound}"
    report = json.loads(succeed(["zopt", "--memory-report=json", "--zero-stage=3", f"--bucket-bytes={BUCKET}", "--nproc=4", "--threads=1",
                                 compile_plan("gpt2-text", "--zero-stage=3", f"--bucket-bytes={BUCKET}"), "-o", scratch("report") / "plan.mlir"]).stdout)
    assert 0 < report["classes"]["gathered"] <= bound, f"{report['classes']} with a bound of {bound}"


@test("memory/gpt2-text: with accumulation 4 the accumulators are a quarter at every stage")
def accumulators():
    for stage in range(4):
        plan = final_plan(stage, accum=4)
        held = sum(plan.bytes_of(row[4]) for row in plan.placed)
        padded = sum(row[1] for row in plan.placed)
        assert 4 * held == padded * 4, f"stage {stage}: accumulators of {held} bytes a rank for {padded} elements on 4 ranks"


@test("memory/gpt2-text: bf16 gathers two bytes a parameter")
def two_bytes():
    plan = final_plan(3, precision="bf16")
    for size, first, last in plan.gathers():
        assert any(size == 2 * row[1] for row in plan.placed), f"a gathered buffer of {size} bytes is no bucket's elements times 2"


# ---------------------------------------------------------------------------------------------------------------------
# The measurement is honest: plans that claim less than they use fail.
# ---------------------------------------------------------------------------------------------------------------------

def understated(change):
    path = compile_plan("mlp-tiny", "--micro-batch=2", "--zero-stage=1", "--nproc=2", "--threads=1")
    text = path.read_text()
    edited = change(text)
    assert edited != text, "the edit changed nothing"
    target = path.parent / f"understated-{abs(hash(edited))}.mlir"
    target.write_text(edited)
    expect_refusal(execute(["zrun", target, "--nproc", 2, "--comm=local", "--threads", 1, "--steps", 2], timeout=60), 1)


def smaller_arena(text):
    return re.sub(r"(plan\.arena @\S+ device )(\d+)", lambda m: m[1] + str(int(m[2]) - 64), text, count=1)


def smaller_buffer(text):
    return re.sub(r"(plan\.buffer .* bytes )(\d+)( for activations)", lambda m: m[1] + str(int(m[2]) // 2) + m[3], text, count=1)


add("I6/an understated arena fails", understated, smaller_arena)
add("I6/an understated buffer fails", understated, smaller_buffer)


# ---------------------------------------------------------------------------------------------------------------------
# Nothing large is allocated inside a step, and little beside the plan.
# ---------------------------------------------------------------------------------------------------------------------

@memoize
def recorder():
    """The preloaded library that records allocations of 64 KiB or more."""
    library = scratch("recorder") / "allocations.so"
    succeed(["clang-22", "-O1", "-shared", "-fPIC", HERE / "allocations.c", "-o", library])
    return library


def large_allocations(plan, comm, steps):
    folder = scratch("allocations")
    log = folder / "log"
    succeed(["zrun", plan, "--nproc", 2, f"--comm={comm}", "--threads", 1, "--data", MODELS / "gpt2-tiny" / "batch.safetensors", "--steps", steps,
             "--metrics", folder / "m", "--weights-out", folder / "w"], LD_PRELOAD=str(recorder()), ZOPT_ALLOCATIONS=str(log))
    return sorted(log.read_text().splitlines())


def no_allocation_in_steps(comm, *flags):
    plan = compile_plan("gpt2-tiny", "--micro-batch=4", *flags)
    large_allocations(plan, comm, 1)  # compiles; what follows finds it in the cache
    few, many = large_allocations(plan, comm, 3), large_allocations(plan, comm, 33)
    assert few, "the recorder saw nothing"
    assert len(few) == len(many), f"{len(many) - len(few)} allocations of 64 KiB or more in 30 steps; in 3 steps: {few}; in 33: {many}"


add("I6/no allocation of 64 KiB or more inside a step, stage 0", no_allocation_in_steps, "local", "--zero-stage=0", plain=True)
add("I6/no allocation of 64 KiB or more inside a step, stage 3 bf16", no_allocation_in_steps, "local", "--zero-stage=3", "--bf16", plain=True)
add("I6/no allocation of 64 KiB or more inside a step, stage 3 mpi", no_allocation_in_steps, "mpi", "--zero-stage=3", plain=True)


@test("I6/a rank's resident memory beyond the plan is at most 150 MB", alone=True, plain=True)
def resident():
    with Running("mpi", 2) as run:
        planned = read_metrics(run.metrics)[0][0]["planned_peak"]["device"]
        for pid in run.rank_pids():
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            pss = int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.M)[1]) << 10
            assert pss - planned <= 150e6, f"Pss {pss} bytes, planned {planned}: {(pss - planned) / 1e6:.1f} MB beyond the plan"
