"""zopt on models that are wrong: exit code 1, one clear line a problem, no output file, no crash, quickly."""
import os
import resource

import numpy as np

from harness import Settings, add, execute, expect_refusal, model_path, scratch, succeed, test
from onnx_writer import FLOAT, INT64, Body, body, linear, model, node, tensor, value

rng = np.random.default_rng(7)
WEIGHT = rng.standard_normal((8, 4)).astype(np.float32)
BIAS = tensor("bias", np.zeros(4, np.float32) + 0.1)


def refuse(content, *patterns, folder=None, flags=(), code=1):
    folder = folder or scratch("bad")
    path = folder / "model.onnx"
    path.write_bytes(content)
    done = execute(["zopt", *flags, path, "-o", folder / "plan.mlir"], timeout=20)
    expect_refusal(done, code, *patterns)
    assert not (folder / "plan.mlir").exists(), "a plan was written although the model was refused"
    assert not [p for p in folder.iterdir() if "plan.mlir" in p.name], f"half-written files: {sorted(folder.iterdir())}"


@test("bad-model/none: the writer's linear model is accepted")
def good_model():
    folder = scratch("good")
    (folder / "model.onnx").write_bytes(linear())
    succeed(["zopt", folder / "model.onnx", "-o", folder / "plan.mlir"])


def with_weight(weight, **changes):
    return linear(initializers=[weight, BIAS], **changes)


