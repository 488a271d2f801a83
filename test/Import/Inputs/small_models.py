"""Writes small models for FileCheck, one a file, into a folder: small_models.py FOLDER"""
import math
import os
import sys

from onnx_writer import *

folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
X = value('x', FLOAT, ['n', 4])


def write(name, nodes, outputs, initializers=(), inputs=(X,), infos=(), **more):
    save(os.path.join(folder, name + '.onnx'), model(graph(nodes, inputs, outputs, initializers, infos), **more))


def ints(name, values):
    return tensor(name, INT64, [len(values)], values)


def weight(name, dims, start=0.5):
    count = 1
    for d in dims:
        count *= d
    return tensor(name, FLOAT, dims, [start + i / 64 for i in range(count)])


# Folding: every result is known, so it is the graph's output as a literal.
def known(name, op, operands, dtype=INT64, dims=(), **attributes):
    tensors = [t if isinstance(t, bytes) else ints(f'i{i}', t) if isinstance(t, list) else tensor(f'i{i}', INT64, [], [t]) for i, t in enumerate(operands)]
    names = [f'i{i}' for i in range(len(operands))]
    write(name, [node(op, names, ['y'], **attributes)], [value('y', dtype, list(dims))], tensors)


def matrix(index, rows, dtype=INT64):
    return tensor(f'i{index}', dtype, [len(rows), len(rows[0])], [v for row in rows for v in row])


known('range', 'Range', [7, -3, -4], dims=[3])
known('cumsum', 'CumSum', [matrix(0, [[1, 2, 3], [4, 5, 6]]), 1], dims=[2, 3], exclusive=1, reverse=1)
known('slice', 'Slice', [[10, 11, 12, 13, 14], [-1], [-(1 << 63)], [0], [-2]], dims=[3])
known('gathernd', 'GatherND', [matrix(0, [[1, 2, 3], [4, 5, 6]]), matrix(1, [[1, -1], [0, 0]])], dims=[2])
known('gather', 'Gather', [matrix(0, [[1, 2, 3], [4, 5, 6]]), [2, -3]], dims=[2, 2], axis=1)
known('concat', 'Concat', [matrix(0, [[1, 2]]), matrix(1, [[3, 4]])], dims=[1, 4], axis=1)
known('transpose', 'Transpose', [matrix(0, [[1, 2, 3], [4, 5, 6]])], dims=[3, 2], perm=[1, 0])
known('tile', 'Tile', [[1, 2], [2]], dims=[4])
known('div', 'Div', [[7, -7, 7, -7], [2, 2, -2, -2]], dims=[4])
known('mod', 'Mod', [[7, -7, 7, -7], [3, 3, -3, -3]], dims=[4])
known('where', 'Where', [tensor('i0', BOOL, [3], [True, False, True]), [1, 2, 3], [4, 5, 6]], dims=[3])
known('prod', 'ReduceProd', [matrix(0, [[1, 2, 3], [4, 5, 6]]), [0]], dims=[3], keepdims=0)
known('max', 'Max', [[1, 5], [4, 2], [3, 3]], dims=[2])
known('pow', 'Pow', [[2, 3], [10, 4]], dims=[2])

# Masks that are a comparison of positions: [1, 1, 1024, 1024] and no literal; lower, upper, sliced, transposed.
def mask(name, nodes, dtype=BOOL, dims=(1, 1, 1024, 1024), initializers=()):
    base = [node('Range', ['zero', 'length', 'one'], ['p']), node('Unsqueeze', ['p', 'columns'], ['column']), node('Unsqueeze', ['p', 'rows'], ['row'])]
    write(name, base + nodes, [value('y', dtype, list(dims))],
          [tensor('zero', INT64, [], [0]), tensor('one', INT64, [], [1]), tensor('length', INT64, [], [1024]), ints('columns', [0, 1, 2]), ints('rows', [0, 1, 3]), *initializers])


mask('lower', [node('LessOrEqual', ['column', 'row'], ['y'])])
mask('strict', [node('Less', ['row', 'column'], ['y'])])
mask('swapped', [node('LessOrEqual', ['column', 'row'], ['m']), node('Transpose', ['m'], ['y'], perm=[0, 1, 3, 2])])
mask('cut', [node('LessOrEqual', ['column', 'row'], ['m']), node('Slice', ['m', 'from', 'to', 'axis'], ['y'])], dims=(1, 1, 1000, 1024), initializers=[ints('from', [24]), ints('to', [1024]), ints('axis', [2])])
# A band (sliding window) is the conjunction of two triangles: computed, never written out.
mask('band', [node('LessOrEqual', ['column', 'row'], ['m']), node('Sub', ['row', 'window'], ['edge']), node('Greater', ['column', 'edge'], ['w']), node('And', ['m', 'w'], ['y'])],
     initializers=[tensor('window', INT64, [], [128])])

