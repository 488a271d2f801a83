#!/usr/bin/env bash
# Tests of python/zopt_data beside transformers, of python/zopt_export with zopt and zrun of build/release, and of zrun's event files with TensorBoard's loader, in a virtual environment under build/ with
# the packages of PyPI. ZOPT_PYTHON names another interpreter that has them.
#   scripts/test-python.sh [unittest arguments]
source "$(dirname "$0")/common.sh"
environment="$root/build/python"
python="${ZOPT_PYTHON:-$environment/bin/python}"
[ -x "$python" ] || python3 -m venv "$environment"
"$python" -c 'import tokenizers, jinja2, transformers, tensorboard' 2>/dev/null || "$python" -m pip install -q 'tokenizers>=0.20' 'jinja2>=3.1' 'transformers>=4.46' 'tensorboard>=2.15'
"$python" -c 'import torch, onnx, onnxscript, onnxruntime, safetensors' 2>/dev/null || "$python" -m pip install -q 'torch>=2.9' 'onnx>=1.18' 'onnxscript>=0.5' onnxruntime safetensors
exec "$python" -m unittest discover -s "$root/python/tests" "$@"
