#!/usr/bin/env bash
# The README's second command: installs, builds and runs every test. The last line is the sum over lit, GoogleTest and the execution tests.
#
#   scripts/test.sh          the default tests
#   scripts/test.sh --full   also the larger grid of the execution tests (scripts/full-tests.sh)
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
"$root/scripts/setup.sh" all

python=$(find_python)
results="$build/test-results"
rm -rf "$results"
mkdir -p "$results"

# Each runner leaves a JSON file with one entry a test; a runner that leaves none counts as one failure, so that nothing is lost in silence.
say "lit and GoogleTest"
/usr/lib/llvm-22/bin/lit -sv -j "$(nproc)" --output "$results/lit.json" "$build/test" || :
say "execution tests"
"$python" "$root/test/Execution/run.py" --tools "$build/bin" --output "$results/execution.json" "$@" || :

"$python" - "$results/lit.json" "$results/execution.json" <<'PYTHON'
import json, sys
passed, failed, skipped = 0, [], []
for path in sys.argv[1:]:
    try:
        tests = json.load(open(path))["tests"]
    except (OSError, ValueError, KeyError) as error:
        failed.append(f"{path}: {error}")
        continue
    if not tests:
        failed.append(f"{path}: no test ran")
    for test in tests:
        if test["code"] == "PASS":
            passed += 1
        elif test["code"] == "UNSUPPORTED":
            skipped.append(test["name"])
        else:
            failed.append(f"{test['name']}: {test['code']}")
for name in skipped:
    print(f"skipped (this machine lacks what it requires): {name}")
for name in failed:
    print(f"not passed: {name}")
print(f"{passed} passed, {len(failed)} failed")
sys.exit(1 if failed else 0)
PYTHON
