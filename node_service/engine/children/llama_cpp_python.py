"""Child program: a model in llama-cpp-python, behind the few endpoints the node uses.

The library computes one request at a time, so requests wait for each other here. Its own
server is not used: it mixes up concurrent streams and goes on after the client has left.
"""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn

from node_service.engine.children.child import Orders, run_child
from node_service.engine.children.llama_cpp_http import Turn, make_app

_READY_DEADLINE_S = 30.0
_POOLING_MEAN = 1
# Numbers of ggml.h; the library has names for only some of them.
_GGML_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30}
_QUANTISED = frozenset({2, 3, 6, 7, 8, 20})


def main() -> None:
    """Serve one model until the node ends this process."""
    run_child(_serve)


def _serve(orders: Orders) -> dict[str, Any]:
    import llama_cpp

    on_gpu = bool(llama_cpp.llama_supports_gpu_offload())
    if not on_gpu and not orders["allow_cpu"]:
        sys.exit("error: the engine was built without GPU support, and allow_cpu is false")
    turn = Turn()

    class WatchedLlama(llama_cpp.Llama):  # type: ignore[misc]
        """The library offers no other way to stop a call that does not stream."""

        def generate(self, tokens: Any, *arguments: Any, **options: Any) -> Iterator[int]:
            yield from turn.watch(tokens, super().generate(tokens, *arguments, **options))

    llama = WatchedLlama(**_arguments(orders, on_gpu=on_gpu))
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(make_app(llama, orders, turn), log_config=None, access_log=False)
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, args=([listener],), daemon=True).start()
    deadline = time.monotonic() + _READY_DEADLINE_S
    while not server.started:
        if time.monotonic() > deadline:
            sys.exit("error: the HTTP server did not start")
        time.sleep(0.01)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    return {"url": url, "device": "cuda" if on_gpu else "cpu"}


def _arguments(orders: Orders, *, on_gpu: bool) -> dict[str, Any]:
    kv_type = _GGML_TYPES[orders["kv_cache_type"]]
    layers = -1 if orders["gpu_layers"] is None else orders["gpu_layers"]
    arguments = {
        "model_path": orders["path"],
        "n_ctx": orders["context"],
        "n_gpu_layers": layers if on_gpu else 0,
        # The library knows no `auto`: on where it is needed or known to be faster.
        "flash_attn": orders["flash_attention"] == "on"
        or (orders["flash_attention"] == "auto" and (on_gpu or kv_type in _QUANTISED)),
        "type_k": kv_type,
        "type_v": kv_type,
        "n_threads": orders["threads"],
        "n_threads_batch": orders["threads"],
        "embedding": orders["embedding"],
    }
    if orders["embedding"] and not orders["pooling"]:
        arguments["pooling_type"] = _POOLING_MEAN
    return arguments


if __name__ == "__main__":
    main()
