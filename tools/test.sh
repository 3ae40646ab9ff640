#!/usr/bin/env bash
# Runs the whole suite: what can run side by side first, then what needs the machine for itself.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
status=0
.venv/bin/pytest -q -n "${TEST_PROCESSES:-2}" --dist loadfile -m "not hosts and not browser" "$@" || status=1
.venv/bin/pytest -q -m "hosts or browser" "$@" || status=1
exit $status
