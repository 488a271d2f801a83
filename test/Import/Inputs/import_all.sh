#!/bin/sh
# Imports every model of a folder: what is said, without the folder, and the exit code.
#   import_all.sh ZOPT FOLDER
cd "$2" || exit 1
for model in *.onnx inside/*.onnx; do echo "${model%.onnx}"; done | LC_ALL=C sort | while read -r name; do
  said=$("$1" "$name.onnx" --pass-pipeline='builtin.module(canonicalize)' 2>&1 >/dev/null)
  code=$?
  echo "== $name exit $code"
  echo "$said" | sed 's|inside/||'
done
echo "== end"
