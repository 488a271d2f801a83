#!/usr/bin/env python3
"""Small architectures of many families through three exporters, five steps in zopt and in PyTorch: the table of docs/Models.md.

    scripts/zoo.py                            all of them
    scripts/zoo.py gpt2 'vit.*'               those whose whole name matches one of these regular expressions
    scripts/zoo.py --exporters zopt,dynamo    of zopt (zopt-export), dynamo and script (torch.onnx.export, dynamo=True and False)
    scripts/zoo.py --write docs/Models.md     puts the table into the page

Needs torch, torchvision, transformers, timm, onnx, onnxscript, safetensors, and zopt and zrun of build/release (or ZOPT_BIN); in an environment without torch it makes one of its own under build/zoo.
Both sides: fp32, the same batches of 4, AdamW, rate 1e-3, decay 0.01, no dropout. zopt-export gets the weights as constructors leave them; for the plain exporters, which merge equal tensors and drop zeros, vectors, tensors of one value, and those of which there are two, are perturbed first.
A cell is `first / last`: the difference of the losses of step 1 and the largest of 5 steps, or why there is none. Where fp32 differs, both sides are run in float64
too: `f64 first / last (c), fp32 a (b)`. The row is right if step 1 agrees, every gradient with it as step 2 tells, and step 5 unless PyTorch in float64 moves as much (c, the largest of 8 runs) when the samples of a batch are
put into another order or the weights' last bits change, which is nothing but rounding; if zopt's fp32 is as near to its float64 (a, largest of 5 steps) as PyTorch's in either order is to PyTorch's (b), within a factor of 3 in
the geometric mean of the steps; and, of zopt-export, if every parameter's gradient at PyTorch's own weights before the last step agrees (`gradients`), where no earlier step's rounding has grown.
"""
import argparse
import contextlib
import copy
import io
import json
import math
import multiprocessing
import os
import re
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(os.environ.get("ZOPT_BIN", ROOT / "build" / "release" / "bin"))
PACKAGES = ["torch>=2.9", "torchvision", "transformers>=5", "timm", "onnx>=1.18", "onnxscript>=0.5", "onnxruntime", "safetensors"]
STEPS, BATCH = 5, 4
FIRST, LAST = 2e-6, 1e-5  # what counts as the same, relative to the loss where that is above 1
FIRST_64, LAST_64, FACTOR = 1e-9, 1e-6, 3  # the same in float64, and how many times what rounding does to PyTorch it may do to zopt
GRADIENT_64 = 1e-8  # the same, of each parameter's gradient at equal weights, relative to its norm and a millionth of that of all
PERTURBED = 7  # runs of PyTorch with other last bits, beside that in another order
EXPORTERS = ("zopt", "dynamo", "script")


def enter_environment():
    try:
        import torch, torchvision, transformers, timm, onnxscript, onnxruntime  # noqa: F401
    except ImportError:
        environment = ROOT / "build" / "zoo"
        if Path(sys.prefix) == environment:
            raise
        if not (environment / "bin" / "python").exists():
            subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run([str(environment / "bin" / "python"), "-m", "pip", "install", "-q", *PACKAGES], check=True)
        os.execv(str(environment / "bin" / "python"), [str(environment / "bin" / "python"), *sys.argv])


def first_output(result, row):
    import torch
    if isinstance(result, torch.Tensor):
        return result
    if hasattr(result, "keys"):
        for key in row.outputs or [k for k in result.keys() if "logits" in k] or list(result.keys()):
            return result[key]
    return result[0]


def call(row, batch):
    import inspect
    fixed = {"use_cache": False} if "use_cache" in inspect.signature(row.module.forward).parameters else {}
    return first_output(row.module(**batch, **fixed), row)


def reorder(row):
    """The samples of each batch from the last to the first."""
    order = [step * BATCH + i for step in range(STEPS) for i in reversed(range(BATCH))]
    row.inputs = {n: t[order] for n, t in row.inputs.items()}
    row.labels = row.labels if row.pairs else row.labels[order]
    return row


