"""jsonl: rows of token ids, of which some labels count. Training on them has the bits of training on the same rows as tensors."""
import json

import numpy as np

import tensors
from onnx_writer import BOOL, INT64, model, node, tensor, value
from harness import MODELS, compile_plan, execute, expect_refusal, read_metrics, scratch, succeed, test

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


@test("sft/I8: gpt2-tiny on completions alone follows PyTorch's recorded curve")
def against_pytorch():
    recorded = json.loads((MODELS / "gpt2-tiny" / "reference-sft.json").read_text())
    folder, o = scratch("sft"), recorded["optimizer"]
    data = write_lines(folder / "pairs.jsonl", [{"prompt": p, "completion": c} for p, c in recorded["pairs"]])
    flags = (f"--lr={o['lr']!r}", f"--betas={o['betas'][0]!r},{o['betas'][1]!r}", f"--eps={o['eps']!r}", f"--weight-decay={o['weight_decay']!r}", f"--clip={recorded['clip']!r}")
    # fp32 has the tolerances of reference.py; in f64 nothing is left but the order of sums.
    for precision, ranks, stage, loss_tolerance, norm_tolerance in (("fp64", 1, 0, 1e-12, 1e-12), ("fp32", 2, 3, 1e-5, 1e-4)):
        plan = compile_plan("gpt2-tiny", *flags, f"--zero-stage={stage}", f"--micro-batch={recorded['batch'] // ranks}", *(["--fp64"] if precision == "fp64" else []))
        succeed(["zrun", plan, "--comm=local", "--nproc", ranks, "--threads", 1, "--data", data, "--steps", recorded["steps"], "--metrics", folder / precision])
        steps = read_metrics(folder / precision)[1]
        for key, tolerance in (("loss", loss_tolerance), ("grad_norm", norm_tolerance)):
            theirs = recorded["runs"][precision][key]
            assert len(steps) == len(theirs) == recorded["steps"]
            error = max(abs(s[key] - t) / abs(t) for s, t in zip(steps, theirs))
            assert error <= tolerance, f"{precision}: {key} differs from PyTorch's by {error:.3g} relative, more than {tolerance:g}"


def attention_model():
    """One head of attention under a mask over pairs of positions, and learned positions: what can keep packed rows apart."""
    rng, width, vocabulary = np.random.default_rng(3), 16, 32
    weights = {name: (rng.standard_normal(shape) * 0.3).astype(np.float32) for name, shape in
               (("embed", (vocabulary, width)), ("place", (SEQ, width)), ("wq", (width, width)), ("wk", (width, width)), ("wv", (width, width)), ("head", (width, vocabulary)))}
    nodes = [node("Gather", ["embed", "input_ids"], ["e"]), node("Gather", ["place", "position_ids"], ["p"]), node("Add", ["e", "p"], ["x"]),
             node("MatMul", ["x", "wq"], ["q"]), node("MatMul", ["x", "wk"], ["k"]), node("MatMul", ["x", "wv"], ["v"]),
             node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]), node("MatMul", ["q", "kt"], ["scores"]), node("Where", ["attention_mask", "scores", "hidden"], ["masked"]),
             node("Softmax", ["masked"], ["weights"], axis=2), node("MatMul", ["weights", "v"], ["a"]), node("Add", ["x", "a"], ["y"]), node("MatMul", ["y", "head"], ["logits"])]
    initializers = [tensor(name, array) for name, array in weights.items()] + [tensor("hidden", np.float32(-1e30).reshape(()))]
    inputs = [value("input_ids", ["batch", SEQ], INT64), value("position_ids", ["batch", SEQ], INT64), value("attention_mask", ["batch", SEQ, SEQ], BOOL)]
    return model(nodes, initializers, inputs, [value("logits", ["batch", SEQ, vocabulary])])


@test("sft/--pack: rows that share a sequence train as rows that have one each")
def packed():
    folder = scratch("pack")
    (folder / "model.onnx").write_bytes(attention_model())
    random = np.random.default_rng(5)
    rows = [([int(t) for t in random.integers(0, 32, n // 2)], [int(t) for t in random.integers(0, 32, n - n // 2)]) for n in (20, 30, 12, 14, 9, 40, 3, 24)]
    data = write_lines(folder / "d.jsonl", [{"prompt": p, "completion": c} for p, c in rows])
    curves = {}
    for name, micro, flags in (("padded", 8, ()), ("packed", 3, ("--pack",))):
        plan = folder / f"{name}.mlir"
        succeed(["zopt", folder / "model.onnx", f"--micro-batch={micro}", "--lr=0.01", "-o", plan])
        done = succeed(["zrun", plan, "--comm=local", "--threads", 1, "--data", data, "--steps", 5, "--metrics", folder / name, *flags])
        curves[name] = read_metrics(folder / name)[1]
    assert "8 rows are packed into 3 sequences of 64 tokens" in done.stderr, done
    assert curves["padded"][0]["loss"] > curves["padded"][4]["loss"], curves["padded"]
    for a, b in zip(curves["padded"], curves["packed"]):
        for key, tolerance in (("loss", 1e-5), ("grad_norm", 1e-4)):
            assert abs(a[key] - b[key]) <= tolerance * abs(a[key]), f"step {a['step']}: {key} {a[key]} padded, {b[key]} packed"
    refused = execute(["zrun", compile_plan("gpt2-text", *FLAGS), "--comm=local", "--data", data, "--steps", 1, "--pack"])
    expect_refusal(refused, 1, r"--pack puts several rows into one sequence, but the plan has no input attention_mask of \[batch, 64, 64\]")