gpt2 = model_path("gpt2-tiny").read_bytes() if model_path("gpt2-tiny").exists() else b""
cases = {
    "empty": (b"", r"model\.onnx"),
    "random bytes": (rng.bytes(4096), r"model\.onnx"),
    "text": (b"this is no model\n" * 20, r"model\.onnx"),
    "truncated in the graph": (gpt2[:20000], r"model\.onnx"),
    "truncated in the weights": (gpt2[:-1000], r"model\.onnx"),
    "one byte short": (linear()[:-1], r"model\.onnx"),
    "cyclic": (linear(nodes=[node("Add", ["b", "x"], ["a"]), node("Relu", ["a"], ["b"]), node("Gemm", ["b", "weight", "bias"], ["logits"])]), r"cycl|not defined|before"),
    "a node that reads itself": (linear(nodes=[node("Gemm", ["x", "weight", "bias"], ["h"]), node("Add", ["logits", "h"], ["logits"])]), r"logits|cycl"),
    "an undefined value": (linear(nodes=[node("Gemm", ["x", "weight", "nowhere"], ["logits"], "fc")]), r"nowhere"),
    "an undefined output": (linear(outputs=[value("nowhere", ["batch", 4])]), r"nowhere"),
    "a value defined twice": (linear(nodes=[node("Gemm", ["x", "weight", "bias"], ["logits"]), node("Relu", ["x"], ["logits"])]), r"logits"),
    "mistyped: a float where an index belongs": (linear(nodes=[node("Gather", ["weight", "x"], ["logits"], "lookup")]), r"lookup"),
    "mistyped: int64 times float": (linear(nodes=[node("MatMul", ["x", "weight"], ["logits"], "product")], inputs=[value("x", ["batch", 8], INT64)]), r"product"),
    "shapes that do not match": (with_weight(tensor("weight", rng.standard_normal((7, 4)).astype(np.float32))), r"fc.*(7|8)|(7|8).*fc"),
    "an unknown operator": (linear(nodes=[node("Frobnicate", ["x"], ["logits"], "strange")]), r"Frobnicate"),
    "an unknown domain": (linear(nodes=[node("Gemm", ["x", "weight", "bias"], ["logits"], "fc", domain="com.example")]), r"com\.example"),
    "an opset from the future": (linear(opset=99), r"99"),
    "an opset too old": (linear(opset=6), r"Gemm.*opset 7.*opset 6"),
    "no outputs": (linear(outputs=[]), r"output|has no result"),
    "oversized: dims of 2^62 elements": (with_weight(tensor("weight", dims=[1 << 31, 1 << 31], data_type=FLOAT, raw=b"\0" * 64)), r"weight"),
    "oversized: dims that overflow": (with_weight(tensor("weight", dims=[1 << 40, 1 << 40], data_type=FLOAT, raw=b"\0" * 64)), r"weight"),
    "a negative dimension": (with_weight(tensor("weight", dims=[-8, 4], data_type=FLOAT, raw=WEIGHT.tobytes())), r"weight"),
    "raw data shorter than the shape": (with_weight(tensor("weight", dims=[8, 4], data_type=FLOAT, raw=WEIGHT.tobytes()[:-4])), r"weight"),
    "raw data longer than the shape": (with_weight(tensor("weight", dims=[8, 4], data_type=FLOAT, raw=WEIGHT.tobytes() + b"\0" * 4)), r"weight"),
    "an unknown element type": (with_weight(tensor("weight", dims=[8, 4], data_type=77, raw=WEIGHT.tobytes())), r"weight"),
    "a perm that is no permutation": (linear(nodes=[node("Transpose", ["x"], ["t"], "turn", perm=[0, 0]), node("Gemm", ["t", "weight", "bias"], ["logits"])]), r"turn"),
    "an axis out of range": (linear(nodes=[node("Gemm", ["x", "weight", "bias"], ["h"]), node("Softmax", ["h"], ["logits"], "soft", axis=5)]), r"soft"),
    "nothing to train": (linear(nodes=[node("Relu", ["x"], ["logits"])], initializers=[], outputs=[value("logits", ["batch", 8])]), r"train|parameter"),
}
# What the fuzzer of the importer found, and limits.
square = lambda depth: body([node("If", ["c"], ["y"], "inner", then_branch=square(depth - 1), else_branch=square(depth - 1))] if depth else [node("Relu", ["x"], ["y"])], [], [value("y", ["batch", 8])])
cases |= {
    "two inputs of one name": (linear(inputs=[value("x", ["batch", 8]), value("x", ["batch", 8])]), r":x: .*two inputs of this name"),
    "an input larger than any memory": (linear(inputs=[value("x", [1 << 40, 1 << 40])]), r":x: .*\[1099511627776, 1099511627776\], which is too large"),
    "a name of 5000 bytes": (linear(inputs=[value("x" * 5000, ["batch", 8])]), r"an input has a name of 5000 bytes, but at most 4096 are read"),
    "33 axes": (linear(inputs=[value("x", ["batch"] + [1] * 32)]), r":x: .*33 axes, but at most 32 are imported"),
    "70000 inputs of a node": (linear(nodes=[node("Concat", ["x"] * 70000, ["logits"], "join", axis=1)]), r":join: .*70000 inputs.*at most 65536"),
    "a known operand and one that is left out": (linear(nodes=[node("Concat", ["shape", ""], ["joined"], "join", axis=0), node("Reshape", ["x", "joined"], ["logits"])],
                                                       initializers=[tensor("shape", np.array([-1, 8]))]), r":join: .*operand 1 of the operator 'Concat' is missing"),
    "known tensors of no element, joined": (linear(nodes=[node("Concat", ["none", "none"], ["joined"], "join", axis=0), node("Reshape", ["x", "joined"], ["logits"], "shape")],
                                                   initializers=[tensor("none", np.zeros((2, 0), np.int64))]), r":shape: "),
    "graphs in graphs, 17 deep": (linear(nodes=[node("If", ["c"], ["logits"], "outer", then_branch=square(17), else_branch=Body())]), r"nested too deeply"),
}
for name, (content, pattern) in cases.items():
    add(f"bad-model/{name}", refuse, content, pattern)


@test("bad-model/all problems at once")
def all_problems():
    content = linear(nodes=[node("Frobnicate", ["x"], ["a"], "first"), node("Defenestrate", ["a"], ["b"], "second"), node("Gemm", ["b", "weight", "bias"], ["logits"])])
    refuse(content, "Frobnicate", "Defenestrate")


@test("bad-model/20 unsupported nodes in one run, within a second", alone=True)
def twenty_problems():
    names = [f"Frobnicate{i}" for i in range(18)] + ["ConvInteger", "StringNormalizer"]
    nodes = [node(op, ["x"], [f"v{i}"], f"node{i}") for i, op in enumerate(names)] + [node("Gemm", ["x", "weight", "bias"], ["logits"])]
    folder = scratch("bad")
    (folder / "model.onnx").write_bytes(linear(nodes=nodes))
    done = min((execute(["zopt", folder / "model.onnx", "-o", folder / "plan.mlir"], timeout=20) for _ in range(3)), key=lambda run: run.seconds)
    lines = expect_refusal(done, 1, "node18.*ConvInteger.*quantized types", "node19.*StringNormalizer.*strings")
    assert len(lines) == 20 and all(f"node{i}:" in line and f"'{op}'" in line for i, (op, line) in enumerate(zip(names, lines))), done.stderr
    assert done.seconds < 1 * Settings.patience, f"took {done.seconds:.2f} s"


