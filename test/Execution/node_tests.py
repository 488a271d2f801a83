#!/usr/bin/env python3
"""ONNX's own node tests, run forward: every case passes, or is refused for a reason that `node_refusals.py` has.

As a module of run.py: a test for each operator, over the cases of Debian's libonnx-testdata. As a program: any folder of cases, such as those that scripts/onnx-node-cases.py
makes of the newest opset.

    test/Execution/node_tests.py [FOLDER] [--tools build/release/bin] [--filter REGEX] [--json FILE]

zopt-node-cases (NodeCases/NodeCases.cpp) does the work, and says what "pass" and "refused" mean, and which inputs are made initializers.
"""
import argparse
import collections
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import node_refusals

DEBIAN = Path("/usr/lib/python3/dist-packages/onnx/backend/test/data/node")


def run_cases(tool, folders, work, jobs, timeout=600):
    """[{case, outcome, known, message, seconds}] of the folders, each in a process of its own below `jobs` processes of the tool."""
    shards = [folders[i::jobs] for i in range(jobs)]

    def run(number):
        if not shards[number]:
            return []
        done = subprocess.run([str(tool), str(work / f"shard{number}")], input="".join(f"{f}\n" for f in shards[number]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              errors="replace", timeout=timeout)
        lines = done.stdout.splitlines()
        assert done.returncode == 0 and len(lines) == len(shards[number]), f"{tool} stopped with {done.returncode} after {len(lines)} of {len(shards[number])} cases\n{done.stderr[-2000:]}"
        return [json.loads(line) for line in lines]

    with ThreadPoolExecutor(jobs) as pool:
        results = [row for rows in pool.map(run, range(jobs)) for row in rows]
    return sorted(results, key=lambda row: row["case"])


def name_of(row):
    return row["case"].removeprefix("test_")


def reason_for(case):
    """Why a case may be refused, or None."""
    for pattern, reason in node_refusals.REFUSED:
        if re.fullmatch(pattern, case):
            return reason
    return None


def verdict(row):
    """(pass | refused | failed, text)"""
    if row["outcome"] == "refused":
        reason = reason_for(name_of(row))
        return ("refused", f"{reason}: {row['message']}") if reason else ("failed", f"is refused, and node_refusals.py has no reason why: {row['message']}")
    return row["outcome"], row["message"]


def case_folders(folder):
    return sorted(path for path in Path(folder).iterdir() if (path / "model.onnx").exists())


def main():
    root = Path(__file__).resolve().parent.parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=DEBIAN)
    parser.add_argument("--tools", type=Path, default=root / "build/release/bin")
    parser.add_argument("--filter", default="", help="only cases whose name matches this regular expression")
    parser.add_argument("-j", "--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path, help="write every row")
    parser.add_argument("-v", "--verbose", action="store_true", help="print what is refused too")
    args = parser.parse_args()
    folders = [f for f in case_folders(args.folder) if re.search(args.filter, f.name)]
    begin = time.time()
    with tempfile.TemporaryDirectory(prefix="zopt-nodes-") as work:
        rows = run_cases(args.tools / "zopt-node-cases", folders, Path(work), args.jobs)
    counts = collections.Counter()
    for row in rows:
        kind, text = verdict(row)
        counts[kind] += 1
        if kind == "failed" or args.verbose:
            print(f"{kind}: {name_of(row)}: {text[:400]}")
    if args.json:
        args.json.write_text("".join(json.dumps(row) + "\n" for row in rows))
    known = sum(row["outcome"] == "pass" and row["known"] > 0 for row in rows)
    print(f"{len(rows)} cases: {counts['pass']} pass ({known} with known inputs), {counts['refused']} are refused, {counts['failed']} fail; {time.time() - begin:.1f} s")
    return 1 if counts["failed"] else 0


def register():
    import harness

    @harness.memoize
    def results():
        work = harness.scratch("nodes")
        folders = case_folders(DEBIAN)
        rows = run_cases(harness.Settings.tools / "zopt-node-cases", folders, work, len(os.sched_getaffinity(0)), timeout=600 * harness.Settings.patience)
        return {row["case"]: row for row in rows}

    def check(names):
        bad = [f"{name}: {text}" for name in names for kind, text in [verdict(results()[name])] if kind == "failed"]
        assert not bad, "\n".join(bad)

    def check_table():
        """Every pattern still refuses something."""
        cases = [name_of(row) for row in results().values() if row["outcome"] == "refused"]
        idle = [pattern for pattern, reason in node_refusals.REFUSED if reason != node_refusals.NOT_BUILT and not any(re.fullmatch(pattern, case) for case in cases) and pattern not in node_refusals.NEWER]
        assert not idle, f"node_refusals.py: nothing is refused any more by {idle}"

    if not DEBIAN.exists():
        def missing():
            raise AssertionError(f"{DEBIAN} is missing: install libonnx-testdata (scripts/setup.sh packages)")
        harness.add("nodes", missing)
        return
    groups = collections.defaultdict(list)
    for folder in case_folders(DEBIAN):
        groups[folder.name.removeprefix("test_").split("_")[0]].append(folder.name)
    for group, names in sorted(groups.items()):
        harness.add(f"nodes/{group}", check, names)
    harness.add("nodes/table of refusals", check_table)


if __name__ == "__main__":
    sys.exit(main())
register()
