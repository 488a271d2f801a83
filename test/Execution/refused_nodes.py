"""Nodes that ONNX would not have: each is refused in a line that names it and says what does not fit. All of them stand in one model, of which all problems come at once."""
import numpy as np

from harness import execute, expect_refusal, scratch, test
from onnx_writer import BOOL, FLOAT, INT64, model, node, tensor, value

INPUTS = {"x": ([4, 8], FLOAT), "v": ([8], FLOAT), "s": ([], FLOAT), "t": ([2, 5, 8], FLOAT), "z": ([2, 6, 4, 4], FLOAT), "e": ([2, 0, 4], FLOAT), "q": ([3, 7, 7], FLOAT),
          "i": ([4], INT64), "j": ([4, 8], INT64), "b": ([4, 8], BOOL), "n": ([2], INT64)}
# Known when the model is imported.
KNOWN = {"k0": [0], "k1": [1], "k2": [2], "k12": [1, 2], "k11": [1, 1], "k00": [0, 0], "k58": [5, 8], "kopen": [-1, -1], "kback": [4, -8], "kcopy": [4, 8, 0], "kfar": [0, 5000000], "knine": [[9]], "kf": [0.5], "kf4": [1.0, 1.0, 2.0, 2.0],
         "kf4small": [1.0, 1.0, 0.01, 1.0], "kf4wide": [1.0, 1.0, 1.0, 1e6], "kf4not": [1.0, 1.0, 0.0, 1.0], "kneg": [-1], "kfalse": [False] * 4, "kscalar": 2, "kzero": 0}

