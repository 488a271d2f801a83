"""Writes ONNX files in protobuf's wire format, so that tests need no onnx package.

    from onnx_writer import *
    save(path, model(graph([node('Relu', ['x'], ['y'])], [value('x', FLOAT, ['n', 4])], [value('y', FLOAT, ['n', 4])])))
"""
import struct

FLOAT, UINT8, INT32, INT64, STRING, BOOL, FLOAT16 = 1, 2, 6, 7, 8, 9, 10


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7f | 0x80)
        n >>= 7
    return bytes(out + bytes([n]))


def integer(number, n):
    return varint(number << 3) + varint(n)


def chunk(number, payload):
    payload = payload.encode() if isinstance(payload, str) else payload
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def entry(key, text):
    return chunk(1, key) + chunk(2, text)


def tensor(name, dtype, dims, values=None, raw=None, external=None):
    """values: numbers, kept as raw data; raw: bytes; external: {'location': ..., 'offset': ..., 'length': ...}"""
    form = {FLOAT: 'f', INT32: 'i', INT64: 'q', BOOL: '?', UINT8: 'B'}.get(dtype)
    if values is not None:
        raw = struct.pack(f'<{len(values)}{form}', *values)
    out = b''.join(integer(1, d) for d in dims) + integer(2, dtype) + chunk(8, name)
    if raw is not None:
        out += chunk(9, raw)
    if external is not None:
        out += b''.join(chunk(13, entry(k, str(v))) for k, v in external.items()) + integer(14, 1)
    return out


def attribute(name, a):
    out = chunk(1, name)
    if isinstance(a, float):
        return out + varint(2 << 3 | 5) + struct.pack('<f', a) + integer(20, 1)
    if isinstance(a, int):
        return out + integer(3, a) + integer(20, 2)
    if isinstance(a, str):
        return out + chunk(4, a) + integer(20, 3)
    if isinstance(a, bytes):  # a tensor
        return out + chunk(5, a) + integer(20, 4)
    if isinstance(a, list):
        return out + b''.join(integer(8, i) for i in a) + integer(20, 7)
    if isinstance(a, tuple):  # ('ref', name): a function's attribute
        return out + chunk(21, a[1]) + integer(20, 2)
    raise TypeError(a)


def node(op, inputs, outputs, name=None, domain='', **attributes):
    out = b''.join(chunk(1, i) for i in inputs) + b''.join(chunk(2, o) for o in outputs)
    out += chunk(3, name if name is not None else outputs[0]) + chunk(4, op)
    return out + b''.join(chunk(5, attribute(k, a)) for k, a in attributes.items()) + (chunk(7, domain) if domain else b'')


def value(name, dtype, dims, folded_from=None, kind=None):
    shape = b''.join(chunk(1, chunk(2, d) if isinstance(d, str) else integer(1, d)) for d in dims)
    out = chunk(1, name) + chunk(2, chunk(1, integer(1, dtype) + chunk(2, shape)))
    out += chunk(4, entry('pkg.onnxscript.optimizer.folded_from', folded_from)) if folded_from else b''
    return out + (chunk(4, entry('pkg.torch.export.graph_signature.InputSpec.kind', kind)) if kind else b'')


def graph(nodes, inputs, outputs, initializers=(), infos=()):
    return (b''.join(chunk(1, n) for n in nodes) + chunk(2, 'g') + b''.join(chunk(5, t) for t in initializers) +
            b''.join(chunk(11, i) for i in inputs) + b''.join(chunk(12, o) for o in outputs) + b''.join(chunk(13, i) for i in infos))


def function(name, domain, inputs, outputs, nodes, attributes=()):
    return (chunk(1, name) + b''.join(chunk(4, i) for i in inputs) + b''.join(chunk(5, o) for o in outputs) + b''.join(chunk(6, a) for a in attributes) +
            b''.join(chunk(7, n) for n in nodes) + chunk(10, domain))


def model(g, opset=20, functions=(), metadata=None):
    return (integer(1, 10) + chunk(8, integer(2, opset)) + chunk(7, g) + b''.join(chunk(14, entry(k, v)) for k, v in (metadata or {}).items()) +
            b''.join(chunk(25, f) for f in functions))


def save(path, data):
    with open(path, 'wb') as f:
        f.write(data)
