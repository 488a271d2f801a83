#!/usr/bin/env bash
# Installs what zopt needs (Debian 12; as root) or checks that it is there, then builds build/release. Asks nothing; running it again is quick.
#
#   scripts/setup.sh [TARGET...]      ninja targets (default: zopt and zrun; `all` builds the tests too)
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

missing_packages() {
  local package
  for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || :)" = installed ] || printf '%s\n' "$package"
  done
}

command -v dpkg-query >/dev/null || die "this script knows Debian 12; elsewhere install the counterparts of: ${packages[*]}, then run cmake --preset release && ninja -C build/release"
mapfile -t missing < <(missing_packages)
if [ ${#missing[@]} -gt 0 ]; then
  [ "$(id -u)" = 0 ] || die "missing packages (install them as root): apt-get install ${missing[*]}"
  say "installing ${#missing[@]} packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q </dev/null
  apt-get install -q -y --no-install-recommends "${missing[@]}" </dev/null
else
  say "all ${#packages[@]} packages are installed"
fi

# Attention on GPUs is built against cudnn-frontend's headers, which Debian has not: fetched once, where CUDA's headers are too. Without them everything else builds.
frontend="$root/build/cudnn-frontend"
cuda_headers="${CUDA_HOME:-/usr/local/cuda}/include"
fetch_frontend() {
  local version=1.32.0 sum=c6006556017a4d1c914c52a556c71b1267f2d6a0500f742e7b4edef539878df0 wheels wheel python
  python=$(find_python)
  wheels=$(mktemp -d)
  # The headers are the same in every wheel of a version: one is named, so that its checksum can be.
  "$python" -m pip download -q --no-deps --only-binary=:all: --implementation cp --python-version 3.11 --platform manylinux_2_28_x86_64 -d "$wheels" "nvidia-cudnn-frontend==$version" || return 1
  wheel=$(ls "$wheels"/*.whl)
  printf '%s  %s\n' "$sum" "$wheel" | sha256sum --check --quiet - || return 1
  mkdir -p "$frontend"
  "$python" -c 'import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); z.extractall(sys.argv[2], [n for n in z.namelist() if n.startswith("include/") or "/licenses/" in n])' "$wheel" "$frontend"
  rm -rf "$wheels"
}
if [ -f "$cuda_headers/cudnn_graph.h" ] && [ ! -f "$frontend/include/cudnn_frontend.h" ]; then
  say "fetching the headers of cudnn-frontend into $frontend"
  fetch_frontend || say "could not fetch them (pip download nvidia-cudnn-frontend): attention on GPUs is left out"
fi

# A build folder that CMake made for another place or compiler cannot be used: start afresh.
if [ -f "$build/CMakeCache.txt" ] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$build/CMakeCache.txt"; then
  say "removing $build: it was configured for another checkout"
  rm -rf "$build"
fi
say "configuring $build"
cmake -S "$root" --preset release -DPython3_EXECUTABLE="$(command -v "$(find_python)")"
say "building with $(jobs) jobs"
[ $# -gt 0 ] || set -- zopt zrun
ninja -C "$build" -j "$(jobs)" "$@"
say "built $build/bin/zopt and $build/bin/zrun"
