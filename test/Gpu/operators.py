"""Operators that no model of the tests has: the device gives the CPU's outputs, to the bit where nothing is rounded."""
import numpy as np

import onnx_writer as onnx
import tensors
from device import Device, specialization
from harness import add, memoize, scratch, succeed

SAMPLES, C = 4, 3000
SHAPES = {"x": (C,), "image": (4, 9, 9), "offset": (8, 9, 9)}
NODES = [onnx.node("TopK", ["x", "k"], ["top", "places"]), onnx.node("TopK", ["x", "k"], ["least", "least_places"], largest=0, axis=-1),
         *(onnx.node("ScatterElements", ["x", "index", "update"], [f"scatter_{r}"], axis=1, reduction=r) for r in ("add", "mul", "max", "min")),
         onnx.node("RandomUniformLike", ["x"], ["uniform"], low=-1.0, high=3.0), onnx.node("RandomNormalLike", ["x"], ["normal"], mean=0.5, scale=2.0),
         onnx.node("Sigmoid", ["x"], ["p"]), onnx.node("Bernoulli", ["p"], ["coin"]),
         onnx.node("MaxPool", ["image"], ["pooled", "maxima"], kernel_shape=[3, 3], strides=[2, 2]), onnx.node("MaxUnpool", ["pooled", "maxima", "whole"], ["unpooled"], kernel_shape=[3, 3], strides=[2, 2]),
         onnx.node("DeformConv", ["image", "weight", "offset"], ["deformed"], kernel_shape=[2, 2], pads=[0, 0, 1, 1])]
OUTPUTS = {"top": (50,), "places": (50,), "least": (50,), "least_places": (50,), "scatter_add": (C,), "scatter_mul": (C,), "scatter_max": (C,), "scatter_min": (C,), "uniform": (C,), "normal": (C,), "coin": (C,),
           "pooled": (4, 4, 4), "maxima": (4, 4, 4), "unpooled": (4, 9, 9), "deformed": (5, 9, 9)}
# Relative to the largest element: logarithms and cosines are not the same program's, and the device adds up what lands on one element in chunks. Its products and extremes are the CPU's.
ROUNDED = {"normal": 1e-6, "scatter_add": 1e-6, "deformed": 1e-5}


@memoize
def outputs(target):
    folder, rng = scratch("operators"), np.random.default_rng(11)
    weights = [onnx.tensor("k", np.array([50])), onnx.tensor("whole", np.array([SAMPLES, 4, 9, 9])), onnx.tensor("weight", rng.standard_normal((5, 4, 2, 2)).astype(np.float32))]
    inputs = [onnx.value(name, ["batch", *shape]) for name, shape in SHAPES.items()] + [onnx.value("index", ["batch", C], onnx.INT64), onnx.value("update", ["batch", C])]
    results = [onnx.value(name, ["batch", *shape], onnx.INT64 if name in ("places", "least_places", "maxima") else onnx.FLOAT) for name, shape in OUTPUTS.items()]
    (folder / "model.onnx").write_bytes(onnx.model(NODES, weights, inputs, results, opset=22))
    data = {name: rng.standard_normal((SAMPLES, *shape)).astype(np.float32) for name, shape in SHAPES.items()}
    data |= {"index": rng.integers(0, 500, (SAMPLES, C)), "update": rng.standard_normal((SAMPLES, C)).astype(np.float32)}
    data["x"][:, ::7] = 0.5  # ties
    tensors.save(folder / "data.safetensors", data)
    succeed(["zopt", "--mode=forward", f"--micro-batch={SAMPLES}", *specialization(target, 1), folder / "model.onnx", "-o", folder / "plan.mlir"])
    succeed(["zrun", folder / "plan.mlir", f"--target={target}", "--comm=local", "--threads", 1, "--data", folder / "data.safetensors", "--outputs", folder / "out", "--seed", 9], timeout=300)
    return tensors.load(folder / "out")


def check(name):
    cpu, device = outputs("cpu")[name], outputs(Device.target)[name]
    error = np.abs(device.astype(np.float64) - cpu).max() / max(1.0, np.abs(cpu).max())
    assert device.shape == cpu.shape and np.isfinite(cpu).all() and error <= ROUNDED.get(name, 0), f"'{name}' is off by {error} in {(device != cpu).sum()} of {cpu.size} elements"


def register():
    for name in OUTPUTS:
        add(f"operators/{name}/as cpu", check, name)
