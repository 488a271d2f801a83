#!/usr/bin/env python3
"""Puts LoRA adapters beside weights of an ONNX model: x W becomes x W + (alpha / rank) (x A) B, with A drawn at random and B = 0, so that the model computes what it did.

    scripts/add-lora.py MODEL.onnx -o LORA.onnx [--target REGEX] [--rank 16] [--alpha 32] [--seed 0]
    zopt LORA.onnx --train-only '.*\\.lora_[AB]' -o plan.mlir

A weight is a matrix that MatMul takes as its second operand, itself or through Transpose. Its adapters are called WEIGHT.lora_A [in, rank] and WEIGHT.lora_B [rank, out]. Weights in external files stay there
and are not read: write LORA.onnx into the folder of MODEL.onnx where they are to be found. Needs the packages onnx and numpy."""
import argparse
import re
import sys

import numpy as np
import onnx
from onnx import helper, numpy_helper


def add_lora(model, target, rank, alpha, seed):
    """Changes `model`; returns the names of the weights that got adapters."""
    graph = model.graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    turned = {node.output[0]: node.input[0] for node in graph.node
              if node.op_type == "Transpose" and node.input[0] in shapes and (not node.attribute or list(node.attribute[0].ints) == [1, 0])}
    random = np.random.default_rng(seed)
    nodes, adapted = [], []
    for node in graph.node:
        nodes.append(node)
        if node.op_type != "MatMul":
            continue
        weight = turned.get(node.input[1], node.input[1])
        shape = shapes.get(weight, [])
        if len(shape) != 2 or not re.fullmatch(target, weight):
            continue
        if weight in adapted:
            raise SystemExit(f"add-lora: error: two products read '{weight}': leave it out with --target")
        size_in, size_out = reversed(shape) if weight != node.input[1] else shape
        a, b, scale = f"{weight}.lora_A", f"{weight}.lora_B", f"{weight}.lora_scale"
        graph.initializer.append(numpy_helper.from_array((random.standard_normal((size_in, rank)) / np.sqrt(size_in)).astype(np.float32), a))
        graph.initializer.append(numpy_helper.from_array(np.zeros((rank, size_out), np.float32), b))
        graph.initializer.append(numpy_helper.from_array(np.float32(alpha / rank), scale))
        x, y = node.input[0], node.output[0]
        node.output[0] = f"{y}.frozen"
        nodes += [helper.make_node("MatMul", [x, a], [f"{y}.lora_down"], f"{a}/MatMul"), helper.make_node("MatMul", [f"{y}.lora_down", b], [f"{y}.lora_up"], f"{b}/MatMul"),
                  helper.make_node("Mul", [f"{y}.lora_up", scale], [f"{y}.lora"], f"{scale}/Mul"), helper.make_node("Add", [f"{y}.frozen", f"{y}.lora"], [y], f"{weight}.lora/Add")]
        adapted.append(weight)
    del graph.node[:]
    graph.node.extend(nodes)
    return adapted


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--target", default=r".*\.(q|v)_proj\.weight", help="weights that get adapters (the queries' and values' of transformers' Llama)")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--alpha", type=float, default=32)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = onnx.load(options.model, load_external_data=False)
    adapted = add_lora(model, options.target, options.rank, options.alpha, options.seed)
    if not adapted:
        sys.exit(f"add-lora: error: no weight of {options.model} that a MatMul reads matches '{options.target}'")
    onnx.save(model, options.output)
    print(f"{len(adapted)} weights got adapters of rank {options.rank}")


if __name__ == "__main__":
    main()
