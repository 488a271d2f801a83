#!/usr/bin/env bash
# Builds the fuzzers of everything that parses foreign bytes, with AddressSanitizer and UndefinedBehaviorSanitizer, and runs each for a while (build/fuzz). A crash, a leak or an input that takes more than 10 s fails.
#
#   scripts/fuzz.sh [SECONDS [NAME...]]    (10, all: Config Safetensors Tokens Jsonl CheckpointIndex Onnx Plan)
#
# Onnx (the importer and the passes behind it) and Plan (what zrun reads) need the whole compiler: they link that of build/release, whose own code is not instrumented. Leaks, signals, aborts and endless
# loops are found, reads beyond a buffer only where they trap, and mutations are blind (Onnx's keep a model a model).
#
# Inputs that were found stay in build/fuzz/corpus/NAME, so that a later run goes on from them; what failed lies in build/fuzz/findings.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
seconds=${1:-10}
[ $# -eq 0 ] || shift
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(Config Safetensors Tokens Jsonl CheckpointIndex Onnx Plan)
out="$root/build/fuzz"
small=() large=()
for name in "${names[@]}"; do
  if [[ $name =~ ^(Onnx|Plan)$ ]]; then large+=("${name}Fuzzer"); else small+=("${name}Fuzzer"); fi
done
if [ ${#small[@]} -gt 0 ]; then
  cmake -S "$root" -B "$out" --preset asan -DZOPT_FUZZERS=ON > /dev/null
  ninja -C "$out" -j "$(jobs)" "${small[@]}"
fi
if [ ${#large[@]} -gt 0 ]; then
  cmake -S "$root" --preset release > /dev/null
  ninja -C "$build" -j "$(jobs)" "${large[@]}"
fi
mkdir -p "$out/findings"
# Debian's libMLIR is not instrumented (scripts/sanitize.sh).
export ASAN_OPTIONS=detect_container_overflow=0:allow_user_poisoning=0 LSAN_OPTIONS="suppressions=$root/test/Sanitizers/leaks.txt:print_suppressions=0" UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 ASAN_SYMBOLIZER_PATH=/usr/lib/llvm-22/bin/llvm-symbolizer

seed() { # NAME FOLDER: examples, with the byte that chooses in front
  local path i=0 n=0
  case "$1" in
  Config)
    for path in "$root"/configs/*.json; do printf '\0' | cat - "$path" > "$2/json-$((i += 1))"; done
    for path in "$root"/configs/*.yaml; do printf '\1' | cat - "$path" > "$2/yaml-$((i += 1))"; done
    awk -v folder="$2" '/^=== /{n++; skip=0; first=1; next} /^---$/{skip=1} !skip{printf "%s%s\n", first ? (FILENAME ~ /jobs/ ? "\001" : " ") : "", $0 > (folder "/case-" n); first=0}' "$root"/test/Unit/Config/corpus.txt "$root"/test/Unit/Config/jobs.txt
    ;;
  Safetensors) for path in "$root"/test/Models/*/batch.safetensors; do printf '\0' | cat - <(tail -c +9 "$path" | head -c 400) > "$2/$((i += 1))"; done ;;
  Tokens) head -c 400 "$root/examples/gpt2-text/text.txt" > "$2/text" ;;
  Onnx) # ONNX's own node tests, where libonnx-testdata has them, and the smallest of the tracked models
    local models=/usr/include/onnx/backend/test/data/node
    local every=$((seconds < 60 ? 16 : 1)) # a short run is no longer than its seeds
    [ ! -d $models ] || for path in "$models"/*/model.onnx; do [ $((n++ % every)) != 0 ] || [ "$(stat -c %s "$path")" -gt 4096 ] || cp "$path" "$2/node-$((i += 1))"; done
    cp "$root/test/Models/gpt2-dropout/model.onnx" "$2/gpt2-dropout"
    ;;
  Plan) # the plans of the tests, apart; comments are left out
    awk -v folder="$2" '/^\/\/ -----/ || FNR==1 {n++; first=1} !/^ *\/\// {printf "%s%s\n", first ? "\001" : "", $0 > (folder "/plan-" n); first=0}' "$root"/test/Conversion/verify-plan*.mlir "$root"/test/Conversion/convert-zero-to-plan*.mlir "$root"/test/Dialect/Plan/*.mlir
    ;;
  Jsonl) printf '\1{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}' > "$2/labels"; printf '\1{"prompt": [1, 2], "completion": [3]}' > "$2/pair" ;;
  esac
}

status=0
for name in "${names[@]}"; do
  say "$name, $seconds s"
  mkdir -p "$out/corpus/$name"
  seed "$name" "$out/corpus/$name"
  limits=(-timeout=10 -rss_limit_mb=1024 -max_len=4096) from=$out
  if [[ $name =~ ^(Onnx|Plan)$ ]]; then
    # Without coverage no seed is better than another: all are kept.
    limits=(-timeout=25 -rss_limit_mb=2048 -max_len=20000 -keep_seed=1)
    from=$build
  fi
  program=$(find "$from/test/Unit" "$from/bin" -name "${name}Fuzzer" -type f -print -quit)
  # A short run always begins alike, so that what it finds does not hang on luck. libFuzzer can take for ever to say what filled the memory.
  [ "$seconds" -ge 60 ] || limits+=(-seed=1)
  timeout --signal=KILL $((seconds + 120)) "$program" -max_total_time="$seconds" "${limits[@]}" -print_final_stats=1 -artifact_prefix="$out/findings/$name-" "$out/corpus/$name" > "$out/findings/$name.log" 2>&1 || status=1
  grep -E "stat::number_of_executed_units|SUMMARY|ERROR" "$out/findings/$name.log" || :
done
[ $status = 0 ] || say "a fuzzer failed: $out/findings"
exit $status
