#!/usr/bin/env bash
# Runs the whole suite. Three workers for two cores: what needs real hosts or a browser mostly waits, and others compute meanwhile.
# The optional engine is compiled beside it, if it has to be, with what is left of the processor; its tests come last.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
pytest=(.venv/bin/pytest -q --dist loadfile --no-loadscope-reorder "$@")
trap 'kill $(jobs -p) 2>/dev/null' EXIT
status=0

nice -n 19 tools/llama-cpp-python.sh &
engine=$!
# Upgrades of three hosts under load and the control plane on a host want the machine for themselves: make test-switch.
"${pytest[@]}" -n 3 -m "not compiled" --ignore tests/hosts/test_upgrade.py --ignore tests/hosts/test_control_plane.py || status=1
wait "$engine"
"${pytest[@]}" -m compiled tests/node_service || status=1
exit $status
