"""The exported file beside the module: the same outputs in evaluation mode, for two batch sizes where the batch is dynamic."""
import inspect

import numpy as np
import torch

from .errors import ExportError

TOLERANCE = 1e-3


def in_evaluation_mode(proto):
    """A copy of the model with Dropout and BatchNormalization as they are for inference."""
    import onnx
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for node in copy.graph.node:
        if node.op_type == "Dropout":
            del node.input[1:]
            del node.output[1:]
        elif node.op_type == "BatchNormalization":
            for attribute in node.attribute:
                if attribute.name == "training_mode":
                    attribute.i = 0
            del node.output[1:]
    return copy


def runner(proto, path):
    """(name, function from a feed to outputs), by onnxruntime where it is installed."""
    import onnx
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator
        evaluator = ReferenceEvaluator(proto)
        return "onnx.reference", lambda feed: evaluator.run(None, feed)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in proto.graph.initializer):
        beside = path.with_name(path.name + ".check")
        onnx.save(proto, beside)
        try:
            session = onnxruntime.InferenceSession(str(beside), options, providers=["CPUExecutionProvider"])
        finally:
            beside.unlink()
    else:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return "onnxruntime", lambda feed: session.run(None, feed)


def compare(module, inputs, dynamic, names, pick, proto, path, report, tolerance):
    tolerance = TOLERANCE if tolerance is None else tolerance
    try:
        report.compared_with, run = runner(in_evaluation_mode(proto), path)
    except Exception as error:
        report.notes.append(f"the outputs were not compared with PyTorch's: the runtime refuses the file: {str(error).splitlines()[0][:200]}")
        return
    batches = [inputs]
    if all(0 in axes for axes in dynamic.values()) and len(dynamic) == len(inputs):
        batches.append({name: torch.cat([t, t[:1].flip(-1)]) for name, t in inputs.items()})
    report.difference = 0.0
    fixed = {"use_cache": False} if "use_cache" in inspect.signature(module.forward).parameters else {}
    for batch in batches:
        with torch.no_grad():
            expected = pick(module.eval()(**batch, **fixed))
        feed = {name: t.numpy() for name, t in batch.items() if name in report.inputs}
        try:
            found = run(feed)
        except Exception as error:
            report.difference = None
            report.notes.append(f"the outputs were not compared with PyTorch's: {report.compared_with} fails on the file: {str(error).splitlines()[0][:200]}")
            return
        for name, a, b in zip(names, expected, found):
            a = a.float().numpy().astype(np.float64)
            if a.shape != b.shape:
                raise ExportError(f"output '{name}' has the shape {list(b.shape)} in {report.compared_with}, in PyTorch {list(a.shape)}")
            if a.size == 0:
                continue
            difference = float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-6))
            report.difference = max(report.difference, difference)
            if not difference <= tolerance:
                raise ExportError(f"output '{name}' differs by {difference:.2e} of its largest value between {report.compared_with} and PyTorch (allowed {tolerance:.0e}): the exporter changed the model")
