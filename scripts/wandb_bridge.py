#!/usr/bin/env python3
"""Gives the records of a run to Weights & Biases: zrun plan.mlir --on-metrics 'scripts/wandb_bridge.py --project NAME'

Reads one JSON object a line until the input ends. DeepSpeed's keys of the section `wandb` are the flags: project, group, team. W&B's own variables count too (WANDB_MODE=offline, WANDB_API_KEY).
"""
import argparse
import json
import sys

SERIES = {"loss": "Train/Samples/train_loss", "lr": "Train/Samples/lr", "loss_scale": "Train/Samples/loss_scale"}  # DeepSpeed's names
EVALUATION = {"loss": "Eval/Samples/eval_loss", "perplexity": "Eval/Samples/eval_perplexity", "accuracy": "Eval/Samples/eval_accuracy"}


def series(record, names, prefix):
    """The record's numbers: those in `names` under that name, others under the prefix. What JSON cannot hold came as a string."""
    numbers = {}
    for key, value in record.items():
        if value in ("nan", "inf", "-inf"):
            value = float(value)
        if isinstance(value, (int, float)) and key != "time":
            numbers[names.get(key, prefix + key)] = value
    return numbers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", default="deepspeed", help="(deepspeed, as DeepSpeed's)")
    parser.add_argument("--group")
    parser.add_argument("--team", help="the entity that owns the project")
    parser.add_argument("--name", help="of the run")
    arguments = parser.parse_args()
    try:
        import wandb
    except ImportError as error:
        sys.exit(f"wandb_bridge: error: {error}; pip install wandb")
    run = wandb.init(project=arguments.project, group=arguments.group, entity=arguments.team, name=arguments.name)
    samples = 0
    for number, line in enumerate(sys.stdin, 1):
        try:
            record = json.loads(line)
            event = record["event"]
        except (ValueError, KeyError, TypeError) as error:
            print(f"wandb_bridge: warning: line {number} is no record: {error!r}", file=sys.stderr)
            continue
        if event == "start":
            run.config.update({key: value for key, value in record.items() if key not in ("event", "time")}, allow_val_change=True)
        elif event == "step":
            # Over samples, as DeepSpeed has it and --tensorboard; zopt/step is a series.
            samples = record.get("samples", samples)
            run.log(series(record, SERIES, "zopt/"), step=samples)
        elif event == "eval":
            run.log(series(record, EVALUATION, "zopt/eval_"), step=samples)
        elif event == "end":
            run.summary.update({"seconds": record["seconds"], "measured_peak": record["measured_peak"]})
    run.finish()


if __name__ == "__main__":
    main()
