"""I7 on whole models: gradients of step 0 against PyTorch's float64 ones (grads0.json), and that bf16 is really bf16."""
import numpy as np

import tensors
from harness import MODELS, add, compile_plan, expected_gradients, memoize, reference, scratch, succeed

CASES = [(m, "cross_entropy", "") for m in ("gpt2-tiny", "gpt2-tiny-ts", "llama-tiny", "llama-tiny-raw", "llama-tiny-op23", "mlp-tiny")]
CASES += [("mlp-tiny", "mse", "-mse"), ("mlp-tiny", "bce_with_logits", "-bce")]


@memoize
def gradients(model, loss, suffix, precision, stage, ranks, *more):
    details = reference(model, f"reference{suffix}.json")
    micro = details["runs"]["fp32-adamw"]["global_batch"] // ranks
    flags = ["--mode=gradient", f"--loss={loss}", f"--zero-stage={stage}", f"--micro-batch={micro}", *more]
    if precision != "fp32":
        flags.append(f"--{precision}")
    if details.get("tied_copies"):
        flags.append("--tie-weights")
    plan = compile_plan(model, *flags)
    folder = scratch("gradients")
    succeed(["zrun", plan, "--nproc", ranks, "--comm=local", "--threads", 1, "--data", MODELS / model / f"batch{suffix}.safetensors", "--steps", 1,
             "--gradients-out", folder / "g.safetensors", "--metrics", folder / "metrics.jsonl"])
    return tensors.load(folder / "g.safetensors")


def total_norm(g):
    return float(np.sqrt(sum(np.sum(np.square(t.astype(np.float64))) for t in g.values())))


def check(model, loss, suffix, precision, stage, ranks, relative, absolute):
    ours, theirs = gradients(model, loss, suffix, precision, stage, ranks), expected_gradients(model, suffix)
    assert ours.keys() == theirs.keys(), f"gradients missing: {sorted(theirs.keys() - ours.keys())}, not expected: {sorted(ours.keys() - theirs.keys())}"
    whole = float(np.sqrt(sum(sketch.norm**2 for sketch in theirs.values())))
    for name, sketch in theirs.items():
        error = sketch.distance(ours[name])
        bound = relative * sketch.norm + absolute * whole
        assert error <= bound, f"gradient of '{name}' is off by {error:.3g}, more than {bound:.3g}"


for model, loss, suffix in CASES:
    for stage, ranks in ((0, 1), (3, 4)):
        add(f"I7/{model}/{loss}/fp32/stage{stage}-ranks{ranks}", check, model, loss, suffix, "fp32", stage, ranks, 1e-5, 1e-7)
    # float64 throughout; PyTorch's were stored as float32.
    add(f"I7/{model}/{loss}/fp64", check, model, loss, suffix, "fp64", 0, 1, 1e-7, 1e-9)


# fp16 has eight times bf16's precision, and a range that the loss scale keeps gradients in: within 1e-3, where bf16 is within 8e-3. In mlp-tiny an activation that rounds to the other side of ReLU's kink
# costs more in either.
for model, loss, suffix in CASES:
    add(f"I7/{model}/{loss}/fp16", check, model, loss, suffix, "fp16", 0, 1, 3e-2 if model == "mlp-tiny" else 1e-3, 1e-4)


def check_really_bf16(model):
    """bf16 gradients are near fp32's, yet differ by more than fp32 rounding could."""
    g32, g16 = gradients(model, "cross_entropy", "", "fp32", 0, 1), gradients(model, "cross_entropy", "", "bf16", 0, 1)
    distance = total_norm({n: g16[n].astype(np.float64) - g32[n] for n in g32}) / total_norm(g32)
    assert 1e-4 < distance < 5e-2, f"bf16 gradients differ from fp32's by {distance:.3g} relative, expected between 1e-4 and 5e-2"


for model in ("gpt2-tiny", "mlp-tiny", "llama-tiny"):
    add(f"I7/{model}/really-bf16", check_really_bf16, model)


def check_raising(model, bound):
    """Ops that were raised compute what the exporter's expansions do: within rounding of float64. GELU's sqrt(2 / pi) and 0.044715 are float32 numbers in a file, and are not in train.gelu."""
    raised, spelled = gradients(model, "cross_entropy", "", "fp64", 0, 1), gradients(model, "cross_entropy", "", "fp64", 0, 1, "--no-raise")
    assert raised.keys() == spelled.keys()
    whole = total_norm(raised)
    for name in raised:
        error = float(np.linalg.norm((raised[name].astype(np.float64) - spelled[name].astype(np.float64)).ravel()))
        assert error <= bound * whole, f"gradient of '{name}' moves by {error:.3g} of {whole:.3g} with --no-raise"


for model in sorted({model for model, _, _ in CASES}):
    add(f"I7/{model}/no-raise", check_raising, model, 1e-8 if model.startswith("gpt2") else 1e-11)
