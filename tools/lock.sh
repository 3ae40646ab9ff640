#!/usr/bin/env bash
# Resolves the dependencies of both distributions again, with hashes, for every platform and Python we support.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() { .venv/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --custom-compile-command "make lock" "$@"; }
compile --python-version 3.12 pyproject.toml -o requirements/control.txt
# What installs all else, before there is anything else: the same versions, by themselves.
echo uv | compile --python-version 3.8 --no-deps -c requirements/control.txt - -o requirements/uv.txt
# What builds our own wheels.
printf '%s\n' hatchling editables | compile --python-version 3.11 - -o requirements/build.txt
compile --python-version 3.11 node_service/pyproject.toml -o requirements/node.txt
echo pykdtree | compile --python-version 3.11 --no-deps - -o requirements/native.txt
compile --python-version 3.12 -c requirements/control.txt -c requirements/node.txt \
    pyproject.toml node_service/pyproject.toml --group pyproject.toml:dev -o requirements/dev.txt
echo llama-cpp-python | compile --python-version 3.12 -c requirements/dev.txt - -o requirements/llama.txt
# Clients of the conformance tests, each in an environment of its own.
echo langchain-openai | compile --python-version 3.12 - -o tests/conformance/clients/langchain.txt
echo litellm | compile --python-version 3.12 - -o tests/conformance/clients/litellm.txt
