"""A weight with many uses: its gradient is added up as it comes, from the last use to the first, to the bit, and no more memory is needed for more uses."""
import numpy as np

import tensors
from harness import add, scratch, succeed, test
from onnx_writer import model, node, tensor, value
from plan_text import FinalPlan


def write(path, uses, width):
    """The sum of x0 w, x1 w, ..."""
    nodes = [node("MatMul", [f"x{i}", "w"], [f"p{i}"]) for i in range(uses)]
    nodes += [node("Add", [f"s{i - 1}" if i > 1 else "p0", f"p{i}"], [f"s{i}"]) for i in range(1, uses)]
    w = np.random.default_rng(1).standard_normal((width, width)).astype(np.float32)
    path.write_bytes(model(nodes, [tensor("w", w)], [value(f"x{i}", ["batch", width]) for i in range(uses)], [value(f"s{uses - 1}", ["batch", width])]))


def bf16(a):
    bits = a.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def check_bits(uses, precision):
    """The absolute error's gradient is a power of two, so that every contribution is exact, and only their sum is rounded."""
    folder, width = scratch("shared"), 4
    round = bf16 if precision == "bf16" else np.float32
    write(folder / "model.onnx", uses, width)
    r = np.random.default_rng(uses)
    x = [round(r.standard_normal((1, width)).astype(np.float32)) for _ in range(uses)]
    tensors.save(folder / "data.safetensors", {"labels": np.full((1, width), -1e4, np.float32), **{f"x{i}": a for i, a in enumerate(x)}})
    flags = ["--bf16", "--grad-dtype=bf16"] if precision == "bf16" else []
    expected = np.repeat(x[-1].T, width, axis=1) / width
    for a in x[-2::-1]:
        expected = round(expected + np.repeat(a.T, width, axis=1) / width)
    for fuse in ([], ["--no-fuse"]):
        succeed(["zopt", "--mode=gradient", "--loss=l1", "--micro-batch=1", *flags, *fuse, folder / "model.onnx", "-o", folder / "plan.mlir"])
        succeed(["zrun", folder / "plan.mlir", "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--steps", 1, "--gradients-out", folder / "gradients"])
        found = tensors.load(folder / "gradients")["w"]
        assert found.tobytes() == expected.tobytes(), f"{found}\nis not the sum from the last use to the first:\n{expected}"


for uses in (3, 5, 40):
    for precision in ("fp32", "bf16"):
        add(f"shared-weights/{uses} uses, {precision}: the sum from the last to the first", check_bits, uses, precision)


@test("shared-weights/more uses take no more memory")
def memory():
    folder, width = scratch("shared"), 256
    for flags in ([], ["--bf16"], ["--target=cuda"], ["--target=cuda", "--bf16"], ["--no-fuse"]):
        peaks = []
        for uses in (8, 40):
            write(folder / "model.onnx", uses, width)
            succeed(["zopt", "--loss=mse", "--micro-batch=1", "--nproc=4", "--threads=1", *flags, folder / "model.onnx", "-o", folder / "plan.mlir"])
            peaks.append(sum(FinalPlan((folder / "plan.mlir").read_text()).arenas.values()))
        assert peaks[1] - peaks[0] < width * width * 2, f"{flags}: {peaks} bytes with 8 and 40 uses"