# Functions, with attributes that refer to the call's, called twice and from another function.
inner = function('Scaled', 'local', ['a', 'b'], ['c'], [node('Softmax', ['a'], ['t'], 'soft', axis=('ref', 'dim')), node('Mul', ['t', 'b'], ['c'], 'mul')], attributes=['dim'])
outer = function('Twice', 'local', ['a', 'b'], ['c'], [node('Scaled', ['a', 'b'], ['t'], 'first', domain='local', dim=1), node('Scaled', ['t', 'b'], ['c'], 'second', domain='local', dim=0)])
write('functions', [node('Twice', ['x', 'w'], ['y'], 'call', domain='local')], [value('y', FLOAT, ['n', 4])], [weight('w', [4])], functions=[inner, outer])

# What trains: weights by use; not frequencies, scalars, masks, states of zeros, or what nothing uses.
write('parameters',
      [node('MatMul', ['x', 'w'], ['a']), node('Add', ['a', 'bias'], ['b']), node('LayerNormalization', ['b', 'scale', 'shift'], ['c'], axis=-1),
       node('Mul', ['c', 'half'], ['d']), node('Mul', ['x', 'inv_freq'], ['e']), node('Sin', ['e'], ['f']), node('Add', ['d', 'f'], ['g']),
       node('Add', ['g', 'mask'], ['h']), node('Concat', ['h', 'state'], ['i'], axis=1), node('Transpose', ['u'], ['ut'], perm=[1, 0]), node('MatMul', ['i', 'ut'], ['y'])],
      [value('y', FLOAT, ['n', 2])],
      [weight('w', [4, 4]), weight('bias', [4]), weight('scale', [4]), weight('shift', [4]), tensor('half', FLOAT, [], [0.5]), weight('inv_freq', [4]),
       tensor('mask', FLOAT, [1, 4], [0, 0, -1e9, -1e9]), tensor('state', FLOAT, [1, 3], [0, 0, 0]), weight('u', [2, 7]), weight('unused', [5]), ints('integers', [1])],
      infos=[value('w', FLOAT, [4, 4], folded_from="['layer.weight']")])

# Exporters' merges: one scale for two norms; a table folded to its slice.
write('merged',
      [node('LayerNormalization', ['x', 'scale', 'shift'], ['a'], axis=-1), node('LayerNormalization', ['a', 'scale', 'other'], ['b'], axis=-1), node('Unsqueeze', ['b', 'zero'], ['c']), node('Add', ['c', 'embedding_1'], ['y'])],
      [value('y', FLOAT, [1, 'n', 4])], [weight('scale', [4]), weight('shift', [4]), weight('other', [4]), weight('embedding_1', [1, 2, 4]), ints('zero', [0])],
      infos=[value('embedding_1', FLOAT, [1, 2, 4], folded_from="['arange', 'positions.ids', 'wpe.weight', 'val_3']")])

# Equal content, transposed.
rows = [[i * 4 + j + 1 for j in range(4)] for i in range(6)]
write('tied', [node('Gather', ['table', 'ids'], ['e'], axis=0), node('MatMul', ['e', 'head'], ['y'])], [value('y', FLOAT, ['n', 3, 6])],
      [tensor('table', FLOAT, [6, 4], [v for row in rows for v in row]), tensor('head', FLOAT, [4, 6], [rows[j][i] for i in range(4) for j in range(6)])], inputs=(value('ids', INT64, ['n', 3]),))

# Dimensions: expressions, and a batch that is static.
write('dimensions', [node('Concat', ['x', 'z'], ['y'], axis=1)], [value('y', FLOAT, ['batch', '2*seq + 1'])], inputs=(value('x', FLOAT, ['batch', 'seq']), value('z', FLOAT, ['batch', 'seq + 1'])))
write('static', [node('Relu', ['x'], ['y'])], [value('y', FLOAT, [3, 4])], inputs=(value('x', FLOAT, [3, 4]),))
write('leads', [node('MatMul', ['x', 'z'], ['y'])], [value('y', FLOAT, ['a', 'b'])], inputs=(value('x', FLOAT, ['a', 'k']), value('z', FLOAT, ['k', 'b'])))
write('table', [node('Shape', ['ids'], ['s'], start=1, end=2), node('Squeeze', ['s'], ['length']), node('Range', ['zero', 'length', 'one'], ['p']), node('Gather', ['positions', 'p'], ['e'], 'lookup', axis=0),
                node('Gather', ['words', 'ids'], ['w']), node('Add', ['w', 'e'], ['y'])], [value('y', FLOAT, ['n', 'seq', 4])],
      [tensor('zero', INT64, [], [0]), tensor('one', INT64, [], [1]), weight('positions', [16, 4]), weight('words', [9, 4])], inputs=(value('ids', INT64, ['n', 'seq']),))

