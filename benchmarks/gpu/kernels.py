#!/usr/bin/env python3
"""The bandwidth of every generated kernel in a traced step, beside that of a device-to-device copy on the same machine.

    zrun plan.mlir --target=cuda --init=gpt2 --steps 4 --save-plan final.mlir --trace trace.json
    benchmarks/gpu/kernels.py final.mlir trace.json

Bytes are those of the kernel's memrefs in the final plan, once for each it reads and once for each it writes; of a table that rows are gathered from, those of the rows.
Times are the trace's. The copy is of as many bytes, read and written, by PyTorch's `copy_` or a kernel that adds 0, whichever is faster, or has the bandwidth given with --copy-gbs. A kernel that moves --large MiB or
more and stays under --least of the copy is marked. Prints a line a kernel, the one with the largest total first, and last how much of the step's kernel time they are.
"""
import argparse
import json
import re
import statistics
import sys
from math import prod
from pathlib import Path

SIZES = {"f64": 8, "f32": 4, "bf16": 2, "f16": 2, "i64": 8, "i32": 4, "i16": 2, "i8": 1, "i1": 1}
MIB = 1 << 20


class Kernel:
    """One plan.kernel: its memref arguments as (shape, bytes an element), None in the place of other arguments, and which of them its body reads and writes."""

    def __init__(self, signature, body):
        self.arguments = []
        for kind in re.findall(r"%\w+: (memref<[^()]*?>(?=[ ,)])|\w+)", re.sub(r" loc\([^()]*\)", "", signature)):
            shaped = re.match(r"memref<((?:(?:\d+|\?)x)*)(\w+)(?:, strided<\[([^\]]*)\])?", kind)
            if not shaped:
                self.arguments.append(None)
                continue
            shape = [-1 if n == "?" else int(n) for n in shaped[1].split("x") if n]
            if shaped[3]:  # a stride of 0 repeats what is there
                shape = [n for n, stride in zip(shape, shaped[3].split(",")) if stride.strip() != "0"]
            self.arguments.append((shape, SIZES[shaped[2]]))
        self.read, self.written, self.dynamic = set(), set(), any(a and -1 in a[0] for a in self.arguments)
        for line in body.splitlines():
            for number in map(int, re.findall(r"%arg(\d+)\b", line)):
                if number >= len(self.arguments) or not self.arguments[number]:
                    continue
                if re.search(rf"(?:store|transfer_write|scatter)\b.*%arg{number}\[", line):
                    self.written.add(number)
                else:
                    self.read.add(number)

    def bytes(self, gathers, writes=(), elements=0):
        """Bytes moved by a launch; `writes` are the launch's, `elements` what a dynamic memref holds."""
        def size(argument):
            shape, width = argument
            return (elements if -1 in shape else prod(shape)) * width
        total, largest_written = 0, max((size(self.arguments[n]) for n in self.written | set(writes) if self.arguments[n]), default=0)
        for number, argument in enumerate(self.arguments):
            if not argument:
                continue
            written = number in self.written or number in writes
            read = number in self.read and not (number in writes and number not in self.written)
            bytes_once = size(argument)
            if gathers and read and not written:
                bytes_once = min(bytes_once, largest_written)
            total += bytes_once * (int(written) + int(read))
        return total


def read_plan(text):
    """{trace name: bytes} of every generated kernel's launch in the plan."""
    kernels = {}
    for match in re.finditer(r"^  plan\.kernel @(\S+?)\((.*?)\)(?: attributes \{.*?\})? \{\n(.*?)^  \}", text, re.M | re.S):
        kernels[match[1]] = Kernel(match[2] + ")", match[3])
    sizes = {}
    for name, writes in re.findall(r"plan\.launch @(\S+) \[.*?\] offsets \[.*?\] writes \[([\d, ]*)\]", text):
        if name in kernels:
            gathers = name.startswith(("gather", "scatter"))
            symbol = "zopt_" + re.sub(r"[^A-Za-z0-9]", "_", name)
            sizes[symbol] = kernels[name].bytes(gathers, {int(n) for n in writes.split(",") if n.strip()})
    slices = {m[1]: int(m[2]) for m in re.finditer(r"plan\.placed_bucket @(\S+) padded \d+ slice (\d+)", text)}
    widths = {m[1]: SIZES[m[2]] for m in re.finditer(r"plan\.placed_bucket @(\S+) .*\bgradient_type = (\w+)", text)}
    for buckets in re.findall(r"plan\.gradient_norm \[(.*?)\]", text):
        sizes["gradient_norm"] = sum(slices.get(b, 0) * widths.get(b, 4) for b in re.findall(r"@([\w.$-]+)", buckets))
    for bucket, name in re.findall(r"plan\.update @(\S+) by @(\S+)", text):
        if name in kernels and bucket in slices:
            sizes[f"update {bucket}"] = kernels[name].bytes(False, elements=slices[bucket])
    return sizes


