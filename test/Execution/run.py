#!/usr/bin/env python3
"""Runs the execution tests.

    test/Execution/run.py --tools build/release/bin [--full] [--filter REGEX] [-j N] [--list] [--sanitized] [--patience F]
"""
import argparse
import importlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

MODULES = ("reference", "gradients", "losses", "top_k", "ties", "shared_weights", "keep_fp32", "vjp", "convolutions", "operator_gradients", "control_flow", "node_tests", "stages", "recompute", "ranks", "dropout", "random_numbers", "element_types", "batch_norm", "frozen", "lora", "memory", "plans", "optimizers", "muon", "configs", "config_keys", "jobs", "evaluation", "interface", "measures", "monitors", "boards", "sft", "bad_models", "bad_data", "refusals", "refused_nodes", "faults", "launch", "nodes", "checkpoints", "crashes", "troubleshooting")


def main():
    root = Path(__file__).resolve().parent.parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", type=Path, default=root / "build/release/bin", help="folder of zopt and zrun")
    parser.add_argument("--full", action="store_true", help="the whole grid, over mpi too")
    parser.add_argument("--filter", default="", help="only tests whose name matches this regular expression")
    parser.add_argument("-j", "--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--patience", type=float, default=1.0, help="multiplies what a command may take before it is said to hang")
    parser.add_argument("--sanitized", action="store_true", help="the tools are built with a sanitizer: skip what looks at allocations and resident memory")
    parser.add_argument("--list", action="store_true", help="print names and stop")
    parser.add_argument("--output", type=Path, help="write results as JSON")
    parser.add_argument("--work", type=Path, help="keep every plan and output in this folder")
    args = parser.parse_args()

    sys.dont_write_bytecode = True
    import harness
    harness.Settings.tools = args.tools.resolve()
    harness.Settings.full = args.full
    harness.Settings.patience = args.patience
    harness.Settings.sanitized = args.sanitized
    harness.Settings.keep = args.work is not None
    harness.Settings.work = args.work.resolve() if args.work else Path(tempfile.mkdtemp(prefix="zopt-execution-"))
    harness.Settings.work.mkdir(parents=True, exist_ok=True)
    for name in MODULES:
        importlib.import_module(name)
    if args.list:
        print("\n".join(t.name for t in harness.tests))
        return 0
    for tool in ("zopt", "zrun"):
        if not (harness.Settings.tools / tool).exists():
            parser.error(f"{harness.Settings.tools / tool} does not exist: build it first (scripts/setup.sh)")
    try:
        results = harness.run_tests(args.filter, args.jobs)
    finally:
        if not args.work:
            shutil.rmtree(harness.Settings.work, ignore_errors=True)
    if args.output:
        args.output.write_text(json.dumps({"tests": results}, indent=1))
    failed = sum(r["code"] == "FAIL" for r in results)
    skipped = [r for r in results if r["code"] == "UNSUPPORTED"]
    for r in skipped:
        print(f"skipped ({r['output']}): {r['name']}")
    print(f"{len(results) - failed - len(skipped)} passed, {failed} failed")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
