#!/usr/bin/env bash
# Runs the whole suite: what needs the processor first, then what needs real hosts or a browser and mostly waits. The optional
# engine is compiled meanwhile, if it has to be, with what is left of the processor.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
pytest=(.venv/bin/pytest -q -n 2 --dist loadfile "$@")
trap 'kill $(jobs -p) 2>/dev/null' EXIT
status=0

nice -n 19 tools/llama-cpp-python.sh &
engine=$!
"${pytest[@]}" -m "not hosts and not browser" --ignore tests/node_service/test_llama_cpp_python.py || status=1
# Upgrades of three hosts under load, the control plane on a host, and the scenarios of the roles take half an hour more:
# make test-switch, make molecule.
"${pytest[@]}" -m "hosts or browser" --ignore tests/hosts/test_upgrade.py \
    --ignore tests/hosts/test_control_plane.py --ignore tests/molecule || status=1
wait "$engine"
"${pytest[@]}" tests/node_service/test_llama_cpp_python.py || status=1
exit $status
