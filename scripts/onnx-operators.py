#!/usr/bin/env python3
"""Writes test/Execution/onnx_operators.txt: the operators of ai.onnx in the installed `onnx` package, one a line with the opset of its newest meaning, and "function" where ONNX has a body for it.

    pip install onnx && scripts/onnx-operators.py

A test holds it against `zopt --list-ops`: an operator that is new there is imported by a row of the table of operators, or refused by name, before it is in the list.
"""
from pathlib import Path

from onnx import defs


def main():
    schemas = {schema.name: schema for schema in defs.get_all_schemas() if schema.domain == ""}
    lines = [f"{name} {s.since_version}{' function' * (s.has_function or s.has_context_dependent_function)}" for name, s in sorted(schemas.items())]
    path = Path(__file__).resolve().parent.parent / "test/Execution/onnx_operators.txt"
    path.write_text(f"opset {defs.onnx_opset_version()}\n" + "\n".join(lines) + "\n")
    print(f"{len(lines)} operators in {path}")


if __name__ == "__main__":
    main()
