#!/usr/bin/env bash
# Makes .venv with exactly what requirements/$1.txt locks. Usage: tools/env.sh control|dev
# Needs any python3 with pip or venv, and somewhere a Python >= 3.12; says what is missing otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:?usage: tools/env.sh control|dev}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/muster
stamp=.venv/.muster-$what
sum=$(cat "requirements/$what.txt" requirements/build.txt pyproject.toml | sha256sum | cut -c1-64)
[ "$(cat "$stamp" 2>/dev/null)" = "$sum" ] && exit 0

find_uv() {
    # By the lock: the one that is kept is of this version and no other.
    local own=$cache/uv-$(sha256sum requirements/uv.txt | cut -c1-16)
    for uv in "${UV:-}" "$(command -v uv || true)" "$own/bin/uv"; do
        if [ -n "$uv" ] && "$uv" --version >/dev/null 2>&1; then echo "$uv"; return; fi
    done
    echo "Installing uv under $own" >&2
    mkdir -p "$cache"
    local locked=(--quiet --require-hashes --only-binary :all: --no-deps -r requirements/uv.txt)
    if python3 -m venv "$own" >/dev/null 2>&1; then
        "$own/bin/python" -m pip install "${locked[@]}" >&2 || true
    else
        python3 -m pip install --target "$own" "${locked[@]}" >&2 || true
    fi
    [ -x "$own/bin/uv" ] || { echo "uv could not be installed: install it yourself (pip install uv) and run again." >&2; exit 1; }
    echo "$own/bin/uv"
}

# uv's own search trips over shims that name a Python which is not there, so candidates are tried.
find_python() {
    local candidates=("${PYTHON:-}" python3.13 python3.14 python3.12 python3)
    [ -d "${PYENV_ROOT:-$HOME/.pyenv}/versions" ] && candidates+=("${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python3)
    for python in "${candidates[@]}"; do
        [ -n "$python" ] && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null || continue
        "$python" -c 'import sys; print(sys.executable)'
        return
    done
    "$1" python find --no-project '>=3.12' 2>/dev/null && return
    echo "No Python >= 3.12 was found. Install one (or: $1 python install 3.13), or set PYTHON=/path/to/python." >&2
    exit 1
}

uv=$(find_uv)
if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
    "$uv" venv --quiet --clear --python "$(find_python "$uv")" .venv
fi
"$uv" pip install --quiet --python .venv/bin/python --require-hashes -r "requirements/$what.txt"
"$uv" pip install --quiet --python .venv/bin/python --no-deps --build-constraints requirements/build.txt --editable .
echo "$sum" > "$stamp"
