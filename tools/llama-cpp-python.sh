#!/usr/bin/env bash
# Installs the optional engine llama-cpp-python for the tests. PyPI has it as source only: it is compiled once, which takes
# some minutes, and the wheel is kept in the user's cache, by version.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/python -c "import llama_cpp" 2>/dev/null && exit 0
version=$(sed -n 's/^llama-cpp-python==\([^ ]*\).*/\1/p' requirements/llama.txt)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/muster/wheels
wheel() { ls "$cache/llama_cpp_python-$version"-*"$(uname -m)".whl 2>/dev/null; }
if ! wheel >/dev/null; then
    echo "Compiling llama-cpp-python $version (once, about five minutes)"
    # Portable code, and without the image models that no test uses.
    export CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF"
    if ! timeout 1800 .venv/bin/uv tool run --quiet --python .venv/bin/python pip wheel --quiet --no-deps --require-hashes \
            --wheel-dir "$cache" -r requirements/llama.txt; then
        echo "llama-cpp-python could not be built here: its tests will be skipped." >&2
        exit 0
    fi
fi
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps "$cache"/diskcache-*.whl "$(wheel)"