# Operator, operands ("-": absent), attributes, what the line says.
NODES = [
    ("Not", "x", {}, "needs bools"), ("BitwiseNot", "x", {}, "needs integers"), ("Abs", "b", {}, "needs numbers, but got bools"), ("Exp", "j", {}, "needs a float operand"),
    ("And", "x x", {}, "needs bools"), ("BitwiseAnd", "b b", {}, "needs integers"), ("Mean", "j j", {}, "needs float operands"), ("Add", "b b", {}, "needs numbers, but got bools"),
    ("BitShift", "j j", {"direction": "UP"}, "direction is 'UP', but it must be LEFT or RIGHT"), ("Where", "x x x", {}, "the condition must be a tensor of bool"),
    ("Gelu", "x", {"approximate": "erf"}, "approximate is 'erf', but it must be none or tanh"), ("Clip", "x v", {}, "operand 1 is a bound of shape [8], but it must be a scalar"), ("IsNaN", "j", {}, "needs a float operand"),
    ("MatMul", "b b", {}, "needs numbers, but got bools"), ("MatMul", "x s", {}, "needs operands of at least one axis"), ("Gemm", "x t", {}, "needs matrices, but got operands of shapes [4, 8] and [2, 5, 8]"),
    ("Gemm", "j j", {"transB": 1, "alpha": 0.5}, "alpha is 0.500000 and beta 1.000000, but integers have integral factors"),
    ("LayerNormalization", "x x", {}, "operand 1 of shape [4, 8] does not fit the normalized axes [8]"),
    ("RotaryEmbedding", "x x x", {}, "needs an input [batch, heads, length, size], or [batch, length, heads * size] with num_heads, but got [4, 8]"),
    ("RotaryEmbedding", "z x t", {}, "needs cos and sin caches of one shape and of the input's element type"), ("RotaryEmbedding", "z t t", {"rotary_embedding_dim": 6}, "rotary_embedding_dim is 6, but heads have 4 elements"),
    ("RotaryEmbedding", "z t t j", {}, "needs caches [positions, size / 2] and position_ids [batch, length]"), ("RotaryEmbedding", "z t t", {}, "cos and sin of shape [2, 5, 8] do not fit heads [2, 6, 4, 4]"),
    ("MaxPool", "e", {"kernel_shape": [1]}, "has an empty input [2, 0, 4]"), ("Conv", "z t", {}, "needs a weight with as many axes as the input [2, 6, 4, 4]"), ("MaxPool", "z", {}, "has no kernel_shape"),
    ("LpPool", "z", {"kernel_shape": [2, 2], "p": 0}, "p is 0, but needs to be at least 1"), ("GlobalAveragePool", "x", {}, "needs one float input with axes of space behind batch and channels"),
    ("GlobalLpPool", "z", {"p": 0}, "p is 0, but needs to be at least 1"), ("LRN", "x", {"size": 3}, "needs one float input with axes of space behind batch and channels"), ("LRN", "z", {"size": 0}, "has the size 0"),
    ("InstanceNormalization", "v v v", {}, "needs an input [batch, channels, ...], but got [8]"),
    ("InstanceNormalization", "j v v", {}, "needs operands of one float type"), ("MeanVarianceNormalization", "j", {"axes": [0]}, "needs a float operand"),
    ("ReduceSum", "b", {}, "needs numbers, but got bools"), ("ReduceMean", "e k1", {}, "has no value for no element: the input is [2, 0, 4]"), ("ArgMax", "e", {"axis": 1}, "has no element to choose from: the input is [2, 0, 4]"),
    ("Softmax", "j", {}, "operand 0 must be floats"), ("LpNormalization", "x", {"p": 3}, "p is 3, but it must be 1 or 2"), ("Swish", "j", {}, "needs a float operand"), ("SwiGLU", "x v", {}, "needs two float operands of one shape"),
    ("Det", "x", {}, "needs square matrices, but got [4, 8]"), ("Det", "q", {}, "of matrices of 7 rows is not supported: up to 6 are"), ("SoftmaxCrossEntropyLoss", "x x", {}, "needs float scores and integer labels"),
    ("SoftmaxCrossEntropyLoss", "v i", {}, "needs scores [batch, classes, ...], but got [8]"), ("SoftmaxCrossEntropyLoss", "x i", {"reduction": "max"}, "reduction is 'max', but it must be mean, sum or none"),
    ("Concat", "x x", {}, "has no operands or no axis"), ("Concat", "x v", {"axis": 0}, "operand 1 of shape [8] cannot be joined to one of [4, 8] along axis 0"), ("Gather", "x x", {}, "the indices must be integers"),
    ("Slice", "x k0 k1 k0 k0", {}, "step 0 is not a step"), ("Reshape", "x kopen", {}, "the shape [-1, -1] leaves more than one axis open"),
    ("Reshape", "x kcopy", {}, "the shape [4, 8, 0] copies axis 2 of an input with 2 axes"), ("Unsqueeze", "x", {}, "has no axes"), ("Squeeze", "x k0", {}, "axis 0 of [4, 8] cannot be squeezed: its size is not 1"),
    ("ReduceSum", "x k00", {}, "the axes [0, 0] name one axis twice"), ("Split", "x", {"num_outputs": 0}, "num_outputs is 0"), ("Split", "x", {"num_outputs": 1 << 40}, "num_outputs is 1099511627776, and the node has 1"), ("Split", "x kneg", {}, "parts of sizes [-1] do not make up axis 0 of size 4"),
    ("Split", "x k12", {}, "1 parts of sizes [1, 2] do not make up axis 0 of size 4"), ("ReduceSum", "x kf", {}, "operand 1 (the axes) must hold integers"),
    ("Dropout", "x s", {}, "the ratio depends on the data, but it must be known when the model is imported"), ("Dropout", "x - b", {}, "training_mode depends on the data, but it must be known when the model is imported"),
    ("BatchNormalization", "z v", {}, "operand 2 of the operator 'BatchNormalization' is missing"), ("BatchNormalization", "v v v v v", {}, "needs an input [batch, channels, ...], but got [8]"), ("BatchNormalization", "x v v v i", {}, "operand 4 is no tensor of floats"),
    ("Pad", "x k12", {}, "has 2 pads for 2 axes"), ("Pad", "x kf4 - -", {}, "must hold integers"), ("Pad", "v k11", {"mode": "zero"}, "mode is 'zero', but it must be constant, reflect, edge or wrap"),
    ("Pad", "v kfar", {"mode": "edge"}, "are supported where they repeat others"), ("Pad", "v k11 v", {}, "pads with a value [8] that is not one element of the data's type"),
    ("CenterCropPad", "x k1", {}, "has 1 sizes for 2 axes"), ("Tile", "x k1", {}, "has 1 repeats for 2 axes"), ("Tile", "v kneg", {}, "repeats an axis -1 times"),
    ("DepthToSpace", "z", {"blocksize": 4}, "a blocksize of 4 and mode 'DCR' do not fit an input [2, 6, 4, 4]"), ("Col2Im", "t k12 k1", {}, "and their strides, dilations and pads do not agree"),
    ("Col2Im", "t k11 k00", {}, "has an image, block, stride, dilation or pad that is out of range on axis 0"), ("Col2Im", "t k11 k58", {}, "a block [5, 8] does not fit an image [1, 1]"),
    ("Col2Im", "t k58 k12", {}, "an input [2, 5, 8] does not hold the 2 x 35 columns of an image [5, 8]"), ("EyeLike", "v", {}, "needs a matrix, but got an input [8]"), ("Trilu", "v", {}, "needs a matrix, but got an input [8]"),
    ("Trilu", "x i", {}, "k must be one integer"), ("Trilu", "x k12", {}, "k must be one integer"), ("Range", "kzero kscalar kzero", {}, "has a step of 0, or more than 2^40 elements"),
    ("HannWindow", "kzero", {}, "expected one number between 1 and 2^24, and numbers"), ("GatherElements", "x knine", {}, "index 9 is out of range for an axis of 4"),
    ("ScatterElements", "x j x", {"reduction": "mean"}, "reduction is 'mean', but it must be none, add, mul, max or min"), ("TensorScatter", "z z n", {"axis": 0}, "expected an axis behind the batch and the mode linear or circular"),
    ("TensorScatter", "z t n", {}, "an update and its indices do not fit a cache [2, 6, 4, 4]"), ("MaxUnpool", "z j", {"kernel_shape": [2, 2]}, "pooled values [2, 6, 4, 4], their indices, a kernel [2, 2], strides and pads do not fit"),
    ("OneHot", "i s v", {}, "needs indices, a depth that is known when the model is imported, and two values"), ("OneHot", "i kscalar v", {}, "has depth 2 and values [8], expected at least 1 and [2]"),
    ("ReverseSequence", "x n", {}, "batch_axis 1 and time_axis 0 must be 0 and 1, with a length for each sequence of [4, 8]"), ("Compress", "x b", {}, "the result's shape depends on the data: operator 'Compress'"),
    ("Compress", "x kfalse", {"axis": 0}, "keeps nothing of an input [4, 8]"),
    ("Resize", "z - kf4", {"mode": "area"}, "has mode 'area', nearest_mode 'round_prefer_floor' and coordinate_transformation_mode 'half_pixel', of which one is not supported"),
    ("Resize", "z - kf", {}, "has 1 scales and 0 sizes for 4 axes; it needs either"),
    ("Resize", "z kf kf4", {"coordinate_transformation_mode": "tf_crop_and_resize"}, "has a region of interest of 1 numbers for 4 axes"), ("Resize", "z - kf4", {"keep_aspect_ratio_policy": "fill"}, "keep_aspect_ratio_policy is 'fill'"),
    ("Resize", "z - kf4not", {}, "scales axis 2 by 0.0"), ("Resize", "z - kf4small", {"mode": "linear", "antialias": 1}, "at most a factor of 16 is supported"), ("Resize", "z - kf4wide", {}, "makes an axis of 4000000 elements; at most 2^20 are supported"),
    ("GridSample", "z z", {"mode": "area"}, "cannot sample [2, 6, 4, 4] at [2, 6, 4, 4] with mode 'area' and padding_mode 'zeros'"), ("RoiAlign", "z x i", {}, "cannot align regions [4, 8] of [2, 6, 4, 4] with mode 'avg' to 1 x 1"),
    ("Einsum", "x j", {"equation": "ab,ab->a"}, "needs operands of one type of numbers"), ("Einsum", "x x", {"equation": "ab,ba->a"}, "does not fit the equation 'ab,ba->a'"), ("DFT", "t - k12", {}, "the axis must be one number"),
    ("DFT", "t", {}, "the last axis must hold one or two floats"), ("RNN", "x x x", {}, "needs X, W and R of three axes each"), ("LSTM", "t t t", {"direction": "both"}, "direction is 'both', but it must be forward, reverse or bidirectional"),
    ("Attention", "x x x", {}, "needs queries and keys of one float type, and values, with three or four axes each"), ("Attention", "t t t", {"q_num_heads": 3, "kv_num_heads": 2}, "q_num_heads is 3, but operand 0 is [2, 5, 8]"),
    ("Attention", "z z z - z", {}, "needs past keys and values together, and without padded lengths"), ("Attention", "z z z - t z", {}, "past keys [2, 5, 8] do not fit [2, 6, 4, 4]"), ("Attention", "z z z j", {}, "a mask [4, 8] does not fit scores [2, 6, 4, 4]"),
    ("Attention", "z z z x", {}, "a mask [4, 8] does not fit scores [2, 6, 4, 4]"),
    ("LinearAttention", "t t t", {"update_rule": "sum"}, "update_rule is 'sum', but it must be linear, gated, delta or gated_delta"), ("LinearAttention", "t t t", {"q_num_heads": 3, "kv_num_heads": 2}, "q_num_heads is 3, but it must be a multiple of kv_num_heads, 2"),
    ("LinearAttention", "t t t", {"q_num_heads": 2, "kv_num_heads": 2}, "with update_rule gated_delta needs a decay and a beta"), ("CausalConvWithState", "x x", {}, "needs an input [batch, channels, length] and weights [channels, 1, taps]"),
    ("com.microsoft.FusedMatMul", "v v", {}, "needs operands of at least two axes, but got [8] and [8]"), ("com.microsoft.BiasGelu", "j v", {}, "operand 0 must be floats of the first operand's type"),
    ("com.microsoft.MultiHeadAttention", "t", {"num_heads": 2}, "packed queries, keys and values are not supported"), ("com.microsoft.MultiHeadAttention", "t t t", {"num_heads": 3}, "num_heads is 3, but operand 0 is [2, 5, 8]"),
    ("com.microsoft.MultiHeadAttention", "t t t v", {"num_heads": 2}, "a bias of shape [8] does not fit queries, keys and values of 24 columns together"),
    ("com.microsoft.MultiHeadAttention", "t t t - v", {"num_heads": 2}, "key_padding_mask of shape [8] is not supported: integers [batch, keys] are"),
    ("com.microsoft.MultiHeadAttention", "t t t - - x", {"num_heads": 2}, "attention_bias of shape [4, 8] does not fit scores [2, 2, 5, 5]"),
    ("com.microsoft.RotaryEmbedding", "t i v v", {}, "needs caches [positions, size / 2] of the input's type and integer positions"),
]


