#!/usr/bin/env bash
# Builds with a sanitizer and runs the tests; any finding, in any process, fails.
#
#   scripts/sanitize.sh address [RUN.PY ARGUMENTS...]   AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer over lit, GoogleTest and the execution tests (build/asan)
#   scripts/sanitize.sh thread  [RUN.PY ARGUMENTS...]   ThreadSanitizer over the runtime: its GoogleTest programs, and the execution tests whose ranks are threads (build/tsan)
#
# Findings lie in build/asan/findings and build/tsan/findings, one file a process.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
kind=${1:-address}
[ $# -eq 0 ] || shift
python=$(find_python)
suppressions="$root/test/Sanitizers"
symbolizer=/usr/lib/llvm-22/bin/llvm-symbolizer
# The compiler and the tests are several times slower; a command that takes its time does not hang.
run_py=("$python" "$root/test/Execution/run.py" --sanitized --patience 6)
status=0

begin() { # PRESET TARGET...
  out="$root/build/$1"
  say "building $out"
  cmake -S "$root" --preset "$1" -DPython3_EXECUTABLE="$(command -v "$python")"
  shift
  ninja -C "$out" -j "$(jobs)" "$@"
  findings="$out/findings"
  rm -rf "$findings"
  mkdir -p "$findings"
}

case "$kind" in
address)
  begin asan all
  # Debian's libMLIR is not instrumented: it does not tell of the containers and allocators of LLVM that it fills, so what our half of their inline code says of them must not count either.
  export ASAN_OPTIONS="detect_container_overflow=0:allow_user_poisoning=0:detect_stack_use_after_return=1:exitcode=99:log_path=$findings/address"
  export LSAN_OPTIONS="suppressions=$suppressions/leaks.txt:print_suppressions=0:exitcode=98"
  export UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1:exitcode=97:log_path=$findings/undefined"
  export ASAN_SYMBOLIZER_PATH="$symbolizer" LSAN_SYMBOLIZER_PATH="$symbolizer" UBSAN_SYMBOLIZER_PATH="$symbolizer"
  clang-22 -O1 -shared -fPIC "$suppressions/keep_loaded.c" -o "$out/lib/libkeep_loaded.so"
  export LD_PRELOAD="$out/lib/libkeep_loaded.so"
  say "lit and GoogleTest"
  /usr/lib/llvm-22/bin/lit -sv -j "$(nproc)" "$out/test" || status=1
  say "execution tests"
  "${run_py[@]}" --tools "$out/bin" "$@" || status=1
  ;;
thread)
  # What runs is the runtime; the compiler that its launcher loads is the plain one.
  "$root/scripts/setup.sh"
  programs=(RuntimeCoreTests RuntimeMatmulTests RuntimeLocalCommunicatorTests RuntimeExecutorTests RuntimeDataTests RuntimeMonitorTests RuntimeLaunchTests)
  begin tsan zrun "${programs[@]}"
  ln -sfn "$build/bin/zopt" "$out/bin/zopt"
  export ZOPT_COMPILER="$build/lib/libZoptCompiler.so"
  export TSAN_OPTIONS="suppressions=$suppressions/races.txt:second_deadlock_stack=1:die_after_fork=0:exitcode=66:log_path=$findings/thread:external_symbolizer_path=$symbolizer"
  for program in "${programs[@]}"; do
    say "$program"
    "$out/test/Unit/bin/$program" --gtest_brief=1 || status=1
  done
  say "execution tests"
  [ $# -gt 0 ] || set -- --filter '^(?!.*(mpi|rank:|hangs))(I1/.*ranks[234]/|I2/|I6/(gpt2|llama)|signals/|faults/|disk full/|bad-data/|run/)'
  "${run_py[@]}" --tools "$out/bin" "$@" || status=1
  ;;
*) die "expects address or thread, but got $kind" ;;
esac

for file in "$findings"/*; do
  [ -e "$file" ] || continue
  # What AddressSanitizer says of itself where a library switches stacks is no finding.
  grep -q -v "doesn't fully support makecontext/swapcontext" "$file" || continue
  status=1
  grep -h -m1 -E 'ERROR: |WARNING: |runtime error: ' "$file" | sed "s|^|finding: ${file#"$root/"}: |"
done
[ $status = 0 ] && say "no findings" || say "failed; findings are in $findings"
exit $status
