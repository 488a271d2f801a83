"""Two small models of images, written by this file: no exporter, weights and pictures from a formula. `python small_images.py OUT.json` records what PyTorch computes from them in float64 (needs torch).

`resnet`: residual blocks with frozen batch normalization, a strided shortcut, a depthwise convolution, both poolings; cross-entropy. `autoencoder`: group and instance normalization, transposed convolutions with
output padding, groups, dilations, uneven padding and average pooling that counts its padding; mean squared error.
"""
import json
import sys

import numpy as np

import onnx_writer as onnx

BATCH, STEPS, SIZE = 8, 10, 8
ADAMW = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01}


def formula(seed, shape, scale, offset=0.0):
    """Numbers in offset +- scale, the same everywhere: the upper bits of a multiplication."""
    i = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(7919 * seed + 1)
    for factor in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9):
        i = (i ^ (i >> np.uint64(29))) * np.uint64(factor)
    return (offset + scale * ((i >> np.uint64(40)).astype(np.float64) / 2 ** 23 - 1)).reshape(shape).astype(np.float32)


class Parameters:
    """Initializers in order of use; the seed is the place."""

    def __init__(self):
        self.values = {}

    def weight(self, name, *shape):
        self.values[name] = formula(len(self.values), shape, (3 / np.prod(shape[1:])) ** 0.5)
        return name

    def vector(self, name, size, scale=0.2, offset=0.0):
        self.values[name] = formula(len(self.values), (size,), scale, offset)
        return name


