#!/usr/bin/env bash
# Packs zopt and zrun with the libraries they need into build/package/: a tarball that runs from any folder, and a wheel for pip. Neither needs root. The other machine
# brings Linux on x86-64 with glibc 2.36 and libstdc++ 12 or newer (Debian 12, Ubuntu 23.04, Fedora 37), and, for what uses them, Open MPI 4 (ranks under mpirun; --comm=local
# and --launcher=env do without) and NVIDIA's driver and libraries.
#
#   scripts/package.sh            builds what is not built, and packs
#   scripts/package.sh --no-build [--preset N]   packs build/release as it is; N of 1 compresses fast
#   scripts/test-package.sh       installs both in bare systems and trains there
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
if [ "${1:-}" = --no-build ]; then shift; else "$root/scripts/setup.sh" all; fi
exec "$(find_python)" "$root/scripts/package.py" --build "$build" --output "$root/build/package" "$@"
