#!/usr/bin/env bash
# Tests and benchmarks on a machine with a GPU (docs/Gpu.md): of build/release, or else of the bundle in build/gpu-bundle, or else of what scripts/setup.sh builds.
#
#   scripts/gpu-tests.sh [correctness|ranks|sanitizer|faults|benchmarks|training|scaling|all]... [--quick] [--limit SECONDS] [--output FILE]
#
# The other flags are those of test/Gpu/run.py (--help).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
python=$(find_python)
tools="$build/bin"
if ! [ -x "$tools/zrun" ]; then
  if compgen -G "$root/build/gpu-bundle/*.tar.xz" >/dev/null; then
    tools="$root/build/gpu/bin"
    bundle=$(cksum "$root"/build/gpu-bundle/*.tar.xz)
    if [ "$bundle" != "$(cat "$root/build/gpu/unpacked" 2>/dev/null || :)" ]; then
      rm -rf "$root/build/gpu"
      "$root/scripts/gpu-bundle.sh" --unpack "$root/build/gpu"
      printf '%s\n' "$bundle" >"$root/build/gpu/unpacked"
    fi
  else
    "$root/scripts/setup.sh"
  fi
fi
exec "$python" "$root/test/Gpu/run.py" --tools "$tools" "$@"
