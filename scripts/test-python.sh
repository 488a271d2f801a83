#!/usr/bin/env bash
# Tests of python/zopt_data beside transformers and sentencepiece, of zrun's event files with TensorBoard's loader, of the bridge with W&B offline, and of a run's page in chromium (skipped where
# none is installed), in a virtual environment under build/ with the packages of PyPI.
#   scripts/test-python.sh [unittest arguments]
source "$(dirname "$0")/common.sh"
environment="$root/build/python"
[ -x "$environment/bin/python" ] || python3 -m venv "$environment"
"$environment/bin/python" -c 'import tokenizers, jinja2, transformers, tensorboard, sentencepiece, wandb' 2>/dev/null || "$environment/bin/pip" install -q 'tokenizers>=0.20' 'jinja2>=3.1' 'transformers>=4.46' 'tensorboard>=2.15' 'sentencepiece>=0.2' 'wandb>=0.19'
exec "$environment/bin/python" -m unittest discover -s "$root/python/tests" "$@"
