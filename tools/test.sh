#!/usr/bin/env bash
# Runs all tests but the slow ones. Three workers for two cores: what needs real hosts or a browser mostly waits, and others
# compute meanwhile.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
exec .venv/bin/pytest -q --dist loadfile --no-loadscope-reorder -n 3 -m "not slow" "$@"
