"""zopt-export: see the package."""
import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path

from .errors import ExportError


def parse_arguments(arguments):
    from .sources import TASKS
    parser = argparse.ArgumentParser(prog="zopt-export", description="Exports a PyTorch model to an ONNX file that trains as the model does.")
    parser.add_argument("factory", nargs="?", help="package.module:function that makes the module, or (module, {input: example}); torchvision.models:resnet18, timm.models:vit_tiny_patch16_224")
    parser.add_argument("--hf", type=Path, metavar="DIR|CONFIG.json", help="a transformers checkpoint, whose safetensors files the model will refer to, or a config, with random weights")
    parser.add_argument("-o", "--output", type=Path, help="the .onnx file (with a checkpoint: in its folder, model.onnx)")
    parser.add_argument("--task", choices=sorted(TASKS), help="the head (the config's architecture)")
    parser.add_argument("--arg", action="append", default=[], metavar="KEY=VALUE", help="an argument of the factory, as JSON or text")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=2x3x32x32[:TYPE]", help="an input by name of forward's argument, batch first (those that the model's config tells)")
    parser.add_argument("--outputs", type=lambda s: s.split(","), help="outputs by name (logits, or the first tensor)")
    parser.add_argument("--batch", type=int, default=2, help="batch of the example inputs (2)")
    parser.add_argument("--seq", type=int, default=64, help="length of the example inputs (64)")
    parser.add_argument("--dynamic", nargs="?", const="seq", metavar="NAME", help="keep the length of token inputs dynamic too, as a dimension of this name (seq); the batch always is")
    parser.add_argument("--static", action="store_true", help="keep the batch as it is in the example")
    parser.add_argument("--eval", action="store_true", help="Dropout and BatchNormalization in inference mode")
    parser.add_argument("--attention", choices=("eager", "sdpa"), help="transformers' implementation of attention (its default)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float16", "bfloat16"), help="of a config's random weights (float32)")
    parser.add_argument("--seed", type=int, default=0, help="of random weights (0)")
    parser.add_argument("--opset", type=int, default=20)
    parser.add_argument("--check", action=argparse.BooleanOptionalAction, help="compare the outputs with PyTorch's (where the weights have at most 1 GiB and are no halves)")
    options = parser.parse_args(arguments)
    if bool(options.factory) == bool(options.hf):
        parser.error("give a factory or --hf")
    if options.output is None:
        if options.hf is None or not options.hf.is_dir():
            parser.error("give -o FILE")
        options.output = options.hf / "model.onnx"
    return options


def parse_value(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


def run(options):
    import torch
    from . import sources
    from .exporter import export
    stored, inputs = None, None
    if options.hf is not None and options.hf.is_dir():
        module, stored = sources.from_checkpoint(options.hf, options.task, options.attention)
    elif options.hf is not None:
        module = sources.from_config(options.hf, options.task, getattr(torch, options.dtype), options.attention, options.seed)
    else:
        torch.manual_seed(options.seed)
        module, inputs = sources.from_factory(options.factory, {key: parse_value(value) for key, _, value in (a.partition("=") for a in options.arg)})
    if options.input:
        inputs = dict(sources.parse_input(text) for text in options.input)
    inputs = inputs or sources.example_inputs(module, options.batch, options.seq)
    dynamic = {name: {} if options.static else {0: "batch"} for name in inputs}
    if options.dynamic:
        for name, example in inputs.items():
            if example.dim() > 1 and not example.is_floating_point():
                dynamic[name][1] = options.dynamic if not name.startswith("decoder_") else "decoder_" + options.dynamic
    return export(module, inputs, options.output, dynamic=dynamic, train=not options.eval, opset=options.opset, outputs=options.outputs, stored=stored, check=options.check)


def main(arguments=None):
    options = parse_arguments(arguments)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # what is not on this machine is not asked for
    logging.getLogger("transformers").setLevel(logging.ERROR)
    begin = time.monotonic()
    try:
        report = run(options)
    except ExportError as error:
        print(f"zopt-export: error: {error}", file=sys.stderr)
        return 1
    show = lambda shapes: ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in shapes.items())
    print(f"{report.path}: {show(report.inputs)} -> {show(report.outputs)}; {time.monotonic() - begin:.1f} s")
    same = "as the module has" if report.parameters == report.module_parameters else f"of the module's {report.module_parameters:,}"
    print(f"parameters: {report.parameters:,} {same}, {len(report.tied)} tied names; in training mode: {report.dropouts} Dropout, {report.norms} BatchNormalization")
    if report.difference is not None:
        print(f"outputs differ from PyTorch's by {report.difference:.1e} of the largest ({report.compared_with})")
    for note in report.notes:
        print(f"note: {note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
