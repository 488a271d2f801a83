"""jsonl: rows of token ids, of which some labels count. Training on them has the bits of training on the same rows as tensors."""
import json

import numpy as np

import tensors
from harness import compile_plan, execute, expect_refusal, read_metrics, scratch, succeed, test

SEQ = 64
FLAGS = ("--micro-batch=2", f"--bind=seq={SEQ}", "--clip=1")


def pairs(count):
    """Prompts and completions of several lengths, all of which fit."""
    random = np.random.default_rng(7)
    return [([int(t) for t in random.integers(0, 256, random.integers(1, 20))], [int(t) for t in random.integers(0, 256, random.integers(1, 40))]) for _ in range(count)]


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def as_tensors(rows):
    """The same pairs as input_ids and shifted labels: what the reader makes of them, written down a second time."""
    ids, labels = np.zeros((len(rows), SEQ), np.int64), np.full((len(rows), SEQ), -100, np.int64)
    for i, (prompt, completion) in enumerate(rows):
        both = prompt + completion
        ids[i, :len(both)] = both
        for at in range(len(prompt), len(both)):
            if at > 0:
                labels[i, at - 1] = both[at]
    return {"input_ids": ids, "labels": labels}


def run(*flags, ranks=1, steps=4, stage=0):
    folder = scratch("sft")
    done = succeed(["zrun", compile_plan("gpt2-text", f"--zero-stage={stage}", *FLAGS), "--comm=local", "--nproc", ranks, "--threads", 1, "--steps", steps, "--shuffle",
                    "--metrics", folder / "m", "--weights-out", folder / "w.safetensors", *flags])
    steps = read_metrics(folder / "m")[1]
    return [(s["loss"], s["grad_norm"]) for s in steps], (folder / "w.safetensors").read_bytes(), done


@test("sft/prompts and completions train as the same rows and labels in safetensors, bit for bit")
def completions():
    folder, rows = scratch("data"), pairs(24)
    tensors.save(folder / "data.safetensors", as_tensors(rows))
    expected = run("--data", folder / "data.safetensors")[:2]
    assert len(set(expected[0])) == 4 and all(0 < loss < 10 for loss, _ in expected[0]), expected[0]
    pair = write_lines(folder / "pairs.jsonl", [{"prompt": p, "completion": c} for p, c in rows])
    losses, weights, done = run("--data", pair)
    assert (losses, weights) == expected, f"{losses}, but {expected[0]} from safetensors"
    assert "rows are padded to 64 tokens; the plan has no attention_mask" in done.stderr, done
    # Hugging Face's form of the same.
    labelled = write_lines(folder / "labelled.jsonl", [{"input_ids": p + c, "labels": [-100] * len(p) + c} for p, c in rows])
    assert run("--data", labelled)[:2] == expected
    # In shards that a pattern names, on several ranks at stage 3.
    for i in range(3):
        write_lines(folder / f"shard-{i}.jsonl", [{"prompt": p, "completion": c} for p, c in rows[8 * i:8 * i + 8]])
    sharded = run("--data", str(folder / "shard-*.jsonl"), ranks=2, stage=3)[:2]
    assert sharded == run("--data", folder / "data.safetensors", ranks=2, stage=3)[:2]


@test("sft/prompts do not count: other labels there change nothing, other completions do")
def prompts():
    folder, rows = scratch("data"), pairs(8)

    def losses(records):
        return run("--data", write_lines(folder / "d.jsonl", records), steps=2)[0]
    plain = losses([{"input_ids": p + c, "labels": [-100] * len(p) + c} for p, c in rows])
    every = losses([{"input_ids": p + c, "labels": p + c} for p, c in rows])
    assert plain != every, "prompts were not masked"


@test("sft/bad records stop the run, or are skipped and counted")
def bad_records():
    folder, rows = scratch("data"), pairs(8)
    good = [{"prompt": p, "completion": c} for p, c in rows]
    expected = run("--data", write_lines(folder / "good.jsonl", good))[:2]
    path = write_lines(folder / "bad.jsonl", good[:4] + [{"prompt": "text", "completion": [1]}, {"prompt": [1], "completion": [256]}] + good[4:])
    with open(path, "a") as stream:
        stream.write('{"prompt": [1, ')
    plan, out = compile_plan("gpt2-text", "--zero-stage=0", *FLAGS), folder / "w.safetensors"
    command = ["zrun", plan, "--comm=local", "--threads", 1, "--data", path, "--steps", 4, "--weights-out", out]
    expect_refusal(execute(command), 1, r"bad\.jsonl:5: prompt: holds text.*bad\.jsonl:6: .*position 1: value 256.*bad\.jsonl:11: is no JSON.*3 of 11 records.*--bad-records=skip")
    assert not out.exists()
    losses, weights, done = run("--data", path, "--bad-records=skip")
    assert (losses, weights) == expected, "skipped records changed the training"
    assert "3 of 11 records skipped" in done.stderr and "skips" in done.stderr, done


@test("sft/long rows are cut or dropped, and counted")
def long_rows():
    folder, rows = scratch("data"), pairs(8)
    short = [{"prompt": p, "completion": c} for p, c in rows]
    long = {"prompt": [1] * 10, "completion": list(range(100))}
    path = write_lines(folder / "long.jsonl", short + [long, long])
    dropped = run("--data", path, "--long-rows=drop")
    assert dropped[:2] == run("--data", write_lines(folder / "short.jsonl", short))[:2]
    assert "2 rows of more than 64 tokens dropped" in dropped[2].stderr, dropped[2]
    cut = {"prompt": [1] * 10, "completion": list(range(54))}
    truncated = run("--data", path)
    assert truncated[:2] == run("--data", write_lines(folder / "cut.jsonl", short + [cut, cut]))[:2]
    assert "2 rows of more than 64 tokens truncated" in truncated[2].stderr, truncated[2]


@test("sft/flags of jsonl are refused for other data, patterns without files too")
def flags_refused():
    folder = scratch("data")
    plan = compile_plan("gpt2-text", "--zero-stage=0", *FLAGS)
    (folder / "a.txt").write_text("abc" * 100)
    for flags in (("--bad-records=skip",), ("--long-rows=drop",), ("--pad-token=3",)):
        expect_refusal(execute(["zrun", plan, "--comm=local", "--data", folder / "a.txt", *flags]), 2, "apply to jsonl")
    expect_refusal(execute(["zrun", plan, "--comm=local", "--data", folder / "*.jsonl"]), 1, r"\*\.jsonl: no file has a name like this")


@test("sft/a run that goes on in the middle of an epoch has the bits of one that was not stopped")
def resumed():
    folder, rows = scratch("data"), pairs(11)
    path = write_lines(folder / "d.jsonl", [{"prompt": p, "completion": c} for p, c in rows])
    whole = run("--data", path, steps=8)[:2]
    run("--data", path, "--checkpoint-dir", folder / "D", steps=3)
    losses, weights, _ = run("--data", path, "--checkpoint-dir", folder / "D", "--resume", steps=8)
    assert losses == whole[0][3:] and weights == whole[1]
