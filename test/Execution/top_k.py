"""TopK on rows that are sorted by counting and on those that are cut into chunks and merged, against NumPy's stable sort: ties by place, NaN as the largest, zeros of both signs as one."""
import numpy as np

import onnx_writer as onnx
import tensors
from harness import add, scratch, succeed

ROWS = 3


def rows(n, dtype):
    """Few values, so that there are ties in and across chunks; -0, infinities and NaN among floats."""
    r = np.random.default_rng(n)
    values = r.integers(-n // 3, n // 3, (ROWS, n))
    if dtype == np.int64:
        return values
    values = (values / 8).astype(np.float32)
    for special in (np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.0):
        values[:, r.integers(0, n, 3)] = special
    values[1] = 1.5  # nothing but ties
    return values


def expected(values, k, largest):
    """Places of the first k. Keys are whole numbers in the order of the values."""
    _, keys = np.unique(values, return_inverse=True)  # NaN is the largest, and one
    keys = keys.reshape(values.shape)
    return np.argsort(-keys if largest else keys, axis=-1, kind="stable")[:, :k]


def check(n, ks, dtype, axis):
    folder, values = scratch("top-k"), rows(n, dtype)
    shape = lambda last: ["batch", last, 1] if axis == 1 else ["batch", 1, last]
    kind = onnx.INT64 if dtype == np.int64 else onnx.FLOAT
    picks = [(k, largest) for k in ks for largest in (1, 0)]
    nodes = [onnx.node("TopK", ["x", f"k{k}"], [f"y{k}_{largest}", f"i{k}_{largest}"], axis=axis, largest=largest) for k, largest in picks]
    outputs = [onnx.value(f"{what}{k}_{largest}", shape(k), kind if what == "y" else onnx.INT64) for k, largest in picks for what in "yi"]
    (folder / "m.onnx").write_bytes(onnx.model(nodes, [onnx.tensor(f"k{k}", np.array([k])) for k in ks], [onnx.value("x", shape(n), kind)], outputs))
    tensors.save(folder / "data.safetensors", {"x": values.reshape(ROWS, *((n, 1) if axis == 1 else (1, n)))})
    for threads in (1, 2):
        succeed(["zopt", "--mode=forward", f"--micro-batch={ROWS}", *(["--fp64"] if dtype == np.float64 else []), folder / "m.onnx", "-o", folder / "plan.mlir"])
        succeed(["zrun", folder / "plan.mlir", "--comm=local", "--threads", threads, "--data", folder / "data.safetensors", "--outputs", folder / "out"])
        out = tensors.load(folder / "out")
        for k, largest in picks:
            places = expected(values, k, largest)
            assert (out[f"i{k}_{largest}"].reshape(places.shape) == places).all(), f"places of {k} of {n}, largest={largest}"
            wanted = np.take_along_axis(values, places, -1)
            got = out[f"y{k}_{largest}"].reshape(places.shape).astype(wanted.dtype)
            assert got.tobytes() == wanted.tobytes() or ((got == wanted) | (np.isnan(got) & np.isnan(wanted))).all(), f"values of {k} of {n}, largest={largest}"


# Rows of one chunk, of two of which the last is short, of whole ones, of many; results shorter than a chunk and longer.
for n, ks, dtype, axis in ((200, (1, 200), np.float32, 2), (512, (7,), np.int64, 2), (513, (1, 300, 513), np.float32, 2), (1024, (256, 1024), np.float64, 2), (1300, (5, 700), np.int64, 1), (20000, (1, 50, 3000), np.float32, 2)):
    add(f"top_k/{', '.join(map(str, ks))} of {n}, {np.dtype(dtype).name}{', along another axis' if axis == 1 else ''}", check, n, ks, dtype, axis)
