#!/usr/bin/env bash
# Builds the fuzzers of everything that parses foreign bytes, with AddressSanitizer and UndefinedBehaviorSanitizer, and runs each for a while (build/fuzz). A crash, a leak or an input that takes more than 10 s fails.
#
#   scripts/fuzz.sh [SECONDS [NAME...]]    (10, all: Config Safetensors Tokens Jsonl CheckpointIndex)
#
# Inputs that were found stay in build/fuzz/corpus/NAME, so that a later run goes on from them; what failed lies in build/fuzz/findings.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
seconds=${1:-10}
[ $# -eq 0 ] || shift
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(Config Safetensors Tokens Jsonl CheckpointIndex)
out="$root/build/fuzz"
cmake -S "$root" -B "$out" --preset asan -DZOPT_FUZZERS=ON > /dev/null
ninja -C "$out" -j "$(jobs)" "${names[@]/%/Fuzzer}"
mkdir -p "$out/findings"
export ASAN_OPTIONS=detect_container_overflow=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 ASAN_SYMBOLIZER_PATH=/usr/lib/llvm-22/bin/llvm-symbolizer

seed() { # NAME FOLDER: examples, with the byte that chooses in front
  local path i=0
  case "$1" in
  Config)
    for path in "$root"/configs/*.json; do printf '\0' | cat - "$path" > "$2/json-$((i += 1))"; done
    for path in "$root"/configs/*.yaml; do printf '\1' | cat - "$path" > "$2/yaml-$((i += 1))"; done
    awk -v folder="$2" '/^=== /{n++; skip=0; first=1; next} /^---$/{skip=1} !skip{printf "%s%s\n", first ? (FILENAME ~ /jobs/ ? "\001" : " ") : "", $0 > (folder "/case-" n); first=0}' "$root"/test/Unit/Config/corpus.txt "$root"/test/Unit/Config/jobs.txt
    ;;
  Safetensors) for path in "$root"/test/Models/*/batch.safetensors; do printf '\0' | cat - <(tail -c +9 "$path" | head -c 400) > "$2/$((i += 1))"; done ;;
  Tokens) head -c 400 "$root/examples/gpt2-text/text.txt" > "$2/text" ;;
  Jsonl) printf '\1{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}' > "$2/labels"; printf '\1{"prompt": [1, 2], "completion": [3]}' > "$2/pair" ;;
  esac
}

status=0
for name in "${names[@]}"; do
  say "$name, $seconds s"
  mkdir -p "$out/corpus/$name"
  seed "$name" "$out/corpus/$name"
  program=$(find "$out/test/Unit" "$out/bin" -name "${name}Fuzzer" -type f -print -quit)
  "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=4096 -print_final_stats=1 -artifact_prefix="$out/findings/$name-" "$out/corpus/$name" > "$out/findings/$name.log" 2>&1 || status=1
  grep -E "stat::number_of_executed_units|SUMMARY|ERROR" "$out/findings/$name.log" || :
done
[ $status = 0 ] || say "a fuzzer failed: $out/findings"
exit $status
