"""llama.cpp's own server as a program of the host, with the arguments of `llama-server` that a node's file would name.

`python -m tests.node_service.llama_server --model FILE --port N [--api-key-file FILE] …`
"""

import argparse
import signal
from pathlib import Path

import xllamacpp


def main() -> None:
    """Serve until a signal ends the process."""
    parser = argparse.ArgumentParser(prog="llama_server")
    parser.add_argument("--model", required=True)
    parser.add_argument("--alias", default="")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--api-key-file", type=Path)
    parser.add_argument("--ctx-size", type=int, default=1024)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache-type", default="f16")
    options = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias or options.model}
    params.n_ctx, params.n_parallel = options.ctx_size, options.parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    params.cache_type_k = params.cache_type_v = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{options.cache_type.upper()}")
    params.hostnames, params.port = ["127.0.0.1"], options.port
    params.ui = params.warmup = False
    if options.api_key_file is not None:
        params.api_keys = [options.api_key_file.read_text().strip()]
    server = xllamacpp.Server(params)
    while server:
        signal.pause()


if __name__ == "__main__":
    main()