class Copy:
    """How long a device-to-device copy takes that reads and writes so many bytes in all. A kernel that moves little spends a part of its time on starting and ending, and so does a copy of as many bytes."""

    MOVED = [32 * MIB << i for i in range(8)]  # up to 4 GiB

    def __init__(self, gbs=None):
        self.microseconds = [n / gbs / 1e3 for n in self.MOVED] if gbs else self.measure()

    def measure(self):
        """Medians of 20 copies, by the faster of PyTorch's copy_ and a kernel that adds 0. They walk over buffers that no cache holds, and stand in a queue, as a step's kernels do, so that none waits for the host."""
        import torch
        elements = self.MOVED[-1] // 8
        source = torch.rand(elements, device="cuda")
        target = torch.empty_like(source)
        ways = (lambda a, b: b.copy_(a), lambda a, b: torch.add(a, 0.0, out=b))
        medians = []
        for moved in self.MOVED:
            length, best = moved // 8, []
            for way in ways:
                events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(25)]
                torch.cuda._sleep(20_000_000)  # cycles, in which the host puts everything into the queue
                for number, (begin, end) in enumerate(events):
                    first = number * length % elements
                    begin.record()
                    way(source[first:first + length], target[first:first + length])
                    end.record()
                torch.cuda.synchronize()
                best.append(statistics.median(begin.elapsed_time(end) * 1e3 for begin, end in events[5:]))
            medians.append(min(best))
        return medians

    def time(self, moved):
        """Linear between the sizes that were measured, proportional beyond them."""
        sizes, times = self.MOVED, self.microseconds
        if moved <= sizes[0] or moved >= sizes[-1]:
            end = 0 if moved <= sizes[0] else -1
            return moved * times[end] / sizes[end]
        above = next(i for i, size in enumerate(sizes) if size >= moved)
        part = (moved - sizes[above - 1]) / (sizes[above] - sizes[above - 1])
        return times[above - 1] + part * (times[above] - times[above - 1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path, help="the final plan")
    parser.add_argument("trace", type=Path)
    parser.add_argument("--copy-gbs", type=float, help="the copy's GB/s, rather than measuring it")
    parser.add_argument("--large", type=float, default=64, help="MiB from which a kernel must reach --least of the copy")
    parser.add_argument("--least", type=float, default=0.92)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sizes = read_plan(args.plan.read_text())
    events = [e for e in json.loads(args.trace.read_text())["traceEvents"] if e.get("ph") == "X" and e.get("pid") == 0]
    times = {}
    for event in events:
        times.setdefault(event["name"], []).append(event["dur"])
    generated = {name: durations for name, durations in times.items() if name in sizes}
    if not generated:
        sys.exit("kernels.py: error: the trace has no kernel of this plan: is it of another plan, or of a portable one?")
    copy = Copy(args.copy_gbs)
    print("copy: " + ", ".join(f"{moved // MIB} MiB {moved / us / 1e3:.0f}" for moved, us in zip(Copy.MOVED, copy.microseconds)) + " GB/s (read and written)")
    print(f"{'kernel':44} {'times':>5} {'MiB':>9} {'us':>9} {'total us':>9} {'GB/s':>7} {'of copy':>7}")
    rows, total = [], sum(sum(d) for d in times.values())
    for name, durations in sorted(generated.items(), key=lambda item: -sum(item[1])):
        median = statistics.median(durations)
        rate = sizes[name] / median / 1e3 if median else 0.0
        of_copy = copy.time(sizes[name]) / median if median else 0.0
        slow = sizes[name] >= args.large * MIB and of_copy < args.least
        rows.append({"kernel": name, "times": len(durations), "bytes": sizes[name], "us": median, "total_us": sum(durations), "gbs": rate, "of_copy": of_copy, "slow": slow})
        print(f"{name[:44]:44} {len(durations):5} {sizes[name] / MIB:9.2f} {median:9.2f} {sum(durations):9.1f} {rate:7.0f} {of_copy:7.2f}{'  <' if slow else ''}")
    moved, spent = sum(r["bytes"] * r["times"] for r in rows), sum(r["total_us"] for r in rows)
    others = sorted(((sum(d), n, len(d)) for n, d in times.items() if n not in sizes), reverse=True)
    print(f"{'all generated kernels':44} {sum(r['times'] for r in rows):5} {moved / MIB:9.2f} {'':9} {spent:9.1f} {moved / spent / 1e3:7.0f} {sum(copy.time(r['bytes']) * r['times'] for r in rows) / spent:7.2f}")
    for duration, name, count in others[:12]:
        print(f"{name[:44]:44} {count:5} {'':9} {'':9} {duration:9.1f}")
    print(f"generated kernels are {spent / total * 100:.1f}% of {total:.0f} us in commands; {sum(r['slow'] for r in rows)} large ones under {args.least:.0%} of the copy")
    if args.json:
        args.json.write_text(json.dumps({"copy_us": dict(zip(Copy.MOVED, copy.microseconds)), "kernels": rows, "others": [{"name": n, "times": c, "total_us": t} for t, n, c in others]}, indent=1))


if __name__ == "__main__":
    main()
