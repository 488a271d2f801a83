"""Compares the @forward functions of two modules as graphs: the same ops on the same operands and states, in whatever order they stand.

    same_graph.py A B [state-of-A=state-of-B...]

A state with a source_permutation [1, 0] counts as its source, transposed; addition and multiplication commute. Prints the first difference below the results.
"""
import hashlib
import re
import sys


class Graph:
    def __init__(self, path, renamed):
        text = re.sub(r' loc\((?:[^()"]|"[^"]*"|\([^()]*\))*\)', '', open(path).read())
        self.states = {}
        for match in re.finditer(r'train\.state @("[^"]*"|[\w.$-]+) : [^{]*\{(.*)\}', text):
            name, attributes = match.group(1).strip('"'), match.group(2)
            source = re.search(r'source_name = "([^"]*)"', attributes)
            transposed = 'source_permutation = array<i64: 1, 0>' in attributes
            self.states[name] = (renamed.get(name, name) if not source else source.group(1), transposed)
        self.values, self.lines, self.result, self.count = {}, {}, None, 0
        body = text[text.index('func.func @forward'):]
        for name in re.findall(r'(%\w+): tensor<[^>]*>', body.split('\n', 1)[0]):
            self.define(name, f'argument {len(self.values)}', [])
        for line in body.split('\n')[1:]:
            line = line.strip()
            if line.startswith('return'):
                self.result = self.define('return', *self.canonical(line))
                return
            match = re.match(r'(%[\w:, %]+?) = (.*)', line)
            if match:
                text, operands = self.canonical(match.group(2))
                for i, name in enumerate(match.group(1).split(', ')):
                    self.define(name, f'{i} of {text}', operands)

    def define(self, name, text, operands):
        key = hashlib.sha256((text + '|' + ' '.join(operands)).encode()).hexdigest()[:16]
        self.values[name] = key
        self.lines[key] = (text, operands)
        self.count += 1
        return key

    def canonical(self, text):
        state = re.match(r'train\.read_state @("[^"]*"|[\w.$-]+) : tensor<(.*)>', text)
        if state:
            name, transposed = self.states[state.group(1).strip('"')]
            return f'state {name}{" transposed" if transposed else ""}', []
        operands = [self.values[name] for name in re.findall(r'%\w+(?:#\d+)?', text)]
        text = re.sub(r'%\w+(?:#\d+)?', '%', text)
        op = text.split(' ', 1)[0]
        if op in ('train.add', 'train.mul') and operands != sorted(operands):
            types = re.search(r' : (\S+), (\S+) -> ', text)
            text = text[:types.start()] + f' : {types.group(2)}, {types.group(1)} -> ' + text[types.end():]
            operands.reverse()
        # x W^T and x W', where W' is W transposed in the file.
        if op == 'train.matmul' and 'transpose_rhs' in text and self.lines[operands[1]][0].startswith('0 of state '):
            name = self.lines[operands[1]][0] + ' transposed'
            operands[1] = self.define('(transposed)', name, [])
            text = re.sub(r' \{transpose_rhs\}', '', text)
            text = re.sub(r', tensor<(\d+)x(\d+)x(\w+)> ->', r', tensor<\2x\1x\3> ->', text)
        return re.sub(r'zero\.residual = "\w+"', '', text), operands


def difference(a, b, x, y):
    """The first pair of ops, from the results up, that differ while their places agree."""
    while True:
        (s, p), (t, q) = a.lines[x], b.lines[y]
        if s != t or len(p) != len(q):
            return s, t
        x, y = next((u, v) for u, v in zip(p, q) if u != v)


renamed = dict(argument.split('=') for argument in sys.argv[3:])
a, b = Graph(sys.argv[1], renamed), Graph(sys.argv[2], {})
if a.result is None or b.result is None or a.count < 10:
    sys.exit('a module has no @forward with a result')
if a.result != b.result:
    sys.exit('the graphs differ:\n  %s\n  %s' % difference(a, b, a.result, b.result))
print(f'{a.count} values are the same')
