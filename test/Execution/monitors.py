"""What zrun tells beside its metrics file: tables, commands, the bridge to W&B."""
import csv
import json
import math
import sys
from html.parser import HTMLParser
from pathlib import Path

from harness import MODELS, compile_plan, execute, expect_refusal, read_metrics, scratch, succeed, test

DATA = MODELS / "gpt2-tiny" / "batch.safetensors"
BRIDGE = Path(__file__).resolve().parents[2] / "scripts" / "wandb_bridge.py"


def command(*flags, steps=5):
    return ["zrun", compile_plan("gpt2-tiny", "--micro-batch=4"), "--nproc", 2, "--comm=local", "--threads", 1, "--data", DATA, "--steps", steps, *flags]


def rows(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def assert_same_steps(table, steps):
    assert len(table) == len(steps), (table, steps)
    for row, step in zip(table, steps):
        for key, text in row.items():
            if key in step:
                assert float(text) == float(step[key]), f"{key}: {text} in the table, {step[key]} in the metrics"
            else:
                assert text == "", f"{key} is {text!r} in the table, and nothing in the metrics"


@test("monitors/--csv holds the steps of --metrics")
def table():
    folder = scratch("csv")
    succeed(command("--csv", folder / "run.csv", "--metrics", folder / "m"))
    steps = read_metrics(folder / "m")[1]
    assert_same_steps(rows(folder / "run.csv"), steps)
    assert set(steps[0]) - {"event", "time"} <= set(rows(folder / "run.csv")[0]), "a field of the metrics has no column"


@test("monitors/--csv goes on with the run")
def table_resumed():
    folder = scratch("csv")
    for steps in (3, 6):
        succeed(command("--csv", folder / "run.csv", "--metrics", folder / "m", "--checkpoint-dir", folder / "D", "--resume=auto", steps=steps))
    assert_same_steps(rows(folder / "run.csv"), read_metrics(folder / "m")[1])
    assert [int(row["step"]) for row in rows(folder / "run.csv")] == [1, 2, 3, 4, 5, 6]


@test("monitors/--csv that cannot be written, or is the metrics file, is refused")
def table_refused():
    folder = scratch("csv")
    expect_refusal(execute(command("--csv", folder / "none" / "run.csv")), 3, r"run\.csv")
    expect_refusal(execute(command("--csv", folder / "m", "--metrics", folder / "m")), 2, "--csv and --metrics both name")


@test("monitors/--on-metrics gets the lines of --metrics")
def on_metrics():
    folder = scratch("command")
    done = succeed(command("--on-metrics", f"tee {folder / 'copy'}", "--metrics", folder / "m"))
    assert (folder / "copy").read_bytes() == (folder / "m").read_bytes(), "the command got other lines"
    assert done.stdout == "", f"stdout carries only what was asked for: {done.stdout!r}"
    assert "warning" not in done.stderr, done


@test("monitors/--on-metrics over mpi: one command, of rank 0")
def on_metrics_mpi():
    folder = scratch("command")
    flags = [flag if flag != "--comm=local" else "--comm=mpi" for flag in command("--on-metrics", f"cat >> {folder / 'copy'}")]
    succeed(flags)
    events = [json.loads(line)["event"] for line in (folder / "copy").read_text().splitlines()]
    assert events == ["start"] + ["step"] * 5 + ["end"], events


@test("monitors/a command that dies is a warning; training goes on to the same bits")
def dying_command():
    folder = scratch("command")
    succeed(command("--weights-out", folder / "alone", steps=30))
    done = succeed(command("--weights-out", folder / "watched", "--on-metrics", "read line; exit 5", steps=30))
    assert done.stderr.count("ended with code 5") == 1, f"one warning: {done}"
    assert (folder / "alone").read_bytes() == (folder / "watched").read_bytes(), "a command changed the training"


FAKE_WANDB = '''
import json, os
class Run:
    def __init__(self): self.config, self.summary, self.calls = Recorder("config", self), Recorder("summary", self), []
    def log(self, numbers, step): self.calls.append(["log", {k: repr(v) for k, v in numbers.items()}, step])
    def finish(self): open(os.environ["CALLS"], "w").write(json.dumps(self.calls))
class Recorder:
    def __init__(self, name, run): self.name, self.run = name, run
    def update(self, values, **_): self.run.calls.append([self.name, values])
def init(**arguments):
    run = Run()
    run.calls.append(["init", arguments])
    return run
'''


@test("monitors/the bridge gives W&B the steps under DeepSpeed's names")
def bridge():
    folder = scratch("wandb")
    (folder / "wandb.py").write_text(FAKE_WANDB)
    done = succeed(command("--metrics", folder / "m", "--on-metrics", f"{sys.executable} {BRIDGE} --project p --team t"), PYTHONPATH=str(folder), CALLS=str(folder / "calls"))
    assert "warning" not in done.stderr, done
    calls = json.loads((folder / "calls").read_text())
    assert calls[0] == ["init", {"project": "p", "group": None, "entity": "t", "name": None}], calls[0]
    start, steps, _ = read_metrics(folder / "m")
    assert calls[1][0] == "config" and calls[1][1]["plan"] == start[0]["plan"], calls[1]
    logged = [call for call in calls if call[0] == "log"]
    assert [call[2] for call in logged] == [step["samples"] for step in steps], logged
    for call, step in zip(logged, steps):
        assert float(call[1]["Train/Samples/train_loss"]) == step["loss"] and float(call[1]["Train/Samples/lr"]) == step["lr"], (call, step)
        assert float(call[1]["zopt/grad_norm"]) == step["grad_norm"] and float(call[1]["zopt/step"]) == step["step"], (call, step)
    assert calls[-1][0] == "summary", calls[-1]


@test("monitors/the bridge warns of lines that are no records, and reads nan")
def bridge_lines():
    folder = scratch("wandb")
    (folder / "wandb.py").write_text(FAKE_WANDB)
    (folder / "lines").write_text('no json\n[1]\n{"event":"step","step":4,"samples":32,"loss":"nan"}\n{"event":"eval","step":4,"loss":2.5,"accuracy":0.5,"labels":9}\n')
    done = succeed(["/bin/sh", "-c", f"{sys.executable} {BRIDGE} < {folder / 'lines'}"], PYTHONPATH=str(folder), CALLS=str(folder / "calls"))
    assert done.stderr.count("is no record") == 2, done
    call, evaluation = json.loads((folder / "calls").read_text())[-2:]
    assert math.isnan(float(call[1]["Train/Samples/train_loss"])) and call[2] == 32, call
    assert evaluation == ["log", {"Eval/Samples/eval_loss": "2.5", "Eval/Samples/eval_accuracy": "0.5", "zopt/eval_labels": "9", "zopt/eval_step": "4"}, 32], evaluation


class Page(HTMLParser):
    """The tree of a page: every tag is closed in order, nothing is loaded, nothing runs."""

    def __init__(self, text):
        super().__init__()
        self.open, self.plots, self.cells, self.title = [], {}, [], ""
        self.feed(text)
        self.close()
        assert not self.open, f"tags left open: {self.open}"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        assert tag not in ("script", "link", "img", "iframe", "b") and not {"src", "href", "onload"} & attributes.keys(), (tag, attributes)
        if tag == "svg":
            self.plots[attributes["aria-label"]] = self.plot = {"polyline": [], "circle": [], "bars": []}
        elif tag == "polyline":
            self.plot["polyline"].append([tuple(map(float, pair.split(","))) for pair in attributes["points"].split()])
        elif tag == "circle":
            self.plot["circle"].append(float(attributes["cx"]))
        elif tag == "rect" and attributes.get("class") == "bar":
            self.plot["bars"].append(float(attributes["width"]))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.cells.append(data)
        elif self.open and self.open[-1] == "title":
            self.title += data


def page_of(folder):
    succeed(["zrun", "report", folder / "m", "-o", folder / "report.html"])
    return Page((folder / "report.html").read_text())


@test("monitors/report: plots follow the values of the run")
def report():
    folder = scratch("report")
    succeed(command("--metrics", folder / "m", steps=12))
    page = page_of(folder)
    start, steps, _ = read_metrics(folder / "m")
    assert page.plots.keys() >= {"loss", "learning rate", "gradient norm, before clipping", "tokens a second", "samples a second", "peak memory of a rank"}, page.plots.keys()
    [line] = page.plots["loss"]["polyline"]
    losses = [step["loss"] for step in steps]
    assert len(line) == 12, line
    low, high = min(losses), max(losses)
    for (x, y), loss in zip(line, losses):
        assert abs((192 - y) / 180 - (loss - low) / (high - low)) < 1e-3, f"loss {loss} is drawn at {y}"
    assert [x for x, _ in line] == sorted(x for x, _ in line), line
    bars = page.plots["peak memory of a rank"]["bars"]
    assert bars and bars[0::2] == bars[1::2], f"planned is measured: {bars}"
    assert start[0]["plan"] in page.cells, page.cells


@test("monitors/report: long runs keep their peaks, what is not finite is marked, text is escaped")
def report_corners():
    folder = scratch("report")
    records = [{"event": "step", "step": n, "loss": 9.0 if n == 7777 else 1.0, "grad_norm": "nan" if n == 100 else 1.0} for n in range(1, 20001)]
    records.append({"event": "warning", "text": "<b>&\"bold\"</b><script>x</script>"})
    (folder / "m").write_text("".join(json.dumps(record) + "\n" for record in records))
    page = page_of(folder)
    [line] = page.plots["loss"]["polyline"]
    assert len(line) <= 1200 and min(y for _, y in line) == 12, f"the one peak is lost among {len(line)} points"
    assert len(page.plots["gradient norm, before clipping"]["circle"]) == 1, page.plots
    assert any("<script>x</script>" in cell for cell in page.cells), page.cells


@test("monitors/report: of a run of one step, whose only loss is not finite")
def report_one():
    folder = scratch("report")
    (folder / "m").write_text('{"event":"step","step":1,"loss":"nan","lr":0.0}\n')
    page = page_of(folder)
    assert page.plots["loss"]["polyline"] == [] and len(page.plots["loss"]["circle"]) == 1 and len(page.plots["learning rate"]["polyline"]) == 1, page.plots


@test("monitors/report: what is no metrics file is refused, and no page is left")
def report_refused():
    folder = scratch("report")
    (folder / "m").write_text('{"event":"step","step":1}\n\n[3]\n{"event":"step"}\n')
    expect_refusal(execute(["zrun", "report", folder / "m", "-o", folder / "r"]), 1, "3 of 4 lines are no records.*: 2, 3, 4")
    (folder / "empty").write_text("")
    expect_refusal(execute(["zrun", "report", folder / "empty", "-o", folder / "r"]), 1, "holds no records")
    expect_refusal(execute(["zrun", "report", folder / "missing", "-o", folder / "r"]), 1, "missing: open: No such file")
    expect_refusal(execute(["zrun", "report", folder / "m"]), 2, "--output")
    assert not (folder / "r").exists()