# Dropout: nothing in inference.
write('dropout', [node('Dropout', ['x', 'ratio', 'training'], ['y'], 'drop')], [value('y', FLOAT, ['n', 4])], [tensor('ratio', FLOAT, [], [0.1]), tensor('training', BOOL, [], [True])])
# Half-precision weights: fp32 in the graph, two bytes an element in the file.
write('half', [node('MatMul', ['x', 'w'], ['y'])], [value('y', FLOAT16, ['n', 4])], [tensor('w', FLOAT16, [4, 4], raw=bytes(32))], inputs=(value('x', FLOAT16, ['n', 4]),))

# zopt-export says in the model which initializers are parameters: a factor that is one and one that is none, a scalar, a frozen matrix.
write('declared', [node('Mul', ['x', 'mean'], ['a']), node('Mul', ['a', 'gate'], ['b']), node('MatMul', ['b', 'w'], ['c']), node('MatMul', ['c', 'base'], ['d']), node('Mul', ['d', 'temperature'], ['y'])],
      [value('y', FLOAT, ['n', 4])],
      [weight('mean', [4]), weight('gate', [4], 1.0), weight('w', [4, 4]), weight('base', [4, 4]), tensor('temperature', FLOAT, [], [2.0])],
      metadata={'zopt.parameters': 'gate\nw\ntemperature', 'zopt.frozen': 'base'})

# What an exporter folds into tables, beside weights of the same use: rotary cosines and sines, one table of both, sinusoidal positions, ALiBi's distances.
angles = [[position / 10 ** exponent for exponent in range(4)] for position in range(3)]
def table(name, dims, function):
    return tensor(name, FLOAT, dims, [x for row in angles for x in function(row)])


cosines, sines = (lambda row: [math.cos(a) for a in row]), (lambda row: [math.sin(a) for a in row])
waves = [table('cos', [1, 3, 4], cosines), table('sin', [1, 3, 4], sines), table('both', [1, 3, 8], lambda row: sines(row) + cosines(row)),
         table('turns', [1, 3, 8], lambda row: [f(a) for a in row for f in (math.sin, math.cos)]), tensor('alibi', FLOAT, [2, 1, 4], [0, .25, .5, .75, 0, -1, -2, -3]),
         tensor('ramp', FLOAT, [2, 1, 4], [1, 1.25, 1.5, 1.75, -1, -2, -3, -4]), weight('gain', [1, 3, 4]), weight('gain2', [1, 3, 4], -0.5)]
write('tables', [node('Mul', ['r', 'cos'], ['a']), node('Mul', ['a', 'sin'], ['b']), node('Mul', ['b', 'gain'], ['c']), node('Mul', ['c', 'gain2'], ['d']), node('Concat', ['d', 'd'], ['e'], axis=2),
                 node('Mul', ['e', 'both'], ['f']), node('Add', ['f', 'turns'], ['g']), node('MatMul', ['g', 'w'], ['h']), node('Unsqueeze', ['h', 'one'], ['i']),
                 node('Add', ['i', 'alibi'], ['j']), node('Add', ['j', 'ramp'], ['y'])],
      [value('y', FLOAT, ['n', 2, 3, 4])], [*waves, weight('w', [8, 4]), ints('one', [1])], inputs=[value('r', FLOAT, ['n', 3, 4])])

# What PyTorch's exporter says beside the values: a buffer, a scalar parameter, what it computed from positions; and the fills of a norm without parameters.
write('sources', [node('Exp', ['logs'], ['rates']), node('Neg', ['rates'], ['falls']), node('MatMul', ['relative', 'keys'], ['p']), node('Add', ['p', 'offset'], ['o']),
                  node('MatMul', ['x', 'o'], ['r']), node('Mul', ['r', 'falls'], ['q']), node('Add', ['q', 'correction'], ['a']), node('Mul', ['a', 'scale'], ['b']), node('Add', ['b', 'positions'], ['c']), node('LayerNormalization', ['c', 'val_7', 'shift'], ['y'], axis=-1)],
      [value('y', FLOAT, ['n', 4])], [weight('logs', [4]), weight('relative', [4, 4]), weight('keys', [4, 4]), weight('offset', [4]), weight('correction', [1, 4]), tensor('scale', FLOAT, [], [2.0]), weight('positions', [1, 4]), tensor('val_7', FLOAT, [4], [1, 1, 1, 1]), weight('shift', [4])],
      infos=[value('correction', FLOAT, [1, 4], kind='BUFFER'), value('scale', FLOAT, [], kind='PARAMETER'), value('positions', FLOAT, [1, 4], folded_from="['arange', 'pow_1', 'val_3']"),
             value('shift', FLOAT, [4], kind='PARAMETER')])

