"""I9 for convolutional models: test/Execution's small models of images on the device, beside the CPU and PyTorch's recorded curves; I1, poisoned memory and bits that repeat."""
import dataclasses

import convolutions
import small_images
import tensors
from device import Device, on_device, specialization
from harness import add, assert_same_training, compile_plan, memoize, scratch, succeed, train, train_anew

RELATIVE = {"fp32": 1e-4, "bf16": 3e-2}
CURVE = {"fp32": (1e-5, 1e-4, 1e-4), "bf16": (2e-2, 1.5e-1, 1e-2)}
# Losses as small as the autoencoder's show each activation that rounds to the other side of a kink: losses by 5.2e-4 and norms by 2.6e-2 in ten steps, from gradients within 4e-7.
CURVES = {("autoencoder", "fp32"): (1e-3, 5e-2, 1e-2)}
ZERO = {"enc2.bias"}  # a bias before a norm: its gradient is rounding


@memoize
def gradients(name, precision, target):
    folder = scratch("gradients")
    loss = small_images.MODELS[name][1]
    plan = compile_plan(str(convolutions.folder_of(name)), "--mode=gradient", f"--loss={loss}", f"--micro-batch={small_images.BATCH}", *([f"--{precision}"] if precision != "fp32" else []), *specialization(target, 1))
    succeed(["zrun", plan, "--nproc", 1, "--comm=local", "--threads", 1, f"--target={target}", "--data", convolutions.folder_of(name) / "batch.safetensors", "--steps", 1, "--gradients-out", folder / "g.safetensors"],
            timeout=300)
    return {name: array for name, array in tensors.load(folder / "g.safetensors").items() if name not in ZERO}


def curve(config, name, loss, norm, weights):
    run, theirs = train(config), convolutions.RECORDED[name]
    for what, ours, expected, tolerance in (("losses", run.losses, theirs["loss"], loss), ("gradient norms", run.norms, theirs["grad_norm"], norm)):
        worst = max(abs(a - b) / abs(b) for a, b in zip(ours, expected, strict=True))
        assert worst <= tolerance, f"{what} differ from PyTorch's by {worst:.3g} relative, more than {tolerance:g}"


def same(config, other):
    assert_same_training(train(config), train(other))


def same_with(config, **variables):
    assert_same_training(train(config), train_anew(config, **variables))


def register(compare_gradients):
    for name in small_images.MODELS:
        for precision in ("fp32", "bf16"):
            base = on_device(convolutions.config_of(name, precision))
            label = f"I9/images/{name}/{precision}"
            add(f"{label}/gradients-as-cpu", lambda n=name, p=precision: compare_gradients(n, p, gradients(n, p, Device.target), gradients(n, p, "cpu"), RELATIVE[p], remember=True))
            add(f"{label}/curve", curve, base, name, *CURVES.get((name, precision), CURVE[precision]))
            add(f"I1/images/{name}/{precision}/stage3", same, base, dataclasses.replace(base, stage=3))
            add(f"poison/images/{name}/{precision}", same_with, base, ZOPT_POISON="1")
            if Device.target == "cuda":
                add(f"no graph/images/{name}/{precision}", same_with, base, ZOPT_CUDA_GRAPH="0")
            add(f"repeat/images/{name}/{precision}", lambda config=base: assert_same_training(train_anew(config), train_anew(config)))
