#!/usr/bin/env bash
# Installs the peers, each into an environment of its own in the user's cache. Safe to run again; what cannot be installed is said
# and left out of the comparison.
set -u
cd "$(dirname "$0")/.." || exit 1
home=${XDG_CACHE_HOME:-$HOME/.cache}/muster/bench
uv=$PWD/.venv/bin/uv

environment() {  # environment NAME PACKAGE...
    local dir=$home/$1; shift
    [ "$(cat "$dir/.installed" 2>/dev/null)" = "$*" ] && return
    echo "bench: installing $* into $dir"
    if "$uv" venv --quiet --clear --python .venv/bin/python "$dir" && "$uv" pip install --quiet --python "$dir/bin/python" "$@"; then
        echo "$*" > "$dir/.installed"
    else
        echo "bench: $1 could not be installed; what needs it is left out" >&2
        rm -rf "$dir"
    fi
}

unpack_nginx() {  # From Debian's packages, without installing them.
    command -v nginx >/dev/null || [ -x "$home/nginx/usr/sbin/nginx" ] && return
    echo "bench: unpacking Debian's nginx into $home/nginx"
    local got
    got=$(mktemp -d) && (cd "$got" && apt-get download -qq nginx nginx-light 2>/dev/null) && ls "$got"/*.deb >/dev/null 2>&1 \
        && for package in "$got"/*.deb; do dpkg-deb -x "$package" "$home/nginx"; done \
        || echo "bench: nginx could not be had from Debian's packages; it is left out" >&2
    rm -rf "$got"
}

mkdir -p "$home"
environment py fastapi==0.163.2 uvicorn==0.54.0 httpx==0.28.1 aiohttp==3.14.5 uvloop==0.23.0 httptools==0.9.0 orjson
environment vllm vllm-router==0.1.17
environment litellm 'litellm[proxy]==1.106.2' uvloop==0.23.0
unpack_nginx
exit 0