# What TorchScript's exporter leaves of a contrastive head: a temperature's logarithm and a bias, beside a scalar that is none; a buffer; and a query that is learned, projected and scaled, under attention.
write('script', [node('MatMul', ['probe', 'wq'], ['q']), node('Add', ['q', 'bq'], ['r']), node('Mul', ['r', '/Constant_output_0'], ['s']), node('MatMul', ['s', 'x'], ['a']), node('Exp', ['onnx::Exp_8'], ['t']),
                 node('Mul', ['a', 't'], ['b']), node('Add', ['b', 'onnx::Add_9'], ['c']), node('Add', ['c', '/Constant_1_output_0'], ['d']), node('Add', ['d', 'head.final_logits_bias'], ['y'])],
      [value('y', FLOAT, ['n', 1, 4])], [weight('probe', [1, 1, 3]), weight('wq', [3, 3]), weight('bq', [3]), tensor('/Constant_output_0', FLOAT, [], [0.5]), tensor('onnx::Exp_8', FLOAT, [], [2.0]),
                                         tensor('onnx::Add_9', FLOAT, [1], [-10.0]), tensor('/Constant_1_output_0', FLOAT, [1], [1.0]), weight('head.final_logits_bias', [1, 4])],
      inputs=[value('x', FLOAT, ['n', 3, 4])])

# A temperature whose exponential PyTorch's exporter folded, beside a scalar that it computed from numbers.
write('temperature', [node('MatMul', ['x', 'w'], ['a']), node('Mul', ['a', 'exp'], ['b']), node('Mul', ['b', 'sqrt'], ['y'])], [value('y', FLOAT, ['n', 4])],
      [weight('w', [4, 4]), tensor('exp', FLOAT, [], [14.25]), tensor('sqrt', FLOAT, [], [2.0])],
      infos=[value('exp', FLOAT, [], folded_from="['logit_scale']"), value('sqrt', FLOAT, [], folded_from="['val_3']")])

# A mixture of x and its square by a share and what is left of one, which the exporter folded.
write('mixture', [node('Mul', ['x', 'mix.share'], ['a']), node('Mul', ['x', 'x'], ['b']), node('Mul', ['b', 'sub'], ['c']), node('Add', ['a', 'c'], ['y'])], [value('y', FLOAT, ['n', 4])],
      [weight('mix.share', [1, 4], 0.25), tensor('sub', FLOAT, [1, 4], [0.75 - i / 64 for i in range(4)])], infos=[value('sub', FLOAT, [1, 4], folded_from="['mix.share', 'val_2']")])

# A padding mask [B, S] looked up at (b, s) for every head, row and column, as transformers does; one whose second number goes backwards; one that stays.
def tuples(rows, columns, dtype=INT64):
    return tensor('tuples', dtype, [len(rows), 1, 3, len(columns), 2], [i for r in rows for _ in range(3) for c in columns for i in (r, c)])


PADDING = [value('x', BOOL, [2, 4])]
write('grid', [node('GatherND', ['x', 'tuples'], ['y'])], [value('y', BOOL, [2, 1, 3, 4])], [tuples([0, 1], [0, 1, 2, 3])], inputs=PADDING)
write('grid-fixed', [node('GatherND', ['x', 'tuples'], ['y'])], [value('y', BOOL, [2, 1, 3, 1])], [tuples([0, 1], [-1])], inputs=PADDING)
write('no-grid', [node('GatherND', ['x', 'tuples'], ['y'])], [value('y', BOOL, [2, 1, 3, 4])], [tuples([0, 1], [3, 2, 1, 0])], inputs=PADDING)
write('grid-turned', [node('GatherND', ['x', 'turned'], ['y'])], [value('y', FLOAT, [4, 2, 3])], [tensor('turned', INT64, [4, 2, 2], [i for c in range(4) for r in range(2) for i in (r, c)])],
      inputs=[value('x', FLOAT, [2, 4, 3])])
