#!/usr/bin/env bash
# Packs zopt and zrun with the libraries that a GPU machine may lack (LLVM, MLIR, oneDNN, ONNX, protobuf ...) into build/gpu-bundle/, a folder of a few compressed
# files, so that a machine without compilers or a network runs what was built here. The other machine brings glibc, libstdc++, Open MPI 4.1 and CUDA.
#
#   scripts/gpu-bundle.sh                    make it from build/release
#   scripts/gpu-bundle.sh --unpack DIR       on the other machine: DIR/bin/zopt, DIR/bin/zrun, DIR/lib, DIR/graphs
#   scripts/gpu-bundle.sh --check DIR        which of its libraries an unpacked bundle would take from this machine; fails where it should not
#   scripts/gpu-bundle.sh --programs PLAN... compile plans ahead of time into build/gpu-programs/, a cache for zrun --cache-dir
#
# --help lists the rest. Needs python3, xz and, to make a bundle, binutils and clang-22.
exec python3 "$(dirname "${BASH_SOURCE[0]}")/gpu_bundle.py" "$@"
