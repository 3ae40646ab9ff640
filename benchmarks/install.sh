#!/bin/bash
# Installs the peers, each into an environment of its own in the user's cache. Safe to run again; what cannot be installed
# is left out of the comparison.
set -u
home=${XDG_CACHE_HOME:-$HOME/.cache}/muster/bench
python=${PYTHON:-python3}
venv() {  # venv NAME PACKAGE...
  local dir=$home/$1; shift
  [ -e "$dir/.installed" ] && return
  echo "bench: installing $* into $dir"
  "$python" -m venv "$dir" && "$dir/bin/python" -m pip install -q "$@" && touch "$dir/.installed"
}
mkdir -p "$home"
venv py fastapi uvicorn httpx aiohttp uvloop httptools orjson
venv vllm vllm-router
venv litellm 'litellm[proxy]' uvloop
command -v nginx > /dev/null || echo "bench: no nginx here (Debian: apt-get install nginx-light); it is left out"
exit 0
