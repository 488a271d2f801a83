#!/usr/bin/env bash
# Tests of python/zopt_data beside transformers and sentencepiece, of python/zopt_export with zopt and zrun of build/release, of zrun's event files with TensorBoard's loader, of the bridge with W&B offline, and
# of a run's page in chromium (skipped where none is installed), in a virtual environment under build/ with the packages of PyPI. ZOPT_PYTHON names another interpreter that has them.
#   scripts/test-python.sh [unittest arguments]
source "$(dirname "$0")/common.sh"
environment="$root/build/python"
python="${ZOPT_PYTHON:-$environment/bin/python}"
[ -x "$python" ] || python3 -m venv "$environment"
"$python" -c 'import tokenizers, jinja2, transformers, tensorboard, sentencepiece, wandb' 2>/dev/null || "$python" -m pip install -q 'tokenizers>=0.20' 'jinja2>=3.1' 'transformers>=4.46' 'tensorboard>=2.15' 'sentencepiece>=0.2' 'wandb>=0.19'
"$python" -c 'import torch, onnx, onnxscript, onnxruntime, safetensors' 2>/dev/null || "$python" -m pip install -q 'torch>=2.9' 'onnx>=1.18' 'onnxscript>=0.5' onnxruntime safetensors
exec "$python" -m unittest discover -s "$root/python/tests" "$@"
