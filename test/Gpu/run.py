#!/usr/bin/env python3
"""Tests and benchmarks on a GPU; scripts/gpu-tests.sh calls this.

    test/Gpu/run.py [PART...] [--quick]     parts: correctness ranks sanitizer faults benchmarks training all (default: correctness)

Each part has a time limit (--limit, seconds); what has not begun by then is reported as OUT OF TIME. A failing part does not keep others from running.
A table comes last; everything is written to --output as JSON. --device-target=cpu runs the same checks with the CPU in the GPU's place.
"""
import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PARTS = ("correctness", "ranks", "sanitizer", "faults", "benchmarks", "training", "scaling")
MODULES = {"correctness": "correctness", "ranks": "device_ranks", "sanitizer": "sanitizer", "faults": "device_faults"}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS) + " or all")
    parser.add_argument("--quick", action="store_true", help="a small part of each")
    parser.add_argument("--tools", type=Path, default=ROOT / "build/release/bin", help="folder of zopt and zrun")
    parser.add_argument("--device-target", default=os.environ.get("ZOPT_DEVICE_TARGET", "cuda"), choices=("cuda", "cpu"))
    parser.add_argument("--final", action="store_true", help="zopt specializes for the device, rather than zrun")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds for each part")
    parser.add_argument("--filter", default="", help="only tests whose name matches this regular expression")
    parser.add_argument("--library-path", action="store_true", help="print the folders where CUDA's libraries are here, for LD_LIBRARY_PATH or ZOPT_CUDA_LIBRARY_PATH, and stop")
    parser.add_argument("--list", action="store_true", help="print the tests' names and stop")
    parser.add_argument("-j", "--jobs", type=int, help="tests at once (a quarter of the cores, at most 6; the sanitizer's one at a time)")
    parser.add_argument("--graphs", type=Path, help="a folder with graphs, beside test/Graphs and the bundle's")
    parser.add_argument("--output", type=Path, help="write results as JSON")
    parser.add_argument("--work", type=Path, help="keep every plan and output in this folder")
    parser.add_argument("--rows", default="", help="benchmarks: rows by number or part of their label, separated by commas")
    parser.add_argument("--no-peers", action="store_true", help="benchmarks and training: zopt alone")
    parser.add_argument("--known-peers", type=Path, help="benchmarks: read PyTorch's results from this file where it has them, and add to it")
    parser.add_argument("--autotune", action="store_true", help="benchmarks: zrun --autotune")
    parser.add_argument("--kernels", action="store_true", help="benchmarks: each generated kernel's bandwidth (benchmarks/gpu/kernels.py)")
    parser.add_argument("--traces", type=Path, help="benchmarks and scaling: keep each row's trace in this folder, of benchmarks the final plan too")
    parser.add_argument("--torch-python", default=sys.executable, help="a python3 with PyTorch")
    parser.add_argument("--steps", type=int, help="training: steps (500)")
    parser.add_argument("--lr", type=float, help="training: rate (1e-4)")
    args = parser.parse_args()
    unknown = [p for p in args.parts if p not in PARTS + ("all",)]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}")
    args.parts = [p for p in PARTS if p in args.parts or "all" in args.parts] or ["correctness"]
    return parser, args


def main():
    parser, args = parse()
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(HERE))
    import device
    import harness
    import importlib
    if args.library_path:
        print(device.library_path())
        return 0
    os.environ["LD_LIBRARY_PATH"] = device.library_path()
    os.environ.setdefault("ZOPT_CUDA_LIBRARY_PATH", os.environ["LD_LIBRARY_PATH"])
    device.Device.target, device.Device.quick, device.Device.final, device.Device.graphs = args.device_target, args.quick, args.final, args.graphs
    harness.Settings.tools = args.tools.resolve()
    harness.Settings.keep = args.work is not None
    harness.Settings.work = args.work.resolve() if args.work else Path(tempfile.mkdtemp(prefix="zopt-gpu-"))
    harness.Settings.work.mkdir(parents=True, exist_ok=True)
    for tool in ("zopt", "zrun"):
        if not (harness.Settings.tools / tool).exists():
            parser.error(f"{harness.Settings.tools / tool} does not exist: build it (scripts/setup.sh) or unpack a bundle (scripts/gpu-bundle.sh --unpack DIR, then --tools DIR/bin)")
    results = {"gpus": device.gpus(), "target": args.device_target, "quick": args.quick, "parts": {}}
    print(f"==> target {args.device_target}; {'; '.join(results['gpus']) or 'no GPU is seen'}", flush=True)
    lines = []

    def write():
        if args.output:
            args.output.write_text(json.dumps(results, indent=1, default=str))

    try:
        for part in args.parts:
            begin = time.time()
            deadline = begin + args.limit
            print(f"==> {part}", flush=True)
            try:
                if part in MODULES:
                    module = importlib.import_module(MODULES[part])
                    harness.tests.clear()  # what test/Execution's modules registered when they were read
                    module.register()
                    if args.list:
                        print("\n".join(t.name for t in harness.tests))
                        continue
                    jobs = args.jobs or (1 if part == "sanitizer" else max(1, min(6, len(os.sched_getaffinity(0)) // 2)))
                    tests = harness.run_tests(args.filter, jobs, deadline)
                    details = module.summary() if hasattr(module, "summary") else []
                elif args.list:
                    continue
                elif part in ("benchmarks", "scaling"):
                    import benchmarks
                    import scaling
                    benchmarks.Options.rows, benchmarks.Options.peers, benchmarks.Options.torch_python = args.rows, not args.no_peers, args.torch_python
                    benchmarks.Options.known_peers, benchmarks.Options.autotune = args.known_peers, args.autotune
                    benchmarks.Options.kernels, benchmarks.Options.traces = args.kernels, args.traces
                    details = []

                    def report(line):
                        details.append(line)
                        print(line, flush=True)
                    tests = benchmarks.run(deadline, args.quick, report) if part == "benchmarks" else scaling.run(deadline, report)
                else:
                    import training
                    tests, details = training.run(args, deadline)
            except Exception as error:
                import traceback
                traceback.print_exc()
                tests, details = [{"name": part, "code": "FAIL", "elapsed": time.time() - begin, "output": str(error)}], []
            results["parts"][part] = {"seconds": round(time.time() - begin, 1), "tests": tests, "details": details}
            counts = {code: sum(t["code"] == code for t in tests) for code in ("PASS", "FAIL", "OUT OF TIME")}
            lines.append(f"{part:12} {counts['PASS']:4} passed {counts['FAIL']:4} failed {counts['OUT OF TIME']:4} out of time {time.time() - begin:7.1f} s")
            print(f"==> {lines[-1]}", flush=True)
            write()
    finally:
        if not args.work:
            shutil.rmtree(harness.Settings.work, ignore_errors=True)
    if args.list:
        return 0
    print("\n==> " + "; ".join(results["gpus"] or ["no GPU is seen"]))
    for part, result in results["parts"].items():
        for line in result["details"]:
            print(f"{part}: {line}")
        for test in result["tests"]:
            if test["code"] != "PASS":
                print(f"{test['code']}: {test.get('name', test.get('row'))}")
    print("\n".join(lines))
    return 0 if results["parts"] and all(t["code"] == "PASS" for p in results["parts"].values() for t in p["tests"]) else 1


if __name__ == "__main__":
    sys.exit(main())