@test("bad-model/a file of 2 GiB")
def two_gib():
    folder = scratch("bad")
    with open(folder / "model.onnx", "wb") as file:
        file.write(linear())
        file.truncate(1 << 31)  # a hole, which takes no space
    done = execute(["zopt", folder / "model.onnx", "-o", folder / "plan.mlir"], timeout=20)
    expect_refusal(done, 1, r"has 2147483648 bytes, but protobuf's limit is 2147483647: store the weights as external data")


def chain(count):
    """`count` nodes in a row, with a parameter each."""
    nodes, at = [], "x"
    for i in range(count):
        nodes.append(node(("Add", "Mul")[i % 2], [at, f"w{i}"], [f"v{i}"]))
        at = f"v{i}"
    return model(nodes, [tensor(f"w{i}", np.ones(4, np.float32) + 0.1 * i) for i in range(count)], [value("x", ["batch", 4])], [value(at, ["batch", 4])])


def grows_linearly(small, large):
    """A model that is 5 times as large takes not much more than 5 times as long: what is quadratic takes 25 times."""
    seconds = []
    for count in (small, large):
        folder = scratch("chain")
        (folder / "model.onnx").write_bytes(chain(count))
        seconds.append(min(succeed(["zopt", folder / "model.onnx", "--loss=mse", "--nproc=2", "--zero-stage=3", "-o", folder / "plan.mlir"], timeout=120).seconds for _ in range(2)))
    assert seconds[1] < 12 * seconds[0] + 0.5, f"{small} parameters take {seconds[0]:.2f} s, {large} take {seconds[1]:.2f} s"


add("large-model/5000 parameters compile in linear time", grows_linearly, 1000, 5000, alone=True)


def long_chain(ops, count, limit, *flags):
    """`limit`: twice what an idle machine takes, and less than where something is quadratic."""
    nodes, at = [node("MatMul", ["x", "w"], ["first"])], "first"
    for i in range(count):
        op = ops[i % len(ops)]
        nodes.append(node(op, [at, "w"] if op == "MatMul" else [at], [f"v{i}"]))
        at = f"v{i}"
    folder = scratch("chain")
    (folder / "model.onnx").write_bytes(model(nodes, [tensor("w", np.ones((4, 4), np.float32))], [value("x", ["batch", 4])], [value(at, ["batch", 4])]))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    succeed(["zopt", folder / "model.onnx", "--bind=batch=2", "--loss=mse", *flags, "-o", folder / "plan.mlir"], timeout=120)
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    assert seconds < limit * Settings.patience, f"took {seconds:.1f} s"


add("large-model/a chain of 100,000 nodes compiles within 15 s of processor time", long_chain, ("Relu", "Tanh", "Neg", "Sigmoid"), 100000, 15, "--target=cpu", "--nproc=1", alone=True)
add("large-model/20,000 products that share a weight compile within 10 s of processor time", long_chain, ("MatMul",), 20000, 10, "--nproc=8", "--zero-stage=3", alone=True)


# External data: weights must lie in the model's folder and be as long as the model says.
def external(location, offset=0, length=WEIGHT.nbytes):
    return with_weight(tensor("weight", dims=[8, 4], data_type=FLOAT, external={"location": location, "offset": offset, "length": length}))


@test("bad-model/external data/none: a good file is accepted")
def good_external():
    folder = scratch("good")
    (folder / "weights.bin").write_bytes(WEIGHT.tobytes())
    (folder / "model.onnx").write_bytes(external("weights.bin"))
    succeed(["zopt", folder / "model.onnx", "-o", folder / "plan.mlir"])


