#!/usr/bin/env python3
"""Runs a job of one YAML file: zopt compiles its model, zrun trains it on --nproc_per_node ranks.

    scripts/run_distributed.py --config configs/train_sft.yaml --algorithm sft --nproc_per_node 4

On several nodes the same command runs on each, with its own --node_rank; ranks meet at --master_addr:--master_port (zrun --launcher=env). docs/Config.md lists the keys of a job. What stands behind `--` goes to zrun.
"""
import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ALGORITHMS = {"sft": "next-token loss on the labels of the data", "pretrain": "next-token loss on every token"}


def fail(text, code=2):
    sys.exit(print(f"run_distributed: error: {text}", file=sys.stderr) or code)


def find_tool(name, folder):
    """--tools, then the build of this repository, then PATH."""
    build = Path(__file__).resolve().parent.parent / "build" / "release" / "bin"
    for path in ([Path(folder) / name] if folder else [build / name]):
        if path.exists():
            return str(path)
    return shutil.which(name) or fail(f"{name} was not found: build it (scripts/setup.sh) or name its folder with --tools")


def algorithm_of(config):
    """The job's own `algorithm`, or None. The one line that this script needs of the file: zopt reads and checks the whole."""
    for line in Path(config).read_text(errors="replace").splitlines():
        if line.startswith("algorithm:"):
            return line.split(":", 1)[1].split("#")[0].strip().strip("'\"")
    return None


def run(command, environment=None):
    """Runs to the end; signals reach the command through us, once."""
    process = subprocess.Popen(command, env=environment, start_new_session=True)

    def forward(number, _):
        process.send_signal(number)
    previous = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)}
    try:
        code = process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def run_node(command, arguments):
    """The ranks of this node, as torchrun would start them. One that fails ends the others."""
    processes = []
    world = arguments.nnodes * arguments.nproc_per_node

    def forward(number, _):
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, forward)
    for local in range(arguments.nproc_per_node):
        environment = dict(os.environ, RANK=str(arguments.node_rank * arguments.nproc_per_node + local), WORLD_SIZE=str(world), LOCAL_RANK=str(local), LOCAL_WORLD_SIZE=str(arguments.nproc_per_node),
                           MASTER_ADDR=arguments.master_addr, MASTER_PORT=str(arguments.master_port))
        processes.append(subprocess.Popen(command, env=environment, start_new_session=True))
    code = 0
    while any(process.poll() is None for process in processes):
        bad = [process.returncode for process in processes if process.returncode]
        if bad and code == 0:
            code = bad[0] if bad[0] > 0 else 128 - bad[0]
            for process in processes:
                if process.poll() is None:
                    process.terminate()
        time.sleep(0.05)
    return code or next((c if c > 0 else 128 - c for c in (process.returncode for process in processes) if c), 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="the job, YAML")
    parser.add_argument("--algorithm", help=f"{' or '.join(ALGORITHMS)} (what the job says, or sft)")
    for dashes, options in (("nproc_per_node", dict(type=int, default=1, help="ranks on this node (1)")), ("nnodes", dict(type=int, default=1, help="nodes (1)")),
                            ("node_rank", dict(type=int, default=0, help="which of them this is (0)")), ("master_addr", dict(default="127.0.0.1", help="of node 0")),
                            ("master_port", dict(type=int, default=29500, help="(29500)"))):
        parser.add_argument(f"--{dashes}", f"--{dashes.replace('_', '-')}", **options)
    parser.add_argument("--plan", help="where to write the plan (beside the job, its name with .plan.mlir)")
    parser.add_argument("--target", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--tools", help="folder of zopt and zrun")
    parser.add_argument("--dry-run", action="store_true", help="compile and check, but run no step")
    parser.add_argument("rest", nargs="*", metavar="-- ZRUN FLAGS", help="for zrun")
    arguments = parser.parse_args()

    if not Path(arguments.config).is_file():
        fail(f"{arguments.config}: cannot be read", 1)
    said = algorithm_of(arguments.config)
    algorithm = arguments.algorithm or said or "sft"
    if algorithm not in ALGORITHMS:
        fail(f"--algorithm is {algorithm}, expected {' or '.join(ALGORITHMS)}: preference and reinforcement learning are not built")
    if said and said != algorithm:
        fail(f"--algorithm is {algorithm}, but algorithm of {arguments.config} is {said}", 1)
    if arguments.nproc_per_node < 1 or arguments.nnodes < 1:
        fail("--nproc_per_node and --nnodes are at least 1")
    if not 0 <= arguments.node_rank < arguments.nnodes:
        fail(f"--node_rank is {arguments.node_rank}, expected 0 to {arguments.nnodes - 1}, as --nnodes is {arguments.nnodes}")

    zopt, zrun = find_tool("zopt", arguments.tools), find_tool("zrun", arguments.tools)
    plan = arguments.plan or str(Path(arguments.config).with_suffix(".plan.mlir"))
    world = arguments.nnodes * arguments.nproc_per_node
    compile_command = [zopt, "--config", arguments.config, f"--nproc={world}", "--portable", "-o", plan]
    if arguments.target != "auto":
        compile_command.append(f"--target={arguments.target}")
    run_command = [zrun, plan, f"--target={arguments.target}", *(["--dry-run"] if arguments.dry_run else []), *arguments.rest]
    if arguments.nnodes > 1:
        if "--launcher" not in subprocess.run([zrun, "--help"], capture_output=True, text=True).stdout:
            fail("--nnodes above 1 needs zrun --launcher=env, which this zrun lacks: use zrun --hostfile")
        run_command.append("--launcher=env")
    else:
        run_command.append(f"--nproc={world}")
    for command in (compile_command, run_command):
        print("run_distributed: " + shlex.join(command), file=sys.stderr, flush=True)
        code = run_node(command, arguments) if command is run_command and arguments.nnodes > 1 else run(command)
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
