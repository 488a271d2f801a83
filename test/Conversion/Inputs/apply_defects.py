"""Prints a sound plan and, behind it, one with each of the defects of another file, for -split-input-file.

Defects are divided by empty lines: what is wrong, then lines to find (' ' and '-') and what stands there instead (' ' and '+'). A line @ divides the places of one defect.
"""
import sys


def replace(plan, place):
    old, new = ([line[1:] for line in place if line[0] in kinds] for kinds in (" -", " +"))
    found = [at for at in range(len(plan)) if plan[at:at + len(old)] == old]
    if len(found) != 1:
        sys.exit(f"the plan has {len(found)} places like {old}")
    return plan[:found[0]] + new + plan[found[0] + len(old):]


base, defects = (open(path).read() for path in sys.argv[1:])
print(base)
base = base[base.index("module "):].splitlines()
for defect in defects.strip().split("\n\n"):
    lines, plan = defect.splitlines(), base
    first = next(number for number, line in enumerate(lines) if not line.startswith("//"))
    for place in "\n".join(lines[first:]).split("\n@\n"):
        plan = replace(plan, place.splitlines())
    print("// -----", *lines[:first], *plan, sep="\n")
