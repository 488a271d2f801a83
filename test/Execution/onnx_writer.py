"""Writes small ONNX models field by field, also ones that no exporter would write. Field numbers are those of onnx.proto."""
import struct

import numpy as np

FLOAT, INT64, STRING, BOOL = 1, 7, 8, 9


class Body(bytes):
    """A GraphProto, as an attribute: the body of If, Loop or Scan."""


_TYPES = {np.dtype(np.float32): FLOAT, np.dtype(np.int64): INT64, np.dtype(np.bool_): BOOL}


def _varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while True:
        out.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)


def _int(field, value):
    return _varint(field << 3) + _varint(value)


def _bytes(field, value):
    value = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def tensor(name, array=None, *, dims=None, data_type=None, raw=None, external=None):
    """A TensorProto: an array, or any dims, type and raw bytes, or external = {"location": ..., "offset": ..., "length": ...}."""
    if array is not None:
        dims, data_type, raw = array.shape, _TYPES[array.dtype], array.tobytes()
    out = b"".join(_int(1, d) for d in dims) + _int(2, data_type) + _bytes(8, name)
    if external is not None:
        return out + b"".join(_bytes(13, _bytes(1, k) + _bytes(2, str(v))) for k, v in external.items()) + _int(14, 1)
    return out + _bytes(9, raw)


def node(op, inputs, outputs, name="", domain="", **attributes):
    out = b"".join(_bytes(1, i) for i in inputs) + b"".join(_bytes(2, o) for o in outputs)
    out += _bytes(3, name or outputs[0] + "_node") + _bytes(4, op)
    for key, value in attributes.items():
        if isinstance(value, Body):
            body = _bytes(6, value) + _int(20, 5)
        elif isinstance(value, int):
            body = _int(3, value) + _int(20, 2)
        elif isinstance(value, float):
            body = _varint(2 << 3 | 5) + struct.pack("<f", value) + _int(20, 1)
        elif isinstance(value, str):
            body = _bytes(4, value) + _int(20, 3)
        elif value and isinstance(value[0], float):
            body = b"".join(_varint(7 << 3 | 5) + struct.pack("<f", v) for v in value) + _int(20, 6)
        elif value and isinstance(value[0], str):
            body = b"".join(_bytes(9, v) for v in value) + _int(20, 8)
        else:
            body = b"".join(_int(8, v) for v in value) + _int(20, 7)
        out += _bytes(5, _bytes(1, key) + body)
    return out + (_bytes(7, domain) if domain else b"")


def value(name, dims, data_type=FLOAT):
    """A ValueInfoProto; a dimension is a number or a symbol."""
    shape = b"".join(_bytes(1, _int(1, d) if isinstance(d, int) else _bytes(2, d)) for d in dims)
    return _bytes(1, name) + _bytes(2, _bytes(1, _int(1, data_type) + _bytes(2, shape)))


def body(nodes, inputs, outputs, initializers=()):
    """A GraphProto of nodes, whose inputs and outputs are ValueInfoProtos."""
    graph = b"".join(_bytes(1, n) for n in nodes) + _bytes(2, "body") + b"".join(_bytes(5, t) for t in initializers)
    return Body(graph + b"".join(_bytes(11, v) for v in inputs) + b"".join(_bytes(12, v) for v in outputs))


def model(nodes, initializers, inputs, outputs, opset=20, ir_version=10):
    graph = b"".join(_bytes(1, n) for n in nodes) + _bytes(2, "graph") + b"".join(_bytes(5, t) for t in initializers)
    graph += b"".join(_bytes(11, v) for v in inputs) + b"".join(_bytes(12, v) for v in outputs)
    return _int(1, ir_version) + _bytes(2, "zopt-test") + _bytes(7, graph) + _bytes(8, _bytes(1, "") + _int(2, opset))


def linear(rng=None, features=8, classes=4, **changes):
    """logits = x W + b: a good model, parts of which a test replaces by keyword."""
    rng = rng or np.random.default_rng(0)
    parts = dict(
        nodes=[node("Gemm", ["x", "weight", "bias"], ["logits"], "fc")],
        initializers=[tensor("weight", rng.standard_normal((features, classes)).astype(np.float32)), tensor("bias", rng.standard_normal(classes).astype(np.float32))],
        inputs=[value("x", ["batch", features])],
        outputs=[value("logits", ["batch", classes])],
    )
    parts.update(changes)
    return model(**parts)
