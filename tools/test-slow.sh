#!/usr/bin/env bash
# Runs the slow tests. Upgrades under load and the control plane on a host come last, since they want the machine for themselves.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
alone=(tests/hosts/test_upgrade.py tests/hosts/test_control_plane.py)
status=0

tools/llama-cpp-python.sh || status=1
.venv/bin/pytest -q --dist loadfile --no-loadscope-reorder -n 2 -m slow "${alone[@]/#/--ignore=}" "$@" || status=1
.venv/bin/pytest -q -m slow "${alone[@]}" "$@" || status=1
exit $status
