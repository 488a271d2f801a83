"""Models of one convolution or pooling: what their attributes mean, and what is refused."""
import math
import sys
from pathlib import Path

from onnx_writer import *

folder = Path(sys.argv[1])
(folder / "bad").mkdir(parents=True, exist_ok=True)


def write(name, op, shape, weights=(), outputs=("y",), **attributes):
    names = [f"w{i}" for i in range(len(weights))]
    made = graph([node(op, ["x", *names], list(outputs), op.lower(), **attributes)], [value("x", FLOAT, shape)], [value("y", FLOAT, [])],
                 [tensor(n, FLOAT, s, [0.0] * math.prod(s)) for n, s in zip(names, weights)])
    save(folder / f"{name}.onnx", model(made))


IMAGE = [2, 4, 9, 8]
write("same-upper", "Conv", IMAGE, [(6, 4, 2, 4)], auto_pad="SAME_UPPER", strides=[2, 3])
write("same-lower", "Conv", IMAGE, [(6, 4, 2, 4)], auto_pad="SAME_LOWER", strides=[2, 3])
write("valid", "Conv", IMAGE, [(6, 2, 3, 3)], auto_pad="VALID", group=2, dilations=[2, 1])
write("transposed", "ConvTranspose", IMAGE, [(4, 3, 3, 3), (6,)], group=2, strides=[2, 2], pads=[1, 0, 0, 1], output_padding=[1, 0])
write("transposed-shape", "ConvTranspose", IMAGE, [(4, 3, 3, 3)], strides=[2, 2], output_shape=[18, 15])
write("transposed-far", "ConvTranspose", [1, 1, 4], [(1, 1, 3)], strides=[2], dilations=[4], output_padding=[3])
write("ceil", "MaxPool", IMAGE, kernel_shape=[2, 3], strides=[2, 2], ceil_mode=1)
write("ceil-outside", "MaxPool", [1, 1, 4], kernel_shape=[1], strides=[5], pads=[0, 0], ceil_mode=1)
write("counted", "AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 0, 1, 2], count_include_pad=1)
write("uncounted", "AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 0, 1, 2])
# A weight that is standardized, as TorchScript's exporter writes it: the averages are computed, and nobody reads what becomes of them.
save(folder / "standardized.onnx", model(graph(
    [node("Reshape", ["w", "rows"], ["r"]), node("ReduceMean", ["r"], ["m"], axes=[0, 2], keepdims=0), node("Mul", ["r", "r"], ["s"]), node("ReduceMean", ["s"], ["v"], axes=[0, 2], keepdims=0),
     node("BatchNormalization", ["r", "g", "b", "m", "v"], ["n", "m1", "v1"], training_mode=1, momentum=1.0), node("Reshape", ["n", "shape"], ["k"]), node("Conv", ["x", "k"], ["y"])],
    [value("x", FLOAT, IMAGE)], [value("y", FLOAT, [])],
    [tensor("w", FLOAT, [6, 4, 2, 4], [0.01 * i for i in range(192)]), tensor("g", FLOAT, [6], [1.0] * 6), tensor("b", FLOAT, [6], [0.0] * 6), tensor("rows", INT64, [3], [1, 6, 32]),
     tensor("shape", INT64, [4], [6, 4, 2, 4])])))
write("indices", "MaxPool", IMAGE, outputs=("y", "i"), kernel_shape=[2, 2])
write("bad/channels", "Conv", IMAGE, [(6, 3, 3, 3)])
write("bad/groups", "Conv", IMAGE, [(6, 1, 3, 3)], group=3)
write("bad/kernel", "Conv", IMAGE, [(6, 4, 3, 3)], kernel_shape=[5, 5])
write("bad/large", "Conv", IMAGE, [(6, 4, 10, 3)])
write("bad/offset", "DeformConv", IMAGE, [(6, 4, 3, 3)])
write("bad/pads", "AveragePool", IMAGE, kernel_shape=[2, 2], pads=[2, 0, 0, 0])
write("bad/rank", "Conv", [2, 4], [(6, 4)])
write("bad/shape", "ConvTranspose", [1, 1, 1], [(1, 1, 2)], pads=[1, 1])
write("bad/strides", "Conv", IMAGE, [(6, 4, 3, 3)], strides=[1])
write("bad/word", "Conv", IMAGE, [(6, 4, 3, 3)], auto_pad="SAME")
