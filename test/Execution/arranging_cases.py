"""More cases for operator_gradients.py: operators that move, window, gather, scatter and resample, recurrent cells, attention, and graphs of several nodes.

Operands are made as operator_cases.py says; `torch` may use the functions of scripts/record-operator-gradients.py.
"""
import onnx_writer as onnx
from operator_cases import Case, draw, integers, np

THREE = ((3, 4), (2, 1, 3), (5,))


def array(values, kind=np.int64):
    return np.asarray(values, kind)


def x(*shape, seed="x", kind="normal"):
    return draw(kind, shape, seed)


def apart(*shape):
    """No two elements are the same."""
    return (np.random.default_rng(7).permutation(int(np.prod(shape))).reshape(shape) / 8 - 1).astype(np.float32)


def grid(*shape):
    """Inside and outside [-1, 1]."""
    return np.random.default_rng(5).uniform(-1.3, 1.3, shape).astype(np.float32)


def every():
    yield from movement()
    yield from indexing()
    yield from windows()
    yield from resampling()
    yield from transforms()
    yield from recurrent()
    yield from attention()
    yield from compositions()


def movement():
    for shape in THREE:
        a = x(*shape)
        yield Case("Identity", [a], "a")
        yield Case("Cast", [a], "a", to=1)
        yield Case("CastLike", [a, np.zeros(1, np.float32)], "a", constant=(1,))
        yield Case("Dropout", [a, np.float32(0.5).reshape(()), array(False, np.bool_)], "a", constant=(1,))
        yield Case("Flatten", [a], f"a.reshape({1 if len(shape) == 1 else shape[0]}, -1)", axis=min(1, len(shape) - 1))
        yield Case("Reshape", [a, integers(-1)], "a.reshape(-1)")
        yield Case("Unsqueeze", [a, integers(0, -1)], "a[None, ..., None]")
        yield Case("Transpose", [a], "a.permute(*reversed(range(a.dim())))")
        yield Case("Tile", [a, integers(*range(2, 2 + len(shape)))], f"a.tile({tuple(range(2, 2 + len(shape)))})")
        yield Case("Concat", [a, x(*shape, seed="b"), a[..., :1]], "torch.cat([a, b, c], -1)", axis=-1)
    for shape, to in (((3, 1), (2, 3, 4)), ((4,), (3, 4)), ((2, 1, 1), (2, 2, 3))):
        yield Case("Expand", [x(*shape), integers(*to)], f"a.expand({to})")
    for shape, axes in (((1, 3), (0,)), ((2, 1, 3, 1), (1, -1)), ((1, 1), (0, 1))):
        yield Case("Squeeze", [x(*shape), integers(*axes)], f"a.reshape({tuple(s for s in shape if s > 1)})")
    for shape, axis, sizes in (((5,), 0, (2, 3)), ((2, 6), 1, (1, 5)), ((3, 4, 2), -2, (3, 1))):
        yield Case("Split", [x(*shape), integers(*sizes)], f"a.split({list(sizes)}, {axis})[1]", outputs=("z", "y"), axis=axis)
    for shape, begins, ends, axes, steps, text in (((5, 3), (4, -1), (0, -9), (0, 1), (-2, -1), "a[[4, 2]][:, [2, 1, 0]]"), ((4, 2, 3), (1,), (9,), (-1,), (1,), "a[..., 1:]"), ((7,), (0,), (7,), (0,), (3,), "a[::3]")):
        yield Case("Slice", [x(*shape), integers(*begins), integers(*ends), integers(*axes), integers(*steps)], text)
    for shape, to, text in (((4, 5), (3, 7), "F.pad(a[:3], (1, 1))"), ((5, 2), (2, 5), "F.pad(a[1:3], (1, 2))"), ((3, 3), (3, 4), "F.pad(a, (0, 1))")):
        yield Case("CenterCropPad", [x(*shape), integers(*to)], text)
    yield Case("Pad", [x(3, 4), integers(1, -1, 2, 2)], "F.pad(a, (-1, 2, 1, 2))", mode="constant")
    yield Case("Pad", [x(3, 4), integers(1, 0, 0, 2), x()], "torch.where(F.pad(torch.ones_like(a), (0, 2, 1, 0)) > 0, F.pad(a, (0, 2, 1, 0)), c)")
    for mode, text in (("reflect", "reflect"), ("edge", "replicate"), ("wrap", "circular")):
        yield Case("Pad", [x(1, 3, 4), integers(0, 1, 1, 0, 2, 1)], f"F.pad(a, (1, 1, 1, 2), mode='{text}')", mode=mode)
    for k in (-1, 0, 1):
        yield Case("Trilu", [x(3 - k, 4), array(k)], f"a.tril({k})", upper=0)
    yield Case("Trilu", [x(2, 3, 2)], "a.triu()")
    for batch, channels, h, w in ((1, 8, 2, 3), (2, 4, 1, 1), (1, 4, 3, 2)):
        yield Case("DepthToSpace", [x(batch, channels, h, w)], "F.pixel_shuffle(a, 2)", blocksize=2, mode="CRD")
        yield Case("DepthToSpace", [x(batch, channels, h, w)], f"a.reshape({batch}, 2, 2, {channels // 4}, {h}, {w}).permute(0, 3, 4, 1, 5, 2).reshape({batch}, {channels // 4}, {2 * h}, {2 * w})", blocksize=2)
        yield Case("SpaceToDepth", [x(batch, channels // 4, 2 * h, 2 * w)], f"a.reshape({batch}, {channels // 4}, {h}, 2, {w}, 2).permute(0, 3, 5, 1, 2, 4).reshape({batch}, {channels}, {h}, {w})", blocksize=2)


def indexing():
    for shape, axis, at in (((4, 3), 0, [2, -1, 2]), ((2, 3, 2), 1, [[0, 2], [2, 2]]), ((5,), 0, [1])):
        yield Case("Gather", [x(*shape), array(at)], f"a.movedim({axis}, 0)[torch.tensor({at})].movedim({list(range(np.ndim(at)))}, {list(range(axis, axis + np.ndim(at)))})", axis=axis)
    for shape, axis, at in (((3, 4), 1, [[0, 3], [1, 1], [3, 0]]), ((3, 4), 0, [[0, 2, 1], [1, 1, 0]]), ((2, 1, 3), -1, [[[2, 2]], [[0, 1]]])):
        yield Case("GatherElements", [x(*shape), array(at)], f"a.gather({axis}, b)", axis=axis)
    yield Case("GatherND", [x(3, 4, 2), array([[0, 1], [2, 3], [0, 1]])], "a[[0, 2, 0], [1, 3, 1]]")
    yield Case("GatherND", [x(2, 3, 4), array([[1], [0]])], "a[[0, 1], [1, 0]]", batch_dims=1)
    yield Case("GatherND", [x(4), array([[[3], [-1]]])], "a[torch.tensor([[3, 3]])]")
    for reduction, torch in (("add", "sum"), ("mul", "prod"), ("max", "amax"), ("min", "amin")):
        yield Case("ScatterElements", [x(3, 4), array([[0, 1, 2, 0], [2, 1, 0, 0]]), x(2, 4)], f"a.scatter_reduce(0, b, c, '{torch}')", axis=0, reduction=reduction)
    yield Case("ScatterElements", [x(3, 4), array([[0, 1], [3, 1], [2, 0]]), x(3, 2)], "a.scatter(1, b, c)", axis=1)
    yield Case("ScatterElements", [x(5), array([4, 0]), x(2)], "a.scatter(0, b, c)")
    yield Case("ScatterND", [x(4, 3), array([[1], [3]]), x(2, 3)], "a.index_put((b[:, 0],), c)")
    yield Case("ScatterND", [x(4, 3), array([[1], [3], [1]]), x(3, 3)], "a.index_add(0, b[:, 0], c)", reduction="add")
    yield Case("ScatterND", [x(2, 3), array([[0, 2], [1, 0]]), x(2)], "a.index_put((b[:, 0], b[:, 1]), c)")
    for shape, axis, at in (((4, 2), 0, [0, 2]), ((2, 5), 1, [1, 4]), ((2, 1, 3), -1, [2])):
        yield Case("Compress", [x(*shape), array([i in at for i in range(shape[axis])], np.bool_)], f"a.index_select({axis}, torch.tensor({at}))", axis=axis)
    for at, depth, axis in (([0, 2, 1], 3, -1), ([[1, 0], [3, 3]], 4, 0), ([2], 2, 1)):
        yield Case("OneHot", [array(at), array(depth), x(2)], f"torch.where((torch.tensor({at}).unsqueeze(-1) == torch.arange({depth})), c[1], c[0]).movedim(-1, {axis})", axis=axis)
    for shape, k, axis, largest in (((3, 6), 2, -1, 1), ((5, 2), 3, 0, 0), ((2, 1, 4), 4, 2, 1)):
        yield Case("TopK", [apart(*shape), integers(k)], f"a.topk({k}, {axis}, largest={bool(largest)})[0]", outputs=("y", "z"), axis=axis, largest=largest)
    for lengths, time in (([3, 1], 1), ([1, 4], 1), ([2, 2], 0), ([4, 1, 2], 0)):
        flipped = ", ".join(f"torch.cat([a.movedim({time}, 1)[{i}, :{n}].flip(0), a.movedim({time}, 1)[{i}, {n}:]])" for i, n in enumerate(lengths))
        yield Case("ReverseSequence", [x(len(lengths), 4, 3) if time else x(4, len(lengths), 2), integers(*lengths)], f"torch.stack([{flipped}]).movedim(1, {time})", batch_axis=1 - time, time_axis=time)
    for shape, axis, at, mode in (((2, 2, 5, 3), -2, [0, 3], "linear"), ((1, 4, 2), 1, [1], "linear"), ((2, 4, 1), 1, [3, 2], "circular")):
        length, size = 2, shape[axis]
        update = [*shape]
        update[axis] = length
        rows = ", ".join(f"a[{i}].index_copy({axis % len(shape) - 1}, torch.tensor({[(n + j) % size for j in range(length)]}), b[{i}])" for i, n in enumerate(at))
        yield Case("TensorScatter", [x(*shape), x(*update), integers(*at)], f"torch.stack([{rows}])", axis=axis, mode=mode)


def windows():
    for shape, weight, text, more in (((2, 2, 6), (3, 2, 3), "F.conv1d(a, b, c, 2, 1)", dict(strides=[2], pads=[1, 1])), ((1, 4, 4, 5), (4, 2, 2, 3), "F.conv2d(a, b, c, dilation=(1, 2), groups=2)", dict(dilations=[1, 2], group=2)),
                                      ((1, 1, 3, 3, 2), (2, 1, 2, 2, 2), "F.conv3d(a, b, c)", {})):
        yield Case("Conv", [x(*shape), x(*weight), x(weight[0])], text, **more)
    for shape, weight, text, more in (((1, 2, 4), (2, 3, 3), "F.conv_transpose1d(a, b, c, 2, 1, 1)", dict(strides=[2], pads=[1, 1], output_padding=[1])), ((1, 4, 2, 3), (4, 1, 3, 2), "F.conv_transpose2d(a, b, c, groups=2)", dict(group=2)),
                                      ((2, 1, 2, 2, 1), (1, 2, 2, 1, 2), "F.conv_transpose3d(a, b, c, dilation=(2, 1, 1))", dict(dilations=[2, 1, 1]))):
        yield Case("ConvTranspose", [x(*shape), x(*weight), x(weight[1] * more.get("group", 1))], text, **more)
    for n, (shape, size, stride, pad) in enumerate((((1, 2, 6), (3,), (2,), (1,)), ((2, 1, 4, 5), (2, 3), (2, 1), (0, 1)), ((1, 1, 3, 2, 3), (2, 2, 1), (1, 1, 2), (1, 0, 0)))):
        more = dict(kernel_shape=list(size), strides=list(stride), pads=[*pad, *pad])
        yield Case("MaxPool", [apart(*shape)], f"F.max_pool{n + 1}d(a, {size}, {stride}, {pad})", **more)
        yield Case("AveragePool", [x(*shape)], f"F.avg_pool{n + 1}d(a, {size}, {stride}, {pad}, count_include_pad=False)", **more)
        yield Case("AveragePool", [x(*shape)], f"F.avg_pool{n + 1}d(a, {size}, {stride}, {pad})", count_include_pad=1, **more)
        power = 2 + n % 2
        window = int(np.prod(size))
        yield Case("LpPool", [x(*shape, kind="positive")], f"({window} * F.avg_pool{n + 1}d(a.abs() ** {power}, {size}, {stride}, {pad})) ** {1 / power!r}", p=power, **more)
        axes = tuple(range(2, len(shape)))
        yield Case("GlobalAveragePool", [x(*shape)], f"a.mean({axes}, keepdim=True)")
        yield Case("GlobalMaxPool", [x(*shape)], f"a.amax({axes}, keepdim=True)")
        yield Case("GlobalLpPool", [x(*shape)], f"torch.linalg.vector_norm(a, {power}, {axes}, keepdim=True)", p=power)
    for shape, to, at in (((1, 1, 2), (1, 1, 4), [[[1, 2]]]), ((1, 2, 1, 2), (1, 2, 2, 4), [[[[1, 6]], [[8, 15]]]]), ((2, 1, 1, 1), (2, 1, 2, 2), [[[[2]]], [[[5]]]])):
        yield Case("MaxUnpool", [x(*shape), array(at), integers(*to)], f"torch.zeros({int(np.prod(to))}, dtype=a.dtype).index_put((b.flatten(),), a.flatten()).reshape({to})", kernel_shape=[2] * (len(shape) - 2), strides=[2] * (len(shape) - 2))
    for shape, size in (((2, 4, 2), 3), ((1, 5, 2, 2), 2), ((2, 1, 3), 1)):
        # Its window begins (size - 1) / 2 channels before, rounded down.
        sums = f"F.avg_pool1d(F.pad(a.square().flatten(2).transpose(1, 2), ({(size - 1) // 2}, {size // 2})), {size}, 1).transpose(1, 2).reshape(a.shape)"
        yield Case("LRN", [x(*shape)], f"a / (1.5 + 0.5 * {sums}) ** 0.75", size=size, alpha=0.5, beta=0.75, bias=1.5)
    for shape in ((2, 3), (3, 2, 4), (2, 1, 2, 3)):
        vectors = [x(shape[1], seed=s) for s in "bc"] + [x(shape[1], seed="d"), x(shape[1], kind="positive")]
        yield Case("BatchNormalization", [x(*shape), *vectors], "F.batch_norm(a, d, e, b, c, eps=2 ** -10)", constant=(3, 4), epsilon=2.0 ** -10)
        if shape != (2, 1, 2, 3):
            yield Case("BatchNormalization", [x(*shape), *vectors], "F.batch_norm(a, None, None, b, c, True, eps=2 ** -10)", constant=(3, 4), outputs=("y", "m", "v"), epsilon=2.0 ** -10, training_mode=1)
    yield Case("Col2Im", [x(1, 8, 9), integers(4, 4), integers(2, 2)], "F.fold(a, (4, 4), 2)")
    yield Case("Col2Im", [x(1, 4, 4), integers(4, 4), integers(2, 2)], "F.fold(a, (4, 4), 2, 2, 1, 2)", strides=[2, 2], dilations=[2, 2], pads=[1, 1, 1, 1])
    yield Case("Col2Im", [x(2, 3, 4), integers(2, 6), integers(1, 3)], "F.fold(a, (2, 6), (1, 3), stride=(1, 3))", strides=[1, 3])
    for shape, k, silu in (((2, 3, 5), 3, False), ((1, 2, 4), 2, True), ((2, 1, 1), 4, True)):
        text = f"F.conv1d(torch.cat([d, a], 2), b, c, groups={shape[1]})"
        yield Case("CausalConvWithState", [x(*shape), x(shape[1], 1, k), x(shape[1]), x(shape[0], shape[1], k - 1)], f"F.silu({text})" if silu else text, outputs=("y", "z"), activation="silu" if silu else "none")


def resampling():
    for shape, to, text, more in (((1, 2, 3, 4), (6, 7), "mode='bilinear'", dict(mode="linear")), ((1, 1, 3, 4), (5, 7), "mode='bilinear', align_corners=True", dict(mode="linear", coordinate_transformation_mode="align_corners")),
                                  ((1, 1, 4, 5), (7, 8), "mode='bicubic'", dict(mode="cubic")), ((1, 1, 9, 8), (4, 3), "mode='bilinear', antialias=True", dict(mode="linear", antialias=1, exclude_outside=1)),
                                  ((1, 2, 3, 2), (6, 6), "mode='nearest'", dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"))):
        yield Case("Resize", [x(*shape), None, None, integers(*shape[:2], *to)], f"F.interpolate(a, {to}, {text})", **more)
    for shape, scales, mode in (((1, 2, 3, 2), (1, 1, 2, 3), "nearest"), ((2, 1, 4), (1, 1, 2), "nearest"), ((1, 1, 1, 3), (1, 1, 3, 1), "nearest")):
        yield Case("Upsample", [x(*shape), np.asarray(scales, np.float32)], f"F.interpolate(a, scale_factor={tuple(map(float, scales[2:]))})", constant=(1,), mode=mode)
    for mode, torch in (("linear", "bilinear"), ("cubic", "bicubic"), ("nearest", "nearest")):
        for padding in ("zeros", "border", "reflection"):
            for corners in (0, 1):
                if mode != "nearest" or (padding, corners) == ("zeros", 0):
                    shape = (1, 2, 3, 4) if corners else (2, 1, 2, 3) if padding == "zeros" else (1, 1, 1, 4)
                    yield Case("GridSample", [grid(*shape), grid(shape[0], 3, 2, 2)], f"F.grid_sample(a, b, '{torch}', '{padding}', {bool(corners)})", mode=mode, padding_mode=padding, align_corners=corners)
    for (n, h, w), corners in (((2, 3, 4), 0), ((3, 1, 4), 1), ((1, 2, 2), 0)):
        yield Case("AffineGrid", [x(n, 2, 3), integers(n, 1, h, w)], f"F.affine_grid(a, ({n}, 1, {h}, {w}), {bool(corners)})", align_corners=corners)
    for shape, boxes, of, size in (((1, 2, 4, 4), [[0, 0, 3, 3]], [0], (2, 2)), ((2, 1, 5, 4), [[0.5, 1, 3.25, 4], [1, 0, 2, 2]], [1, 0], (2, 1)), ((1, 1, 3, 3), [[-1, 0, 4, 2]], [0], (1, 2))):
        # Averages of 2 samples an axis in each cell, at half a pixel; PyTorch has no such operator without torchvision.
        yield Case("RoiAlign", [x(*shape), np.asarray(boxes, np.float32), integers(*of)], f"roi_align(a, b, c, {size})", constant=(1,), output_height=size[0], output_width=size[1], sampling_ratio=2)


def transforms():
    for shape, axis in (((1, 5, 1), 1), ((2, 4, 2), 1), ((2, 3, 4, 1), 2)):
        complex = "torch.view_as_complex(a)" if shape[-1] == 2 else "a[..., 0]"
        yield Case("DFT", [x(*shape), None, array(axis)], f"torch.view_as_real(torch.fft.fft({complex}, dim={axis}))")
        yield Case("DFT", [x(*shape), None, array(axis)], f"torch.view_as_real(torch.fft.ifft({complex}, dim={axis}).resolve_conj())", inverse=1)
    for n, step, length in ((8, 2, 4), (5, 1, 3), (6, 3, 6)):
        yield Case("STFT", [x(1, n, 1), array(step), x(length, kind="positive"), array(length)], f"torch.view_as_real(torch.fft.rfft(a[..., 0].unfold(1, {length}, {step}) * c))", constant=(2,))
    for equation, shapes in (("bij,bjk->bik", [(2, 3, 4), (2, 4, 2)]), ("bhtd,bhsd->bhts", [(1, 2, 3, 2), (1, 2, 4, 2)]), ("ii->i", [(3, 3)]), ("ij->", [(2, 3)]), ("i,j,ij->ji", [(2,), (3,), (2, 3)]),
                             ("...ij,...jk->...ik", [(2, 1, 3, 4), (3, 4, 2)]), ("bi,bi,ij->j", [(2, 3), (2, 3), (3, 4)])):
        yield Case("Einsum", [x(*s, seed=str(i)) for i, s in enumerate(shapes)], f"torch.einsum('{equation}', {', '.join('abc'[:len(shapes)])})", equation=equation)
    for shape in THREE:
        yield Case("SwiGLU", [x(*shape), x(*shape, seed="b")], "F.silu(a) * b")


def recurrent():
    for op, gates, forms in (("RNN", 1, (dict(), dict(direction="bidirectional", activations=["Relu", "Relu"]), dict(direction="reverse", batch=1))),
                             ("LSTM", 4, (dict(), dict(direction="bidirectional"), dict(direction="bidirectional", lengths=[4, 2], state=False), dict(direction="reverse", batch=1))),
                             ("GRU", 3, (dict(linear_before_reset=1), dict(direction="bidirectional", linear_before_reset=1, lengths=[3, 4]), dict(direction="reverse", batch=1, linear_before_reset=1)))):
        for form in forms:
            form = dict(form)
            lengths, batch, state, direction = form.pop("lengths", None), form.pop("batch", 2), form.pop("state", True), form.pop("direction", "forward")
            d, hidden, inputs = 1 + (direction == "bidirectional"), 3, 2
            operands = [x(4, batch, inputs), x(d, gates * hidden, inputs, seed="w"), x(d, gates * hidden, hidden, seed="r"), x(d, 2 * gates * hidden, seed="b"), None if lengths is None else array(lengths)]
            operands += [x(d, batch, hidden, seed=s) for s in ("h", "c")[:1 + (op == "LSTM")]] if state else []
            names = ["a", "b", "c", "d", *(["f", "g"][:len(operands) - 5])]
            yield Case(op, operands, f"recurrent('{op}', '{direction}', {lengths}, {'activations' in form}, {', '.join(names)})", direction=direction, hidden_size=hidden, **form)


def attention():
    q, k, v = x(1, 4, 3, 4, seed="q"), x(1, 2, 5, 4, seed="k"), x(1, 2, 5, 2, seed="v")
    grouped = "F.scaled_dot_product_attention(a, b, c, {}, enable_gqa=True)"
    yield Case("Attention", [q, k, v], "capped(a, b, c, 1.5)", softcap=1.5)
    yield Case("Attention", [q, k, v, x(4, 3, 5, seed="m")], grouped.format("d"))
    yield Case("Attention", [q, k, v, None, x(1, 2, 2, 4, seed="pk"), x(1, 2, 2, 2, seed="pv")], "F.scaled_dot_product_attention(a, torch.cat([e, b], 2), torch.cat([f, c], 2), torch.ones(3, 7, dtype=torch.bool).tril(2), enable_gqa=True)",
               outputs=("y", "pk", "pv"), is_causal=1)
    for shape, interleaved in (((1, 2, 3, 4), 0), ((2, 1, 2, 6), 1), ((1, 3, 1, 2), 0)):
        length, half = shape[2], shape[3] // 2
        angles = np.random.default_rng(2).uniform(-2, 2, (length + 1, half))
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        positions = np.tile(np.arange(1, length + 1), (shape[0], 1))
        yield Case("RotaryEmbedding", [x(*shape), cos, sin, positions], f"rotate(a, b[d][:, None], c[d][:, None], {interleaved})", constant=(1, 2), interleaved=interleaved)
        yield Case("RotaryEmbedding", [x(*shape), positions, cos, sin], f"rotate(a, c[b][:, None], d[b][:, None], {interleaved})", domain="com.microsoft", constant=(2, 3), interleaved=interleaved)
    for rule, batch, heads in (("linear", 1, 2), ("gated", 2, 1), ("delta", 1, 2), ("gated_delta", 1, 1)):
        q, k, v = (x(batch, 3, heads * 2, seed=s) for s in "qkv")
        decay = -x(batch, 3, heads, seed="g", kind="positive") if rule.startswith("gated") else None
        beta = x(batch, 3, heads, seed="beta", kind="positive") if "delta" in rule else None
        yield Case("LinearAttention", [q, k, v, x(batch, heads, 2, 2, seed="s"), decay, beta], f"linear_attention('{rule}', {heads}, a, b, c, d, {'e' if decay is not None else None}, {'f' if beta is not None else None})",
                   outputs=("y", "z"), update_rule=rule, q_num_heads=heads, kv_num_heads=heads, scale=0.5)


def compositions():
    """Graphs of several nodes: `nodes` makes them of the case's own names; the operator is what they are there for."""
    V = onnx.value
    for shape in THREE:
        a, b = x(*shape), x(*shape, seed="b")
        size = list(shape)
        branch = lambda n, op: onnx.body([onnx.node(op, [n("a"), n("b")], ["r"])], [], [V("r", size)])
        yield Case("If", [a, b, array(True, np.bool_)], "a * b", nodes=lambda n, branch=branch: [onnx.node("If", [n("c")], [n("y")], then_branch=branch(n, "Mul"), else_branch=branch(n, "Add"))])
        step = onnx.body([onnx.node("Mul", ["s", "w"], ["t"]), onnx.node("Tanh", ["t"], ["o"]), onnx.node("Identity", ["go"], ["goes"]), onnx.node("Identity", ["w"], ["same"])],
                         [V("i", [], onnx.INT64), V("go", [], onnx.BOOL), V("s", size), V("w", size)], [V("goes", [], onnx.BOOL), V("o", size), V("same", size)])
        yield Case("Loop", [a, b, array(3)], "(((a * b).tanh() * b).tanh() * b).tanh()", nodes=lambda n, step=step: [onnx.node("Loop", [n("c"), "", n("a"), n("b")], [n("y"), n("z")], body=step)])
        row = size[1:]
        scan = onnx.body([onnx.node("Mul", ["s", "v"], ["t"]), onnx.node("Add", ["t", "v"], ["o"]), onnx.node("Identity", ["o"], ["u"])], [V("s", row), V("v", row)], [V("o", row), V("u", row)])
        yield Case("Scan", [a, b[0]], "scanned(a, b)", nodes=lambda n, scan=scan: [onnx.node("Scan", [n("b"), n("a")], [n("end"), n("y")], body=scan, num_scan_inputs=1)])
        parts = lambda n: onnx.node("SequenceConstruct", [n("a"), n("b")], [n("list")])
        yield Case("SequenceConstruct", [a, b], "b", nodes=lambda n, parts=parts: [parts(n), onnx.node("SequenceAt", [n("list"), n("c")], [n("y")])], more=[array(-1)])
        yield Case("SequenceAt", [a, b], "a * b", more=[array(0), array(1)],
                   nodes=lambda n, parts=parts: [parts(n), onnx.node("SequenceAt", [n("list"), n("c")], [n("p")]), onnx.node("SequenceAt", [n("list"), n("d")], [n("q")]), onnx.node("Mul", [n("p"), n("q")], [n("y")])])
        yield Case("ConcatFromSequence", [a, b], "torch.stack([a, b])", nodes=lambda n, parts=parts: [parts(n), onnx.node("ConcatFromSequence", [n("list")], [n("y")], axis=0, new_axis=1)])
        yield Case("SequenceInsert", [a, b], "torch.cat([a * 1, a, b])", more=[array(0)],
                   nodes=lambda n, parts=parts: [parts(n), onnx.node("SequenceInsert", [n("list"), n("a"), n("c")], [n("more")]), onnx.node("ConcatFromSequence", [n("more")], [n("y")], axis=0)])
        yield Case("SequenceErase", [a, b], "b", more=[array(0)],
                   nodes=lambda n, parts=parts: [parts(n), onnx.node("SequenceErase", [n("list"), n("c")], [n("less")]), onnx.node("ConcatFromSequence", [n("less")], [n("y")], axis=0)])
        square = onnx.body([onnx.node("Mul", ["p", "p"], ["r"])], [V("p", size)], [V("r", size)])
        yield Case("SequenceMap", [a, b], "torch.cat([a * a, b * b])",
                   nodes=lambda n, parts=parts, square=square: [parts(n), onnx.node("SequenceMap", [n("list")], [n("squares")], body=square), onnx.node("ConcatFromSequence", [n("squares")], [n("y")], axis=0)])
        if len(shape) > 1:
            yield Case("SplitToSequence", [a], "a[1:2]", more=[array(1), array(1)], nodes=lambda n: [onnx.node("SplitToSequence", [n("a"), n("b")], [n("list")], axis=0), onnx.node("SequenceAt", [n("list"), n("c")], [n("y")])])
        else:
            yield Case("SplitToSequence", [a], "a[3:]", more=[integers(3, 2), array(1)], nodes=lambda n: [onnx.node("SplitToSequence", [n("a"), n("b")], [n("list")], axis=0), onnx.node("SequenceAt", [n("list"), n("c")], [n("y")])])
        yield Case("Optional", [a], "a * a", nodes=lambda n: [onnx.node("Optional", [n("a")], [n("o")]), onnx.node("OptionalGetElement", [n("o")], [n("p")]), onnx.node("Mul", [n("p"), n("p")], [n("y")])])
        yield Case("OptionalGetElement", [a], "a", nodes=lambda n: [onnx.node("Optional", [n("a")], [n("o")]), onnx.node("OptionalGetElement", [n("o")], [n("y")])])
