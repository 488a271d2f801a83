"""The endpoint for Prometheus, and TensorBoard's event files, read with a reader that shares nothing with the writer; scripts/test-python.sh reads them with TensorBoard's own."""
import math
import re
import socket
import struct
import sys
from collections import defaultdict

from harness import MODELS, compile_plan, execute, expect_refusal, read_metrics, scratch, succeed, test

DATA = MODELS / "gpt2-tiny" / "batch.safetensors"


def command(*flags, steps=5):
    return ["zrun", compile_plan("gpt2-tiny", "--micro-batch=4"), "--nproc", 2, "--comm=local", "--threads", 1, "--data", DATA, "--steps", steps, *flags]


def crc32c(data):
    """Bit by bit, as the polynomial 0x1EDC6F41 is defined."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283


def records(path):
    data, at = path.read_bytes(), 0
    while at < len(data):
        length, check = struct.unpack_from("<QI", data, at)
        assert check == masked(data[at:at + 8]), f"checksum of a length at {at}"
        body = data[at + 12:at + 12 + length]
        assert len(body) == length and struct.unpack_from("<I", data, at + 12 + length)[0] == masked(body), f"checksum of the record at {at}"
        yield body
        at += length + 16


def fields(message):
    """(number, value) of a message's fields: integers, or bytes of the others."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
    while at < len(message):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}[kind] if kind != 2 else varint()
        yield key >> 3, message[at:at + size]
        at += size


def events(path):
    for body in records(path):
        event = dict(fields(body))
        values = {}
        for number, value in fields(event.get(5, b"")):
            assert number == 1, number
            value = dict(fields(value))
            values[value[1].decode()] = struct.unpack("<f", value[2])[0] if 2 in value else 0.0
        yield {"time": struct.unpack("<d", event[1])[0], "step": event.get(2, 0), "version": event.get(3), "values": values, "session": dict(fields(event[7]))[1] if 7 in event else None}


def read(folder):
    """Series as TensorBoard shows them: files in the order of their names; a session's start makes later points void."""
    series = defaultdict(list)
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for i, event in enumerate(events(path)):
            assert (event["version"] == b"brain.Event:2") == (i == 0), event
            assert event["time"] > 1.6e9, event
            if event["session"] == 1:
                series = defaultdict(list, {tag: [point for point in points if point[0] < event["step"]] for tag, points in series.items()})
            for tag, value in event["values"].items():
                series[tag].append((event["step"], value))
    return series


