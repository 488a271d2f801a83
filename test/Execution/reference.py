"""I8: the loss, gradient norm and weight norms of the test models against PyTorch's recorded ones (reference.json of each model)."""
import dataclasses

import numpy as np

from harness import Config, add, reference, train

MODELS_WITH_CURVES = ("gpt2-tiny", "gpt2-tiny-ts", "llama-tiny", "llama-tiny-raw", "llama-tiny-op23", "bert-tiny", "mlp-tiny")
RUNS = ("fp64-adamw", "fp32-adamw", "fp32-sgd", "fp32-adamw-accum2-global-mean", "fp32-adamw-accum2-mean-of-means", "bf16-adamw-exact-master")

# Relative, at every step. f64 leaves no room for another order of sums, so it shows that the step is the same; fp32 shows how near fp32 comes.
# mse has a tolerance of its own: an activation that rounds to the other side of ReLU's kink shows in losses as small as these.
FP64 = 1e-10
FP32_LOSS, FP32_NORM, FP32_WEIGHTS = 1e-5, 1e-4, 1e-4
MSE_LOSS, MSE_NORM = 1e-4, 1e-3
BF16_LOSS, BF16_WEIGHTS_TOTAL = 5e-3, 1e-3


def configuration(model, recorded, loss, data):
    o = recorded["optimizer"]
    flags = [f"--optimizer={o['name']}", f"--lr={o['lr']!r}", f"--weight-decay={o['weight_decay']!r}", f"--loss={loss}"]
    if o["name"] == "sgd":
        flags.append(f"--momentum={o['momentum']!r}")
    else:
        flags += [f"--betas={o['beta1']!r},{o['beta2']!r}", f"--eps={o['eps']!r}"]
    if recorded["clip_norm"] is not None:
        flags.append(f"--clip={recorded['clip_norm']!r}")
    if recorded["convention"] == "mean_of_means":
        flags.append("--loss-average=micro-batch")
    if reference(model).get("tied_copies"):
        flags.append("--tie-weights")
    precision = "bf16" if recorded["precision"].startswith("bf16") else recorded["precision"]
    return Config(model, precision=precision, micro=recorded["micro_batch"], accum=recorded["accumulation"], steps=recorded["steps"], flags=tuple(flags), data=data)


def worst(ours, theirs):
    return max(abs(a - b) / abs(b) for a, b in zip(ours, theirs))


def check_losses(config, recorded, tolerance):
    error = worst(train(config).losses, recorded["loss"])
    assert error <= tolerance, f"losses differ from PyTorch's by {error:.3g} relative, more than {tolerance:g}"


def check_norms(config, recorded, tolerance):
    error = worst(train(config).norms, recorded["grad_norm"])
    assert error <= tolerance, f"gradient norms differ from PyTorch's by {error:.3g} relative, more than {tolerance:g}"


def check_weights(config, recorded, skip, tolerance):
    weights = train(config).weights
    missing = recorded["param_norm"].keys() - weights.keys()
    assert not missing, f"weights that were not written: {sorted(missing)}"
    for name, expected in recorded["param_norm"].items():
        if name in skip:
            continue
        norm = float(np.sqrt(np.sum(np.square(weights[name].astype(np.float64)))))
        assert abs(norm - expected) <= tolerance * expected, f"norm of '{name}' is {norm!r} after the last step, PyTorch's {expected!r}"


def check_weights_total(config, recorded, tolerance):
    weights = train(config).weights
    total = float(np.sqrt(sum(np.sum(np.square(weights[name].astype(np.float64))) for name in recorded["param_norm"])))
    expected = recorded["param_norm_total"]
    assert abs(total - expected) <= tolerance * expected, f"norm of all weights is {total!r} after the last step, PyTorch's {expected!r}"


def register(model, file, data):
    details = reference(model, file)
    loss = {"bce": "bce_with_logits"}.get(details["loss"], details["loss"])
    for run in RUNS:
        recorded = details["runs"][run]
        config = configuration(model, recorded, loss, data)
        name = f"I8/{model}/{details['loss']}/{run}"
        if recorded["precision"].startswith("bf16"):
            add(f"{name}/loss", check_losses, config, recorded, BF16_LOSS)
            add(f"{name}/weights-total", check_weights_total, config, recorded, BF16_WEIGHTS_TOTAL)
        elif recorded["precision"] == "fp64":
            add(f"{name}/loss", check_losses, config, recorded, FP64)
            add(f"{name}/grad-norm", check_norms, config, recorded, FP64)
        else:
            add(f"{name}/loss", check_losses, config, recorded, MSE_LOSS if loss == "mse" else FP32_LOSS)
            add(f"{name}/grad-norm", check_norms, config, recorded, MSE_NORM if loss == "mse" else FP32_NORM)
            add(f"{name}/weights", check_weights, config, recorded, set(details["zero_gradient"]), FP32_WEIGHTS)
    # The same curve from several ranks, sharded.
    recorded = details["runs"]["fp32-adamw"]
    config = dataclasses.replace(configuration(model, recorded, loss, data), stage=3, ranks=4, micro=recorded["global_batch"] // 4)
    add(f"I8/{model}/{details['loss']}/fp32-adamw/stage3-ranks4/loss", check_losses, config, recorded, MSE_LOSS if loss == "mse" else FP32_LOSS)


for model in MODELS_WITH_CURVES:
    register(model, "reference.json", "batch.safetensors")
for loss in ("mse", "bce"):
    register("mlp-tiny", f"reference-{loss}.json", f"batch-{loss}.safetensors")


def check_same_graph(a, b):
    """Two exports of one model train alike: the same operations in another spelling, so within rounding of one another."""
    error = worst(train(a).losses, train(b).losses)
    assert error <= FP32_LOSS, f"losses of {a.model} and {b.model} differ by {error:.3g} relative"


for a, b in (("gpt2-tiny-ts", "gpt2-tiny"), ("llama-tiny-raw", "llama-tiny"), ("llama-tiny-op23", "llama-tiny")):
    recorded = reference(a)["runs"]["fp32-adamw"]
    add(f"I8/{a}-as-{b}", check_same_graph, configuration(a, recorded, "cross_entropy", "batch.safetensors"), configuration(b, recorded, "cross_entropy", "batch.safetensors"))
