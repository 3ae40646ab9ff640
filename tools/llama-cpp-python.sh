#!/usr/bin/env bash
# Builds the optional engine llama-cpp-python for the tests: some minutes once, then it comes from uv's cache of the user.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/python -c "import llama_cpp" 2>/dev/null && exit 0
echo "Installing llama-cpp-python (the first time it is compiled, which takes about five minutes)"
# Portable code, and without the image models that no test uses.
export CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF"
if ! timeout 1800 .venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes -r requirements/llama.txt; then
    echo "llama-cpp-python could not be built here: its tests will be skipped." >&2
fi