def resnet():
    """(ONNX model, parameters by name, names of those that train)"""
    p, nodes = Parameters(), []

    def emit(op, inputs, name, **attributes):
        nodes.append(onnx.node(op, inputs, [name], name + "_node", **attributes))
        return name

    def conv(x, name, inputs, outputs, size, stride=1, groups=1):
        return emit("Conv", [x, p.weight(name + ".weight", outputs, inputs // groups, size, size)], name, kernel_shape=[size, size], strides=[stride, stride], pads=[size // 2] * 4, group=groups)

    def norm(x, name, channels):
        values = [p.vector(f"{name}.{part}", channels, scale, offset) for part, scale, offset in (("weight", 0.3, 1.0), ("bias", 0.2, 0.0), ("running_mean", 0.2, 0.0), ("running_var", 0.3, 0.8))]
        return emit("BatchNormalization", [x, *values], name, epsilon=1e-5)

    def block(x, name, inputs, outputs, stride):
        y = emit("Relu", [norm(conv(x, f"{name}.conv1", inputs, outputs, 3, stride), f"{name}.norm1", outputs)], f"{name}.relu1")
        y = norm(conv(y, f"{name}.conv2", outputs, outputs, 3), f"{name}.norm2", outputs)
        if stride > 1:
            x = norm(conv(x, f"{name}.short", inputs, outputs, 1, stride), f"{name}.norm3", outputs)
        return emit("Relu", [emit("Add", [y, x], f"{name}.sum")], f"{name}.relu2")

    x = emit("Relu", [norm(conv("image", "stem", 1, 16, 3), "norm", 16)], "relu")
    x = emit("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = block(block(x, "block1", 16, 16, 1), "block2", 16, 32, 2)
    x = emit("Relu", [norm(conv(x, "depthwise", 32, 32, 3, groups=32), "norm4", 32)], "relu4")
    x = emit("Flatten", [emit("GlobalAveragePool", [x], "average")], "flat", axis=1)
    emit("Gemm", [x, p.weight("head.weight", 10, 32), p.vector("head.bias", 10)], "logits", transB=1)
    text = onnx.model(nodes, [onnx.tensor(n, v) for n, v in p.values.items()], [onnx.value("image", ["batch", 1, SIZE, SIZE])], [onnx.value("logits", ["batch", 10])], opset=17, ir_version=8)
    return text, p.values, [n for n in p.values if "running" not in n]


def autoencoder():
    p, nodes = Parameters(), []

    def emit(op, inputs, name, **attributes):
        nodes.append(onnx.node(op, inputs, [name], name + "_node", **attributes))
        return name

    def conv(op, x, name, weight, outputs, **attributes):
        return emit(op, [x, p.weight(name + ".weight", *weight), p.vector(name + ".bias", outputs)], name, kernel_shape=list(weight[2:]), **attributes)

    def norm(op, x, name, channels, **attributes):
        return emit(op, [x, p.vector(name + ".weight", channels, 0.3, 1.0), p.vector(name + ".bias", channels)], name, epsilon=1e-5, **attributes)

    x = norm("GroupNormalization", conv("Conv", "image", "enc1", (12, 1, 3, 3), 12, strides=[2, 2], pads=[1, 1, 1, 1]), "norm1", 12, num_groups=3)
    x = emit("Mul", [x, emit("Sigmoid", [x], "gate")], "silu")
    x = norm("InstanceNormalization", conv("Conv", x, "enc2", (16, 6, 3, 2), 16, group=2, dilations=[1, 2], pads=[1, 2, 1, 0]), "norm2", 16)
    x = emit("AveragePool", [emit("Tanh", [x], "tanh")], "average", kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1], count_include_pad=1)
    x = conv("ConvTranspose", x, "dec1", (16, 4, 3, 3), 8, group=2, strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])
    x = norm("GroupNormalization", x, "norm3", 8, num_groups=2)
    x = conv("ConvTranspose", emit("Tanh", [x], "tanh2"), "dec2", (8, 6, 2, 3), 6, auto_pad="SAME_UPPER")
    emit("Sigmoid", [conv("Conv", x, "dec3", (1, 6, 3, 3), 1, auto_pad="SAME_LOWER")], "reconstruction")
    shape = ["batch", 1, SIZE, SIZE]
    return onnx.model(nodes, [onnx.tensor(n, v) for n, v in p.values.items()], [onnx.value("image", shape)], [onnx.value("reconstruction", shape)], opset=21), p.values, list(p.values)


MODELS = {"resnet": (resnet, "cross_entropy"), "autoencoder": (autoencoder, "mse")}


def batches(loss):
    """`image` and `labels` of STEPS batches."""
    images = formula(1000, (STEPS * BATCH, 1, SIZE, SIZE), 0.5, 0.5)
    labels = ((np.arange(STEPS * BATCH) * 7 + 3) // 2 % 10).astype(np.int64)
    return {"image": images, "labels": images.copy() if loss == "mse" else labels}


def projections(gradient, number=3):
    """Sums over the tensor times fixed weights: with the norm, what stands for a gradient that is not recorded element by element."""
    flat = np.asarray(gradient, np.float64).ravel()
    return [float(flat @ formula(2000 + k, flat.shape, 1.0).astype(np.float64)) for k in range(number)]


# ---------------------------------------------------------------------------------------------------------------------
# What PyTorch makes of them
# ---------------------------------------------------------------------------------------------------------------------

def torch_resnet(w, x):
    import torch.nn.functional as F

    def conv(x, name, stride=1, groups=1):
        weight = w[name + ".weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)

    def norm(x, name):
        return F.batch_norm(x, w[name + ".running_mean"], w[name + ".running_var"], w[name + ".weight"], w[name + ".bias"], training=False, eps=1e-5)

    def block(x, name, stride):
        y = norm(conv(norm(conv(x, f"{name}.conv1", stride), f"{name}.norm1").relu(), f"{name}.conv2"), f"{name}.norm2")
        return (y + (x if stride == 1 else norm(conv(x, f"{name}.short", stride), f"{name}.norm3"))).relu()

    x = F.max_pool2d(norm(conv(x, "stem"), "norm").relu(), 3, 2, 1)
    x = block(block(x, "block1", 1), "block2", 2)
    x = norm(conv(x, "depthwise", groups=32), "norm4").relu()
    return F.linear(x.mean((2, 3)), w["head.weight"], w["head.bias"])


def torch_autoencoder(w, x):
    import torch.nn.functional as F
    x = F.silu(F.group_norm(F.conv2d(x, w["enc1.weight"], w["enc1.bias"], stride=2, padding=1), 3, w["norm1.weight"], w["norm1.bias"]))
    x = F.conv2d(F.pad(x, (2, 0, 1, 1)), w["enc2.weight"], w["enc2.bias"], dilation=(1, 2), groups=2)
    x = F.avg_pool2d(F.instance_norm(x, weight=w["norm2.weight"], bias=w["norm2.bias"]).tanh(), 3, 1, 1)
    x = F.conv_transpose2d(x, w["dec1.weight"], w["dec1.bias"], stride=2, padding=1, output_padding=1, groups=2)
    x = F.group_norm(x, 2, w["norm3.weight"], w["norm3.bias"]).tanh()
    # A size that stays: a row too many, two columns too many, of which SAME_UPPER cuts the smaller half at the beginning.
    x = F.conv_transpose2d(x, w["dec2.weight"], w["dec2.bias"])[:, :, :-1, 1:-1]
    return F.conv2d(x, w["dec3.weight"], w["dec3.bias"], padding=1).sigmoid()


def record():
    import torch
    found = {"torch": torch.__version__, "optimizer": ADAMW, "clip": 1.0}
    for name, (build, loss) in MODELS.items():
        _, values, trained = build()
        w = {n: torch.tensor(v, dtype=torch.float64) for n, v in values.items()}
        for n in trained:
            w[n].requires_grad_()
        optimizer = torch.optim.AdamW([w[n] for n in trained], lr=ADAMW["lr"], betas=(ADAMW["beta1"], ADAMW["beta2"]), eps=ADAMW["eps"], weight_decay=ADAMW["weight_decay"])
        data = batches(loss)
        losses, norms, gradients = [], [], {}
        for step in range(STEPS):
            rows = slice(step * BATCH, (step + 1) * BATCH)
            x, y = torch.tensor(data["image"][rows], dtype=torch.float64), torch.tensor(data["labels"][rows])
            output = globals()["torch_" + name](w, x)
            value = torch.nn.functional.cross_entropy(output, y) if loss == "cross_entropy" else torch.nn.functional.mse_loss(output, y.double())
            optimizer.zero_grad()
            value.backward()
            if step == 0:
                gradients = {n: [float(w[n].grad.norm()), *projections(w[n].grad.numpy())] for n in trained}
            norms.append(float(torch.nn.utils.clip_grad_norm_([w[n] for n in trained], 1.0)))
            optimizer.step()
            losses.append(value.item())
        found[name] = {"loss": losses, "grad_norm": norms, "gradients": gradients, "param_norm": {n: float(w[n].detach().norm()) for n in trained}}
    return found


if __name__ == "__main__":
    with open(sys.argv[1], "w") as out:
        json.dump(record(), out, indent=1)