@test("refused nodes/each in a line of its own")
def each():
    nodes = []
    for number, (op, operands, attributes, _) in enumerate(NODES):
        domain, _, name = op.rpartition(".")
        nodes.append(node(name, ["" if operand == "-" else operand for operand in operands.split()], [f"o{number}"], f"n{number}", domain, **attributes))
    known = [tensor(name, np.array(numbers, dtype=np.int64 if np.array(numbers).dtype.kind == "i" else np.bool_ if np.array(numbers).dtype.kind == "b" else np.float32)) for name, numbers in KNOWN.items()]
    folder = scratch("nodes")
    (folder / "model.onnx").write_bytes(model([*nodes, node("Relu", ["x"], ["y"])], known, [value(name, *of) for name, of in INPUTS.items()], [value("y", [4, 8])], opset=28, ir_version=13))
    lines = expect_refusal(execute(["zopt", "--mode=forward", folder / "model.onnx", "-o", folder / "plan.mlir"], timeout=60), 1)
    said = {line.split(": error: ")[0].rpartition(":")[2]: line for line in lines}
    wrong = [f"{op}({operands}) {attributes}: expected '{message}', but got {said.get(f'n{number}', 'nothing')}" for number, (op, operands, attributes, message) in enumerate(NODES) if message not in said.get(f"n{number}", "")]
    assert not wrong, "\n".join(wrong)
    assert len(lines) == len(NODES), f"{len(lines)} lines for {len(NODES)} nodes"