def perturb(row, seed):
    """The module in float64, each weight moved by one unit of its last place, up, down or not at all."""
    import torch
    generator = torch.Generator().manual_seed(seed)
    row.module.double()
    with torch.no_grad():
        for p in row.module.parameters():
            p.mul_(1 + (torch.randint(3, p.shape, generator=generator) - 1).double() * 2.0 ** -52)
    return row


def convert(row, dtype):
    """Module and data in another type; epsilons, and a hard sigmoid's 1/6, as attributes in ONNX, which are fp32."""
    import torch
    sixth = torch.tensor(1 / 6).item()
    row.module.to(dtype)
    for module in row.module.modules():
        if isinstance(getattr(module, "eps", None), float):
            module.eps = torch.tensor(module.eps).item()
        if isinstance(module, torch.nn.Hardsigmoid):
            module.forward = lambda x: (x * sixth + 0.5).clamp(0, 1)
    row.inputs = {n: t.to(dtype) if t.is_floating_point() else t for n, t in row.inputs.items()}
    row.labels = row.labels.to(dtype) if row.labels.is_floating_point() else row.labels
    return row


def loss_of(row, rows):
    from torch.nn import functional
    y, labels = call(row, {n: t[rows] for n, t in row.inputs.items()}), row.labels[rows]
    if row.loss == "cross_entropy":
        return functional.cross_entropy(y.movedim(row.class_axis, -1).flatten(0, -2), labels.flatten())
    return {"mse": functional.mse_loss, "l1": functional.l1_loss, "bce_with_logits": functional.binary_cross_entropy_with_logits}[row.loss](y, labels)


