"""More cases for operator_gradients.py: deformable convolution, regions, indices of maxima, attention with bodies. They stand behind all others, whose numbers stay as they are.

`torch` may use the functions of scripts/record-operator-gradients.py.
"""
import numpy as np

import onnx_writer as onnx
from operator_cases import Case, draw


def x(*shape, seed="x", kind="normal", scale=1.0):
    return (draw(kind, shape, seed) * scale).astype(np.float32)


def every():
    # Offsets reach beyond the input; parts of offsets and groups of channels differ.
    for batch, channels, space, outputs, window, parts, groups, form in (
            (2, 3, (5, 4), 2, (3, 2), 1, 1, dict(pads=[1, 0, 1, 0])), (1, 4, (4, 5), 4, (2, 2), 2, 2, dict(strides=[2, 1], pads=[1, 1, 1, 1], dilations=[1, 2])), (1, 4, (3, 3), 2, (1, 1), 4, 1, dict())):
        strides, pads, dilations = form.get("strides", [1, 1]), form.get("pads", [0] * 4), form.get("dilations", [1, 1])
        out = [(s + 2 * pads[a] - dilations[a] * (window[a] - 1) - 1) // strides[a] + 1 for a, s in enumerate(space)]
        count = parts * window[0] * window[1]
        call = f"deform_conv2d(a, c, b, {{}}, stride={strides}, padding={pads[:2]}, dilation={dilations}, mask={{}})"
        operands = [x(batch, channels, *space), x(outputs, channels // groups, *window, seed="w"), x(batch, 2 * count, *out, seed="o", scale=0.9)]
        bias, mask = x(outputs, seed="b"), x(batch, count, *out, seed="m", kind="positive")
        yield Case("DeformConv", [*operands, bias, mask], call.format("d", "e"), group=groups, offset_group=parts, **form)
        yield Case("DeformConv", operands, call.format(None, None), group=groups, offset_group=parts, **form)

    for shape, regions, size, scale in (((2, 2, 6, 5), [[0, 0, 0, 3, 4], [1, 1, 2, 4, 5], [1, 3, 3, 3, 3]], [2, 2], 1.0), ((1, 1, 8, 8), [[0, 2, 1, 13, 15]], [3, 1], 0.5), ((1, 3, 4, 4), [[0, -2, 0, 9, 2]], [2, 3], 1.0)):
        apart = (np.random.default_rng(7).permutation(int(np.prod(shape))).reshape(shape) / 8 - 1).astype(np.float32)
        yield Case("MaxRoiPool", [apart, np.asarray(regions, np.float32)], f"roi_pool(a, b, {size}, {scale})", constant=(1,), pooled_shape=size, spatial_scale=scale)

    for shape, kernel, order in (((1, 2, 4, 6), [2, 2], 0), ((2, 1, 6), [3], 0), ((1, 1, 4, 2, 2), [2, 2, 2], 0)):
        n = len(kernel)
        yield Case("MaxPool", [x(*shape, seed="unpooled")], f"F.max_unpool{n}d(*F.max_pool{n}d(a, {kernel}, return_indices=True), {kernel})",
                   nodes=lambda n, kernel=kernel: [onnx.node("MaxPool", [n("a")], [n("p"), n("i")], kernel_shape=kernel, strides=kernel), onnx.node("MaxUnpool", [n("p"), n("i")], [n("y")], kernel_shape=kernel, strides=kernel)])

    for shape, indices in (((3, 4), [[1, 0, 2, 1]]), ((2, 1, 3), [[[1, 0, 0]]]), ((5,), [4, 0])):
        indices = np.asarray(indices, np.int64)
        yield Case("Scatter", [x(*shape), indices, x(*indices.shape, seed="u")], "a.scatter(0, b, c)")

    V = onnx.value
    for batch, heads, shared, queries, keys in ((1, 2, 2, 3, 3), (2, 4, 2, 2, 3), (1, 2, 1, 4, 1)):
        q, k, v = x(batch, heads, queries, 4, seed="q"), x(batch, shared, keys, 4, seed="k"), x(batch, shared, keys, 2, seed="v")
        spread = f".repeat_interleave({heads // shared}, 1)"
        size = [batch, heads, queries, keys]
        # A soft cap of scores, and probabilities whose power is a parameter of the graph around.
        score = onnx.body([onnx.node("Tanh", ["s"], ["t"])], [V("s", size)], [V("t", size)])
        call = f"(0.25 * a @ b{spread}.mT)"
        yield Case("FlexAttention", [q, k, v], f"{call}.softmax(-1) @ c{spread}", domain="ai.onnx.preview", scale=0.25)
        square = lambda n: onnx.body([onnx.node("Mul", ["p", n("d")], ["r"])], [V("p", size)], [V("r", size)])
        yield Case("FlexAttention", [q, k, v, x(heads, 1, 1, seed="d")], f"({call}.tanh().softmax(-1) * d) @ c{spread}", domain="ai.onnx.preview",
                   nodes=lambda n, score=score, square=square: [onnx.node("FlexAttention", [n("a"), n("b"), n("c")], [n("y")], domain="ai.onnx.preview", scale=0.25, score_mod=score, prob_mod=square(n))])
