#!/usr/bin/env bash
# Every test of scripts/test.sh and the whole grid of the execution tests: all stages, ranks, precisions, accumulations and bucket sizes over mpi too.
exec "$(dirname "${BASH_SOURCE[0]}")/test.sh" --full "$@"
