"""One weight in every spelling trains as one parameter: its gradient is the sum over its uses, against central differences in f64, and it is saved under its names.

A table of words is read by index, and again as the matrix of the logits, which the graph gets in another spelling in every case.
"""
import dataclasses

import numpy as np

import tensors
from harness import add, memoize, scratch, succeed
from onnx_writer import model, node, tensor, value

WORDS, WIDTH, LENGTH, BATCH = 7, 4, 3, 4


@memoize
def arrays():
    r = np.random.default_rng(8)
    return {"table": r.standard_normal((WORDS, WIDTH)).astype(np.float32), "ids": r.integers(0, WORDS, (BATCH, LENGTH)), "labels": r.integers(0, WORDS, (BATCH, LENGTH))}


@dataclasses.dataclass(frozen=True)
class Spelling:
    """How the graph gets `head`, which is the table [WORDS, WIDTH] or (`turned`) its transposition, from the initializers."""
    name: str
    nodes: tuple = ()
    head: str = "table"
    lookup: str = "table"
    turned: bool = False
    copy: str = ""  # a second initializer of the same content: "same" or "turned"; --tie-weights
    names: tuple = ("table",)


def identity(source, result):
    return node("Identity", [source], [result])


def transpose(source, result):
    return node("Transpose", [source], [result], perm=[1, 0])


SPELLINGS = (
    Spelling("the same initializer twice"),
    Spelling("Identity of it", (identity("table", "head"),), "head"),
    Spelling("Identity of it is read by index", (identity("table", "words"),), lookup="words"),
    Spelling("both are Identities of it", (identity("table", "words"), identity("table", "head")), "head", "words"),
    Spelling("a chain of Identities", (identity("table", "a"), identity("a", "b"), identity("b", "head")), "head"),
    Spelling("Transpose of it", (transpose("table", "head"),), "head", turned=True),
    Spelling("Transpose of Identity of it", (identity("table", "a"), transpose("a", "head")), "head", turned=True),
    Spelling("Identity of Transpose of it", (transpose("table", "a"), identity("a", "head")), "head", turned=True),
    Spelling("Transpose of Transpose of it, with Identities", (identity("table", "a"), transpose("a", "b"), identity("b", "c"), transpose("c", "head")), "head"),
    Spelling("Transpose of Transpose of Transpose of it", (transpose("table", "a"), transpose("a", "b"), transpose("b", "head")), "head", turned=True),
    Spelling("an equal initializer", head="head", copy="same", names=("table", "head")),
    Spelling("an equal initializer, transposed", head="head", turned=True, copy="turned", names=("table", "head")),
    Spelling("Identity of an equal initializer", (identity("copy", "head"),), "head", copy="same", names=("table", "copy")),
    Spelling("Transpose of an equal initializer, transposed", (transpose("copy", "head"),), "head", copy="turned", names=("table", "copy")),
    Spelling("an equal initializer, Transposes of both", (transpose("table", "a"), transpose("a", "words"), transpose("copy", "head")), "head", "words", turned=True, copy="same", names=("table", "copy")),
)


def write(spelling, path):
    nodes = [*spelling.nodes, node("Gather", [spelling.lookup, "ids"], ["x"], axis=0), node("Tanh", ["x"], ["h"])]
    head = spelling.head
    if not spelling.turned:
        nodes.append(node("Transpose", [head], ["turned_head"], perm=[1, 0]))
        head = "turned_head"
    nodes.append(node("MatMul", ["h", head], ["logits"]))
    initializers = [tensor("table", arrays()["table"])]
    if spelling.copy:
        name = spelling.names[1]
        initializers.append(tensor(name, arrays()["table"] if spelling.copy == "same" else np.ascontiguousarray(arrays()["table"].T)))
    path.write_bytes(model(nodes, initializers, [value("ids", ["batch", LENGTH], 7)], [value("logits", ["batch", LENGTH, WORDS])]))


def loss(table):
    logits = np.tanh(table[arrays()["ids"]]) @ table.T
    logits -= logits.max(-1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -np.take_along_axis(log_p, arrays()["labels"][..., None], -1).mean()


@memoize
def differences():
    table, epsilon = arrays()["table"].astype(np.float64), 2.0 ** -14
    found = np.zeros_like(table)
    for place in np.ndindex(table.shape):
        step = np.zeros_like(table)
        step[place] = epsilon
        found[place] = (loss(table + step) - loss(table - step)) / (2 * epsilon)
    return found


def check(spelling):
    folder = scratch("ties")
    write(spelling, folder / "model.onnx")
    tensors.save(folder / "data.safetensors", {"ids": arrays()["ids"], "labels": arrays()["labels"]})
    flags = ["--tie-weights"] if spelling.copy else []
    # Two ranks and two micro-steps at stage 3, and SGD with a rate of 1: the step is the gradient.
    run = ["--nproc", 2, "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--steps", 1]
    batch = ["--fp64", "--zero-stage=3", "--micro-batch=1", "--grad-accum=2", *flags, folder / "model.onnx", "-o", folder / "plan.mlir"]
    compiled = succeed(["zopt", "--optimizer=sgd", "--lr=1", "--weight-decay=0", *batch])
    assert f"1 parameters train ({WORDS * WIDTH} elements)" in compiled.stderr, compiled.stderr
    succeed(["zrun", folder / "plan.mlir", *run, "--weights-out", folder / "weights"])
    weights = tensors.load(folder / "weights")
    saved = {name for name in weights}
    assert saved <= set(spelling.names) and "table" in saved, f"saved are {sorted(saved)}"
    succeed(["zopt", "--mode=gradient", *batch])
    succeed(["zrun", folder / "plan.mlir", *run, "--gradients-out", folder / "gradients"])
    gradients = tensors.load(folder / "gradients")
    assert set(gradients) <= set(spelling.names), f"gradients of {sorted(gradients)}"
    error = np.abs(gradients["table"] - differences()).max()
    assert error < 1e-8, f"the gradient is off by {error:.3g}"
    moved = arrays()["table"].astype(np.float64) - weights["table"]
    assert np.abs(moved - gradients["table"]).max() < 1e-6, f"the step is not the gradient:\n{moved}\n{gradients['table']}"


for spelling in SPELLINGS:
    add(f"ties/{spelling.name}", check, spelling)
