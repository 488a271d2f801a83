#!/usr/bin/env bash
# The README's first command: installs, builds, compiles examples/gpt2-text and trains it on real text with four ranks, ZeRO-3, bf16.
#
#   scripts/train-example.sh [STEPS]      (default 800)
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
steps=${1:-800}
"$root/scripts/setup.sh"

example="$root/examples/gpt2-text"
out="$root/build/example"
mkdir -p "$out"
export PATH="$build/bin:$PATH"

say "compiling: zopt --zero-stage=3 --bf16 --micro-batch=4 --lr=3e-3 --clip=1 model.onnx -o plan.mlir"
zopt --zero-stage=3 --bf16 --micro-batch=4 --lr=3e-3 --clip=1 "$example/model.onnx" -o "$out/plan.mlir"

say "training: zrun plan.mlir --nproc 4 --data text.txt --shuffle --steps $steps"
zrun "$out/plan.mlir" --nproc 4 --data "$example/text.txt" --shuffle --steps "$steps" --metrics "$out/metrics.jsonl" --weights-out "$out/weights.safetensors"

"$(find_python)" - "$out/metrics.jsonl" <<'PYTHON'
import json, sys
events = [json.loads(line) for line in open(sys.argv[1])]
steps = [e for e in events if e["event"] == "step"]
end = next(e for e in events if e["event"] == "end")
tail = [e["loss"] for e in steps[-20:]]
print(f"==> loss {steps[0]['loss']:.3f} -> {sum(tail) / len(tail):.3f} nats a byte (mean of the last {len(tail)} steps) after {steps[-1]['tokens']} tokens "
      f"in {end['seconds']:.0f} s; planned peak {events[0]['planned_peak']['device']} bytes a rank, measured {end['measured_peak']['device']}")
PYTHON
say "weights are in $out/weights.safetensors, metrics in $out/metrics.jsonl"
