#!/usr/bin/env python3
"""Fills the IR blocks of docs/Overview.md: a line `<!-- $ command -->` is followed by a fenced block that holds the command's output.

    scripts/update_overview.py [--tools build/release/bin]            writes
    scripts/update_overview.py [--tools build/release/bin] --check    exits 1 if the page is not current (final plans, which depend on the machine, apart)
"""
import argparse
import difflib
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/Overview.md"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", type=Path, default=ROOT / "build/release/bin")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    environment = {**os.environ, "PATH": f"{args.tools.resolve()}:{os.environ['PATH']}"}

    def fill(block):
        if args.check and "--nproc" in block[2]:
            return block[0]  # a final plan: it depends on the machine
        done = subprocess.run(["bash", "-c", "set -o pipefail; " + block[2]], cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{PAGE}: error: '{block[2]}' failed:\n{done.stderr}")
        return f"{block[1]}```mlir\n{done.stdout.strip()}\n```\n"

    old = PAGE.read_text()
    new = re.sub(r"(<!-- \$ ([^\n]*) -->\n)```mlir\n.*?```\n", fill, old, flags=re.S)
    if not args.check:
        PAGE.write_text(new)
    elif new != old:
        sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), "docs/Overview.md", "what zopt writes now"))
        sys.exit(f"{PAGE}: error: is not current: run scripts/update_overview.py")


if __name__ == "__main__":
    main()