def single(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


NAMES = {"loss": "Train/Samples/train_loss", "lr": "Train/Samples/lr"}


def assert_same_series(series, steps):
    for key in ("loss", "lr", "grad_norm", "step_ms", "samples_per_s", "tokens_per_s", "epoch", "step"):
        points = series[NAMES.get(key, f"zopt/{key}")]
        assert points == [(step["samples"], single(step[key])) for step in steps], f"{key}: {points}"


@test("boards/--tensorboard holds the steps of --metrics, over samples, under DeepSpeed's names")
def board():
    folder = scratch("board")
    succeed(command("--tensorboard", folder / "a" / "b", "--metrics", folder / "m"))
    steps = read_metrics(folder / "m")[1]
    assert len(steps) == 5
    series = read(folder / "a" / "b")
    assert_same_series(series, steps)
    assert "Train/Samples/loss_scale" not in series


@test("boards/a run that goes on voids what comes again; a fresh one voids everything")
def resumed():
    folder = scratch("board")
    flags = ("--tensorboard", folder / "b", "--metrics", folder / "m")
    succeed(command(*flags, "--checkpoint-dir", folder / "D", steps=3))
    succeed(command("--tensorboard", folder / "b", steps=6))  # of no checkpoint: it takes the place of all
    assert [step for step, _ in read(folder / "b")["zopt/step"]] == [8, 16, 24, 32, 40, 48]
    succeed(command(*flags, "--checkpoint-dir", folder / "D", "--resume=auto", steps=5))
    series = read(folder / "b")
    assert_same_series({tag: points[3:] for tag, points in series.items()}, read_metrics(folder / "m")[1][3:])
    assert [value for _, value in series["zopt/step"]] == [1, 2, 3, 4, 5]
    assert len(list((folder / "b").iterdir())) == 3


@test("boards/what is not finite, and the loss scale")
def scaled():
    folder = scratch("board")
    plan = compile_plan("gpt2-tiny", "--micro-batch=4", "--fp16", "--loss-scale-init-power=32")
    succeed(["zrun", plan, "--comm=local", "--threads", 1, "--data", DATA, "--steps", 4, "--tensorboard", folder / "b", "--metrics", folder / "m"])
    steps, series = read_metrics(folder / "m")[1], read(folder / "b")
    assert steps[0]["skipped"], steps
    assert [value for _, value in series["Train/Samples/loss_scale"]] == [step["loss_scale"] for step in steps]
    assert [value for _, value in series["zopt/skipped"]] == [float(step["skipped"]) for step in steps]
    norm = series["zopt/grad_norm"][0][1]
    assert not math.isfinite(norm) and str(norm) == steps[0]["grad_norm"], norm


@test("boards/a folder that cannot be is refused before step 1")
def refused():
    folder = scratch("board")
    (folder / "file").write_text("")
    for flags in ((), ("--dry-run",)):
        expect_refusal(execute(command("--tensorboard", folder / "file" / "b", *flags)), 1, r"file: is no folder")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# Asks at the end of the run, which waits for the command before it ends.
SCRAPER = """
import sys, urllib.request
for line in sys.stdin:
    if '"event":"end"' in line:
        open(sys.argv[2], "w").write(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/metrics", timeout=10).read().decode())
"""


def parse_exposition(text):
    """Prometheus's text format, strictly: help, type and value of each name, in this order."""
    values, types, lines = {}, {}, text.splitlines()
    assert text.endswith("\n") and len(lines) % 3 == 0, text
    for about, kind, sample in zip(*[iter(lines)] * 3):
        name, value = re.fullmatch(r"([a-z_]+) (\S+)", sample).groups()
        assert re.fullmatch(rf"# HELP {name} \S.*", about), about
        types[name] = re.fullmatch(rf"# TYPE {name} (gauge|counter)", kind).group(1)
        assert name not in values and (types[name] == "counter") == name.endswith("_total"), sample
        values[name] = float(value)
    return values


@test("boards/--prometheus tells the last step, over both ways of communication")
def endpoint():
    folder = scratch("prometheus")
    (folder / "scraper.py").write_text(SCRAPER)
    for comm in ("local", "mpi"):
        port = free_port()
        flags = [flag if flag != "--comm=local" else f"--comm={comm}" for flag in command("--metrics", folder / "m", "--prometheus", port)]
        done = succeed([*flags, "--on-metrics", f"{sys.executable} {folder / 'scraper.py'} {port} {folder / 'page'}"])
        assert "warning" not in done.stderr, done
        last, values = read_metrics(folder / "m")[1][-1], parse_exposition((folder / "page").read_text())
        (folder / "page").unlink()
        for name, key in (("step", "step"), ("samples", "samples"), ("tokens", "tokens"), ("loss", "loss"), ("gradient_norm", "grad_norm"), ("learning_rate", "lr"), ("samples_per_second", "samples_per_s")):
            assert values[f"zopt_{name}"] == last[key], f"{name}: {values}, but {last}"
        assert values["zopt_process_steps_total"] == 5 and values["zopt_last_step_timestamp_seconds"] > 1.6e9, values


@test("boards/a port that is taken ends the run before step 1")
def taken():
    folder = scratch("prometheus")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = execute(command("--prometheus", port, "--weights-out", folder / "w"))
        expect_refusal(done, 3, f"--prometheus: 127.0.0.1:{port}: .*Address already in use")
    assert not (folder / "w").exists()
    expect_refusal(execute(command("--prometheus", 70000)), 2, "70000")
