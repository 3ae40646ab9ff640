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
    echo "Compiling llama-cpp-python $version (once, about a minute)"
    # Portable code; and what the tests of a tiny model do not need is not compiled: image models, the command line tools'
    # library (more than half of the whole; its option is forced, only a variable of the project hides it), a third of the speed.
    project=$(mktemp --suffix .cmake)
    trap 'rm -f "$project"' EXIT
    echo 'set(LLAMA_BUILD_COMMON OFF)' > "$project"
    export CMAKE_ARGS="-DGGML_NATIVE=OFF -DLLAVA_BUILD=OFF -DLLAMA_ALL_WARNINGS=OFF -DCMAKE_PROJECT_llama_cpp_INCLUDE=$project
        -DCMAKE_C_FLAGS_RELEASE=-O1 -DCMAKE_CXX_FLAGS_RELEASE=-O1"
    if ! timeout 1800 .venv/bin/python -m pip wheel --quiet --no-deps --require-hashes \
            --wheel-dir "$cache" -r requirements/llama.txt; then
        echo "llama-cpp-python could not be built here: its tests will be skipped." >&2
        exit 0
    fi
fi
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps "$cache"/diskcache-*.whl "$(wheel)"