def train_here(row, dtype=None, steps=STEPS):
    """PyTorch's losses, and how many numbers it trained. dtype: what it computes in, where that is not the module's own."""
    import torch
    losses = []
    if dtype:
        convert(row, dtype)
    optimizer = torch.optim.AdamW(row.module.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    row.module.train()
    for step in range(steps):
        loss = loss_of(row, slice(step * BATCH, (step + 1) * BATCH))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, sum(p.numel() for p in row.module.parameters() if p.grad is not None)


def one_line(error):
    lines = [l.strip() for l in re.sub(r"\x1b\[\d+m", "", str(error)).splitlines() if l.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def write_model(row, exporter, file):
    import torch
    sys.path.insert(0, str(ROOT / "python"))
    import zopt_export
    from zopt_export import exporter as parts
    example = {n: t[:BATCH] for n, t in row.inputs.items()}
    if exporter == "zopt":
        return zopt_export.export(row.module, example, file, outputs=row.outputs).notes
    norms = has_batch_norms(row.module)
    row.module.train(norms)  # in evaluation mode, or optimized, the exporters fold batch norms into convolutions
    state = copy.deepcopy(row.module.state_dict())  # with its versions, which MNASNet reads
    with torch.no_grad():
        names, pick = parts.choose_outputs(parts_result(row, example), row.outputs)
    with parts.forward_of(row.module, example, pick), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            torch.onnx.export(row.module, (), str(file), kwargs=example, dynamo=True, external_data=False, verbose=False, optimize=not norms, input_names=list(example), output_names=names,
                              dynamic_shapes={n: {0: torch.export.Dim("batch")} for n in example})
        else:
            torch.onnx.export(row.module, tuple(example.values()), str(file), dynamo=False, input_names=list(example), output_names=names, opset_version=17,
                              dynamic_axes={n: {0: "batch"} for n in [*example, *names]}, **({"training": torch.onnx.TrainingMode.TRAINING} if norms else {}))
    row.module.load_state_dict(state)  # running averages moved
    return []


def has_batch_norms(module):
    import torch
    return any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in module.modules())


def parts_result(row, example):
    import inspect
    fixed = {"use_cache": False} if "use_cache" in inspect.signature(row.module.forward).parameters else {}
    return row.module(**example, **fixed)


def run_tool(name, folder, *arguments, said=None):
    """Why it failed, or nothing. said: gets its messages."""
    try:
        done = subprocess.run([str(BIN / name), *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=240)
    except subprocess.TimeoutExpired:
        return f"{name}: ran longer than 240 s"
    if said is not None:
        said.append(done.stderr)
    if done.returncode == 0:
        return ""
    found = {}
    for line in done.stderr.splitlines():
        if "error" in line:
            what = line.split("error: ", 1)[-1]
            operator = re.match(r"operator '(\w+)' is not supported(; also (.*?)(?: and (\d+) more)?)?$", what)
            nodes = [line.split(": error")[0].rpartition(":")[2]]
            if operator and operator.group(3):
                nodes += operator.group(3).split(", ") + ["more"] * int(operator.group(4) or 0)
            found.setdefault(f"operator {operator.group(1)}" if operator else what, []).extend(nodes)
    if not found:
        return f"{name}: exit {done.returncode}: {done.stderr.strip()[-200:]}"
    operators = [f"{w.removeprefix('operator ')} ({n[0]}{f' and {len(n) - 1} more' if len(n) > 1 else ''})" for w, n in found.items() if w.startswith("operator ")]
    others = [f"{n[0]}: {w}" for w, n in found.items() if not w.startswith("operator ")]
    return f"{name}: " + "; ".join((["no operator " + ", ".join(operators)] if operators else []) + others[:3])


def build(make, exporter):
    """The same row whenever it is built."""
    import torch
    torch.manual_seed(0)
    row = make()
    if exporter != "zopt":
        seen = set()
        with torch.no_grad():
            for p in row.module.parameters():
                values = p.numpy().tobytes()
                if p.requires_grad and (p.ndim <= 1 or values in seen or bool((p == p.flatten()[0]).all())):
                    p.add_(torch.randn_like(p) * 0.02)
                seen.add(values)
    return row


def train_in_zopt(row, folder, flags, result, extra=()):
    """zopt's losses, or (status, why) of what refused. Says in `result` how many numbers train."""
    why = run_tool("zopt", folder, "model.onnx", "-o", "plan.mlir", f"--micro-batch={BATCH}", f"--loss={row.loss}", f"--class-axis={row.class_axis}", "--lr=1e-3", *flags, *row.flags, *extra, said=(said := []))
    trains = re.search(r"parameters train \(([\d,]+) elements\)", said[0]) if said else None
    result["trains"] = int(trains.group(1).replace(",", "")) if trains else None
    if said and "--tie-weights trains them as one parameter" in said[0]:
        flags.append("--tie-weights")  # as it says
        return train_in_zopt(row, folder, flags, result, extra)
    result["slice"] = bool(said) and "perhaps only a part of it" in said[0]
    if why:
        return "zopt", why
    why = run_tool("zrun", folder, "plan.mlir", "--data", "data.safetensors", "--steps", STEPS, "--metrics", "run.jsonl", "--target", "cpu", "--threads", 1)
    if why:
        return "zrun", why
    losses = [float(e["loss"]) for e in map(json.loads, (folder / "run.jsonl").read_text().splitlines()) if e["event"] == "step"]
    (folder / "run.jsonl").unlink()
    return losses


def gradients_at_the_end(row, folder):
    """How far zopt's gradients of the last batch, in float64 at PyTorch's weights before it, are from PyTorch's: the largest of all parameters. Or why there are none. The row is zopt-export's, whose names are the module's."""
    import torch
    from safetensors.torch import load_file, save_file
    train_here(row, torch.float64, STEPS - 1)
    rows = slice((STEPS - 1) * BATCH, STEPS * BATCH)
    save_file({n: t.clone() for n, t in row.module.state_dict().items() if t.is_floating_point()}, str(folder / "weights.safetensors"))
    save_file({**{n: t[rows].clone() for n, t in row.inputs.items()}, "labels": row.labels[rows].clone()}, str(folder / "batch.safetensors"))
    row.module.zero_grad()
    loss_of(row, rows).backward()
    why = run_tool("zopt", folder, "model.onnx", "-o", "gradient.mlir", "--mode=gradient", "--fp64", f"--micro-batch={BATCH}", f"--loss={row.loss}", f"--class-axis={row.class_axis}", *row.flags)
    why = why or run_tool("zrun", folder, "gradient.mlir", "--data", "batch.safetensors", "--weights", "weights.safetensors", "--allow-change=model", "--steps", 1, "--gradients-out", "gradients.safetensors",
                          "--target", "cpu", "--threads", 1)
    if why:
        return why
    ours, theirs = load_file(str(folder / "gradients.safetensors")), {n: p.grad for n, p in row.module.named_parameters() if p.grad is not None}
    if missing := sorted(theirs.keys() - ours.keys()):
        return f"no gradient of {missing[0]}"
    whole = math.sqrt(sum(float(g.norm()) ** 2 for g in theirs.values()))
    for name in ("gradient.mlir", "weights.safetensors", "batch.safetensors", "gradients.safetensors"):
        (folder / name).unlink()
    return max(float((ours[n].reshape(g.shape) - g).norm()) / (float(g.norm()) + 1e-6 * whole) for n, g in theirs.items())


def run_exporter(name, make, exporter, folder, reuse):
    """{"status": ok | export | zopt | zrun | differs, ...}. reuse: a model that an earlier run exported, with PyTorch's losses, is taken as it is."""
    import torch
    from safetensors.torch import save_file
    folder.mkdir(parents=True, exist_ok=True)
    row = build(make, exporter)
    kept = folder / "exported.json"
    result = json.loads(kept.read_text()) if reuse and kept.exists() else {}
    if "trained" not in result:
        result = {"parameters": sum(p.numel() for p in row.module.parameters()), "notes": []}
        begin = time.monotonic()
        try:
            result["notes"] = write_model(row, exporter, folder / "model.onnx")
        except Exception as error:
            return {**result, "status": "export", "why": one_line(error)}
        result["export_s"] = round(time.monotonic() - begin, 1)
        save_file({**{n: t.contiguous() for n, t in row.inputs.items()}, "labels": row.labels}, str(folder / "data.safetensors"))
        result["reference"], result["trained"] = train_here(row)
        kept.write_text(json.dumps(result))
    reference = result["reference"]
    flags = ["--training-mode=train"] if has_batch_norms(row.module) and exporter != "zopt" else []
    losses = train_in_zopt(row, folder, flags, result)
    if isinstance(losses, tuple):
        return {**result, "status": losses[0], "why": losses[1]}
    result.update(losses=losses, first=distance(losses[:1], reference), last=distance(losses, reference))
    if not is_same(result):
        try:
            exact, again = (train_here(change(build(make, exporter)), torch.float64)[0] for change in (lambda row: row, reorder))
            other = train_here(reorder(build(make, exporter)))[0]
        except Exception as error:  # a module that casts to fp32 on its way
            return {**result, "status": "differs", "why": f"PyTorch in float64: {one_line(error)}"}
        ours = train_in_zopt(row, folder, flags, result, ["--fp64"])
        if isinstance(ours, tuple):
            return {**result, "status": "differs", "why": f"in float64: {ours[1]}"}
        result.update(first64=distance(ours[:1], exact), second64=distance(ours[:2], exact), last64=distance(ours, exact), again64=distance(again, exact), ours32=distance(losses, ours),
                      theirs32=max(distance(reference, exact), distance(other, exact)))
        if result["last64"] > LAST_64:
            for seed in range(PERTURBED):
                result["again64"] = max(result["again64"], distance(train_here(perturb(build(make, exporter), seed), torch.float64)[0], exact))
            if exporter == "zopt":
                gradients = gradients_at_the_end(build(make, exporter), folder)
                if isinstance(gradients, str):
                    return {**result, "status": "differs", "why": f"gradients in float64: {gradients}"}
                result["gradients64"] = gradients
        ratios = [(abs(a - b) + 1e-8) / (max(abs(c - e), abs(d - e)) + 1e-8) for a, b, c, d, e in zip(losses, ours, reference, other, exact)]
        result["factor"] = math.prod(ratios) ** (1 / STEPS)
    return {**result, "status": "ok" if is_same(result) else "differs"}


def distance(losses, reference):
    """The largest difference, relative to the first loss where that is above 1."""
    return max(abs(a - b) for a, b in zip(losses, reference)) / max(1.0, abs(reference[0]))


def is_same(result):
    """Whether it trained as PyTorch did, in fp32 or else in float64; a NaN is not the same."""
    if len(result["losses"]) != STEPS or not (result.get("trains") == result.get("trained") or result.get("slice") and result["trains"] < result["trained"]):
        return False
    return result["first"] <= FIRST and result["last"] <= LAST or same_in_64(result)


def same_in_64(result):
    return ("first64" in result and result["first64"] <= FIRST_64 and result["second64"] <= LAST_64 and result["last64"] <= max(LAST_64, FACTOR * result["again64"])
            and result.get("gradients64", 0) <= GRADIENT_64 and result.get("factor", result["ours32"] / result["theirs32"]) <= FACTOR)


def run_row(name, exporters, work, reuse):
    """One architecture, in its own process and folder. Results of other exporters, of earlier runs, stay."""
    import torch
    torch.set_num_threads(1)
    from zoo_models import MODELS
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers
    transformers.logging.set_verbosity_error()
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / "log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for exporter in exporters:
        try:
            result = run_exporter(name, MODELS[name][1], exporter, folder / exporter, reuse)
        except Exception as error:
            traceback.print_exc()
            result = {"status": "failed", "why": one_line(error)}
        (folder / f"{exporter}.json").write_text(json.dumps(result))


def cell(result):
    if result is None:
        return "not run"
    if result["status"] in ("ok", "differs"):
        result["status"] = "ok" if is_same(result) else "differs"
        others = f", trains {result['trains']:,} of {result['trained']:,}" if result.get("trains") and result["trains"] != result.get("trained", result["trains"]) else ""
        mark = "" if result["status"] == "ok" else "**differs** "
        if "first64" in result:
            gradients = f", gradients {result['gradients64']:.0e}" if "gradients64" in result else ""
            return f"{mark}f64 {result['first64']:.0e} / {result['last64']:.0e} ({result['again64']:.0e}){gradients}, fp32 {result['ours32']:.0e} ({result['theirs32']:.0e}){others}"
        return f"{mark}{result['first']:.0e} / {result['last']:.0e}{others}"
    return {"export": "not exported", "zopt": "refused", "zrun": "refused", "failed": "not run"}[result["status"]]


def cells_of(page):
    """What a page's table and list of reasons say: {model: its row's cells}, {(model, exporter): reason}."""
    _, _, part = page.partition("<!-- zoo -->\n")
    lines = part.partition("<!-- /zoo -->")[0].splitlines()
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    reasons = [re.match(r"- ([\w-]+), (\w+): ", line) for line in lines]
    return {row[1]: row for row in rows}, {(r.group(1), r.group(2)): r.string for r in reasons if r}


def table(names, work, page=""):
    """page: has what this work folder has no result of."""
    from zoo_models import MODELS
    known, known_reasons = cells_of(page)
    lines = ["| family | model | parameters | zopt-export | dynamo | TorchScript |", "|---|---|---|---|---|---|"]
    reasons = []
    for name in names:
        results = {e: json.loads(f.read_text()) if (f := work / name / f"{e}.json").exists() else None for e in EXPORTERS}
        if not any(results.values()) and name not in known:
            continue
        old = dict(zip(EXPORTERS, known[name][3:])) if name in known else {}
        count = next((f"{r['parameters']:,}" for r in results.values() if r and "parameters" in r), known[name][2] if name in known else "0")
        lines.append(f"| {MODELS[name][0]} | {name} | {count} | " + " | ".join(cell(r) if r else old.get(e, "not run") for e, r in results.items()) + " |")
        reasons += [f"- {name}, {e}: {r['why']}" if r else known_reasons[name, e] for e, r in results.items() if (r and "why" in r) or (not r and (name, e) in known_reasons)]
    return lines, reasons


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--exporters", default="zopt,dynamo,script", type=lambda s: s.split(","))
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "zoo-work", help="a folder for each model (build/zoo-work)")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--timeout", type=int, default=600, help="seconds a model")
    parser.add_argument("--reuse", action="store_true", help="take the models that earlier runs exported, for a sweep of another zopt")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--table-only", action="store_true", help="print what earlier runs found")
    parser.add_argument("--write", type=Path, help="a page whose part between <!-- zoo --> and <!-- /zoo --> becomes the table; what was not run here stays as the page has it")
    options = parser.parse_args()
    unknown = [e for e in options.exporters if e not in EXPORTERS]
    if unknown:
        parser.error(f"no exporter '{unknown[0]}'; there are {', '.join(EXPORTERS)}")
    if not options.table_only:
        enter_environment()
    sys.path.insert(0, str(ROOT / "scripts"))
    from zoo_models import MODELS
    names = [n for n in MODELS if not options.names or any(re.fullmatch(p, n) for p in options.names)]
    if not names:
        parser.error(f"no model matches {' '.join(options.names)}")
    if options.list:
        print("\n".join(names))
        return 0
    if not options.table_only:
        import transformers, timm, torchvision, onnxruntime, onnxscript  # noqa: F401 - once, before the forks
        context = multiprocessing.get_context("fork")
        waiting, running = list(names), {}
        while waiting or running:
            while waiting and len(running) < options.jobs:
                name = waiting.pop(0)
                process = context.Process(target=run_row, args=(name, options.exporters, options.work, options.reuse))
                process.start()
                running[name] = (process, time.monotonic())
            for name, (process, begin) in list(running.items()):
                process.join(0.2)
                if process.is_alive() and time.monotonic() - begin > options.timeout:
                    process.kill()
                    process.join()
                if not process.is_alive():
                    del running[name]
                    if process.exitcode:
                        for e in options.exporters:
                            file = options.work / name / f"{e}.json"
                            if not file.exists() or file.stat().st_mtime < time.time() - (time.monotonic() - begin):
                                file.write_text(json.dumps({"status": "failed", "why": f"its process ended with {process.exitcode}"}))
                    found = {e: json.loads((options.work / name / f"{e}.json").read_text()) for e in options.exporters}
                    print(f"{name:18}" + "  ".join(f"{e}: {cell(r)}{' (' + r['why'] + ')' if 'why' in r else ''}" for e, r in found.items()), flush=True)
    lines, reasons = table(names, options.work)
    if options.write:
        text = options.write.read_text()
        lines, reasons = table(list(MODELS), options.work, text)
        before, _, rest = text.partition("<!-- zoo -->\n")
        _, _, after = rest.partition("<!-- /zoo -->\n")
        options.write.write_text(before + "<!-- zoo -->\n" + "\n".join(lines) + "\n\n" + "\n".join(reasons) + "\n<!-- /zoo -->\n" + after)
    elif options.table_only:
        print("\n".join(lines + [""] + reasons))
    found = [json.loads(f.read_text()) for f in (options.work / n / f"{e}.json" for n in names for e in options.exporters) if f.exists()]
    results = [("ok" if is_same(r) else "differs") if "losses" in r else r["status"] for r in found]
    print(f"{results.count('ok')} of {len(results)} train as PyTorch does; {results.count('differs')} differ, {results.count('zopt') + results.count('zrun')} are refused, {results.count('export')} are not exported, {results.count('failed')} failed")
    return 0 if all(r == "ok" for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