@test("bad-model/external data/missing: a warning in zopt, an error in zrun")
def missing_external():
    folder = scratch("bad")
    (folder / "model.onnx").write_bytes(external("weights.bin"))
    done = succeed(["zopt", folder / "model.onnx", "-o", folder / "plan.mlir"])
    assert "weights.bin" in done.stderr and "warning" in done.stderr, f"no warning: {done}"
    expect_refusal(execute(["zrun", folder / "plan.mlir", "--comm=local", "--steps", 1], timeout=30), 1, r"weights\.bin")
    succeed(["zrun", folder / "plan.mlir", "--comm=local", "--steps", 1, "--init=normal:0.02"], timeout=30)


def escapes(location, pattern):
    folder = scratch("bad")
    (folder / "inside").mkdir()
    (folder / "weights.bin").write_bytes(WEIGHT.tobytes())
    refuse(external(location.format(folder=folder)), pattern, folder=folder / "inside")


add("bad-model/external data/escapes by ..", escapes, "../weights.bin", r"\.\./weights\.bin")
add("bad-model/external data/escapes by a detour", escapes, "x/../../weights.bin", r"weights\.bin")
add("bad-model/external data/absolute", escapes, "{folder}/weights.bin", r"weights\.bin")


@test("bad-model/external data/symlink out of the folder")
def symlink():
    folder = scratch("bad")
    (folder / "inside").mkdir()
    (folder / "weights.bin").write_bytes(WEIGHT.tobytes())
    os.symlink(folder / "weights.bin", folder / "inside" / "weights.bin")
    refuse(external("weights.bin"), r"weights\.bin", folder=folder / "inside")


def external_shape(size, offset, length):
    folder = scratch("bad")
    (folder / "weights.bin").write_bytes(WEIGHT.tobytes()[:size])
    refuse(external("weights.bin", offset, length), r"weight", folder=folder)


add("bad-model/external data/short file", external_shape, 100, 0, WEIGHT.nbytes)
add("bad-model/external data/offset past the end", external_shape, WEIGHT.nbytes, 4096, WEIGHT.nbytes)
add("bad-model/external data/length that is not the shape's", external_shape, WEIGHT.nbytes, 0, WEIGHT.nbytes - 4)
add("bad-model/external data/negative offset", external_shape, WEIGHT.nbytes, -64, WEIGHT.nbytes)


# Flags.
def refuse_flags(flags, code, *patterns, model="mlp-tiny"):
    folder = scratch("bad")
    done = execute(["zopt", *flags, model_path(model), "-o", folder / "plan.mlir"], timeout=20)
    expect_refusal(done, code, *patterns)
    assert not list(folder.iterdir()), f"files were left: {sorted(folder.iterdir())}"


for flags, code, pattern in (
        (("--zero-stage=4",), 2, r"zero-stage"), (("--optimizer=adamw", "--adam-lr=1"), 2, r"--adam-lr is .* for --optimizer=muon, but got 1.0 for adamw"), (("--optimizer=adamwx",), 2, r"adamwx"), (("--loss=hinge",), 2, r"hinge"), (("--bf16", "--fp64"), 2, r"bf16.*fp64|fp64.*bf16"),
        (("--global-batch=8", "--micro-batch=3", "--nproc=2"), 1, r"8"), (("--freeze=nothing_is_called_this",), 1, r"nothing_is_called_this"),
        (("--freeze=(",), 1, r"\("), (("--train-only=@missing-file",), 1, r"missing-file"), (("--logits=nowhere",), 1, r"nowhere"), (("--bucket-bytes=-5",), 2, r"bucket-bytes")):
    add(f"bad-flags/{' '.join(flags)}", refuse_flags, flags, code, pattern)


@test("bad-flags/an unknown flag is refused")
def unknown_flag():
    done = execute(["zopt", "--frobnicate", model_path("mlp-tiny")], timeout=20)
    assert done.code != 0 and "frobnicate" in done.stderr, f"an unknown flag was accepted: {done}"


@test("bad-model/a file that is not there")
def no_file():
    expect_refusal(execute(["zopt", "nowhere/model.onnx"], timeout=20), 1, r"nowhere/model\.onnx")


@test("bad-output/a folder that is not there")
def no_folder():
    folder = scratch("bad")
    expect_refusal(execute(["zopt", model_path("mlp-tiny"), "-o", folder / "nowhere" / "plan.mlir"], timeout=20), 3, r"nowhere")
