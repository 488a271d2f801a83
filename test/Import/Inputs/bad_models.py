"""Writes models that must be refused, one a file, into a folder: bad_models.py FOLDER GOOD.onnx"""
import os
import random
import struct
import sys

from onnx_writer import *

folder, good = sys.argv[1], open(sys.argv[2], 'rb').read()
os.makedirs(folder, exist_ok=True)
X, Y = value('x', FLOAT, ['n', 4]), value('y', FLOAT, ['n', 4])
W = tensor('w', FLOAT, [4, 4], [0.5] * 16)


def write(name, data):
    save(os.path.join(folder, name + '.onnx'), data)


def simple(name, nodes, initializers=(W,), **more):
    write(name, model(graph(nodes, [X], [Y], initializers), **more))


write('empty', b'')
write('truncated', good[:len(good) // 2])
write('random', bytes(random.Random(7).randrange(256) for _ in range(4096)))
write('text', b'this is no model\n' * 50)
write('nograph', integer(1, 10) + chunk(8, integer(2, 20)))
simple('opset', [node('Relu', ['x'], ['y'])], opset=5)
simple('newer', [node('Relu', ['x'], ['y'])], opset=29)
simple('cycle', [node('Relu', ['b'], ['a']), node('Relu', ['a'], ['b']), node('Add', ['x', 'b'], ['y'])])
simple('missing', [node('Add', ['x', 'nowhere'], ['y'])])
simple('twice', [node('Relu', ['x'], ['y'], 'one'), node('Neg', ['x'], ['y'], 'two')])
# What 'm' is would change between its two readers, from a constant of two axes to a tensor of four.
simple('shadowed', [node('Shape', ['x'], ['m']), node('Unsqueeze', ['x', 'w'], ['m'], 'unsqueezed'), node('Transpose', ['m'], ['t'], perm=[1, 0]), node('Relu', ['x'], ['w'], 'weight'), node('Relu', ['x'], ['y'])],
       [tensor('w', INT64, [2], [0, 1])])
# Floats one by one, as no writer stores them: a state is read from the file.
unpacked = tensor('m', FLOAT, [4]) + b''.join(varint(4 << 3 | 5) + struct.pack('<f', i) for i in range(4))
simple('unpacked', [node('BatchNormalization', ['x', 'g', 'b', 'm', 'v'], ['y'], 'norm', training_mode=1)], [tensor(n, FLOAT, [4], [0.5, 1, 2, 3]) for n in 'gbv'] + [unpacked])
simple('nooutput', [node('Relu', ['x'], ['z'])])
simple('types', [node('Relu', ['x'], ['a']), node('Add', ['a', 'i'], ['y'], 'mixed')], [tensor('i', INT64, [4], [1, 2, 3, 4])])
simple('shapes', [node('MatMul', ['x', 'v'], ['y'], 'product')], [tensor('v', FLOAT, [3, 4], [0.5] * 12)])
simple('attribute', [node('Softmax', ['x'], ['y'], 'soft', axis=1.0)])
simple('axis', [node('Softmax', ['x'], ['y'], 'soft', axis=5)])
simple('size', [node('MatMul', ['x', 'v'], ['y'], 'product')], [tensor('v', FLOAT, [4, 4], raw=b'\0' * 60)])
simple('huge', [node('MatMul', ['x', 'v'], ['y'], 'product')], [tensor('v', FLOAT, [1 << 40, 1 << 40], raw=b'\0' * 64)])
simple('strings', [node('MatMul', ['x', 'v'], ['y'], 'product')], [tensor('v', STRING, [4, 4])])
simple('dynamic', [node('Cast', ['x'], ['s'], to=INT64), node('Reshape', ['x', 's'], ['y'], 'shaped')])
simple('reshape', [node('Reshape', ['x', 's'], ['y'], 'shaped')], [tensor('s', INT64, [2], [3, -1])])
# Every problem of a model in one run.
simple('many', [node('Frobnicate', ['x'], ['a'], 'first'), node('Frobnicate', ['a'], ['b'], 'second'), node('TfIdfVectorizer', ['x'], ['c'], 'third'), node('Foo', ['x'], ['d'], 'fourth', domain='custom'),
                node('Add', ['c', 'd'], ['y'])])
simple('two', [node('Softmax', ['x'], ['a'], 'soft', axis=5), node('MatMul', ['x', 'v'], ['b'], 'product'), node('Add', ['a', 'b'], ['y'])], [tensor('v', FLOAT, [3, 4], [0.5] * 12)])
# Functions that call themselves, and that double at every level.
call = [node('F', ['x'], ['y'], 'call', domain='local')]
simple('recursive', call, functions=[function('F', 'local', ['a'], ['b'], [node('F', ['a'], ['b'], 'again', domain='local')])])
bomb = [function(f'F{i}', 'local', ['a'], ['b'], [node(f'F{i + 1}', ['a'], ['m'], 'l', domain='local'), node(f'F{i + 1}', ['m'], ['b'], 'r', domain='local')]) for i in range(30)]
simple('bomb', [node('F0', ['x'], ['y'], 'call', domain='local')], functions=bomb + [function('F30', 'local', ['a'], ['b'], [node('Relu', ['a'], ['b'])])])
# A constant that no plan can hold: 4096 pseudo-random integers.
numbers = [pow(7, i, 10007) for i in range(1024)]

# External data.
os.makedirs(os.path.join(folder, 'inside'), exist_ok=True)
save(os.path.join(folder, 'secret.bin'), b'\0' * 64)
save(os.path.join(folder, 'inside', 'short.bin'), b'\0' * 32)
link = os.path.join(folder, 'inside', 'link.bin')
if not os.path.islink(link):
    os.symlink('../secret.bin', link)
for name, external in {
        'absolute': {'location': '/etc/passwd'},
        'parent': {'location': '../secret.bin'},
        'hidden': {'location': 'a/../../secret.bin'},
        'link': {'location': 'link.bin'},
        'short': {'location': 'short.bin', 'offset': 0, 'length': 64},
        'offset': {'location': 'short.bin', 'offset': 9223372036854775807},
        'negative': {'location': 'short.bin', 'offset': -4},
        'length': {'location': 'short.bin', 'length': 16},
        'folder': {'location': '.'},
        'nameless': {'offset': 0},
        'absent': {'location': 'absent.bin'},
}.items():
    write('inside/' + name, model(graph([node('MatMul', ['x', 'w'], ['y'])], [X], [Y], [tensor('w', FLOAT, [4, 4], external=external)])))
