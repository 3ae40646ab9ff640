#!/usr/bin/env bash
# Runs the whole suite. What needs real hosts or a browser mostly waits, so it runs beside what needs the processor; its output
# follows at the end. The optional engine is compiled meanwhile, if it has to be, with what is left of the processor.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
pytest=(.venv/bin/pytest -q "$@")
output=$(mktemp)
trap 'kill $(jobs -p) 2>/dev/null; rm -f "$output"' EXIT
status=0

nice -n 19 tools/llama-cpp-python.sh &
engine=$!
"${pytest[@]}" -m "hosts or browser" >"$output" 2>&1 &
hosts=$!
"${pytest[@]}" -n 2 --dist loadfile -m "not hosts and not browser" --ignore tests/node_service/test_llama_cpp_python.py || status=1
echo "Waiting for the tests on real hosts …"
wait "$hosts" || status=1
cat "$output"
wait "$engine"
"${pytest[@]}" tests/node_service/test_llama_cpp_python.py || status=1
exit $status
