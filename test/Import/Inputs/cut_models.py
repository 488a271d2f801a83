"""Imports a model cut off at many places, and with bytes changed: cut_models.py ZOPT MODEL SCRATCH. A crash or a time-out fails; so does a cut that imports."""
import random
import subprocess
import sys

zopt, path, scratch = sys.argv[1:]
data = open(path, 'rb').read()
chance = random.Random(11)
head = 4200  # everything but weights


def check(content, may_import, what):
    with open(scratch, 'wb') as f:
        f.write(content)
    run = subprocess.run([zopt, scratch, '--pass-pipeline=builtin.module(canonicalize)'], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60, text=True, errors='replace')
    if run.returncode not in ((0, 1) if may_import else (1,)) or (run.returncode == 1 and 'error: ' not in run.stderr):
        sys.exit(f'{what}: exit code {run.returncode}\n{run.stderr}')


for at in [1, 2, 3, 10] + [chance.randrange(head) for _ in range(12)] + [chance.randrange(head, len(data)) for _ in range(4)]:
    check(data[:at], False, f'cut at {at}')
for _ in range(30):
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        changed[chance.randrange(head)] = chance.randrange(256)
    check(bytes(changed), True, 'changed bytes')
