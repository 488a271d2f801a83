#!/usr/bin/env python3
"""Writes the node tests of the installed `onnx` package (its newest opset) into a folder, as test/Execution/node_tests.py reads them.

    pip install onnx && scripts/onnx-node-cases.py FOLDER && test/Execution/node_tests.py FOLDER

A case is a folder with model.onnx, test_data_set_0/{input,output}_N.pb, and tolerance.txt where the suite's own tolerances for it are not rtol 1e-3 and atol 1e-7.
"""
import sys
import warnings
from pathlib import Path

from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases


def serialize(value, info):
    if info.type.HasField("sequence_type"):
        return numpy_helper.from_list(value, info.name).SerializeToString()
    if info.type.HasField("optional_type"):
        return numpy_helper.from_optional(value, info.name).SerializeToString()
    return (value if isinstance(value, TensorProto) else numpy_helper.from_array(value, info.name)).SerializeToString()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    warnings.simplefilter("ignore")
    cases = collect_testcases(None)
    for case in cases:
        folder = Path(sys.argv[1]) / case.name
        data = folder / "test_data_set_0"
        data.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(case.model.SerializeToString())
        inputs, outputs = case.data_sets[0]
        for kind, values, infos in (("input", inputs, case.model.graph.input), ("output", outputs, case.model.graph.output)):
            for i, value in enumerate(values):
                (data / f"{kind}_{i}.pb").write_bytes(serialize(value, infos[i]))
        if (case.rtol, case.atol) != (1e-3, 1e-7):
            (folder / "tolerance.txt").write_text(f"{case.rtol} {case.atol}\n")
    print(f"{len(cases)} cases in {sys.argv[1]}")


if __name__ == "__main__":
    main()
