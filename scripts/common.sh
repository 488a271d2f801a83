# Sourced by the other scripts: where things are, how to speak, what must be installed.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build="$root/build/release"

say() { printf '==> %s\n' "$*"; }
die() { printf '%s: error: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# Debian 12 packages. LLVM's CMake files look for zlib, zstd, libxml2, libcurl and libedit, with which Debian built it.
packages=(
  git ca-certificates cmake ninja-build ccache python3 python3-numpy
  clang-22 libclang-rt-22-dev lld-22 liblld-22-dev llvm-22-dev llvm-22-tools libmlir-22-dev mlir-22-tools
  zlib1g-dev libzstd-dev libxml2-dev libcurl4-openssl-dev libedit-dev
  libonnx-dev libonnx-testdata libprotobuf-dev protobuf-compiler
  libdnnl-dev libopenmpi-dev openmpi-bin libgloo-dev
  nlohmann-json3-dev libcli11-dev libspdlog-dev libxxhash-dev libyaml-cpp-dev libcpp-httplib-dev
  libgtest-dev libgmock-dev
)

# A python3 with numpy, which the execution tests read tensors with: the first one on PATH, or Debian's.
find_python() {
  local candidate
  for candidate in python3 /usr/bin/python3; do
    if "$candidate" -c 'import numpy' 2>/dev/null; then printf '%s' "$candidate"; return; fi
  done
  die "no python3 with numpy: install python3-numpy"
}

# Jobs for compilers: every core, but no more than one for 1.5 GiB of memory.
jobs() {
  local cores memory
  cores=$(nproc)
  memory=$(awk '/MemAvailable/ {print int($2 / 1572864)}' /proc/meminfo)
  [ "$memory" -ge 1 ] || memory=1
  [ "$cores" -le "$memory" ] && echo "$cores" || echo "$memory"
}

# Open MPI in containers: as root, and with more ranks than cores.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
