"""Child program: llama.cpp's own server inside this process, by way of xllamacpp."""

import sys
from typing import Any

from node_service.engine.children.child import Orders, run_child

_PROMPT_CACHE_MIB = 512  # llama.cpp's default is 8 GiB of RAM for each model
_POOLING_MEAN = 1
_VERBOSITY = 4  # below that, llama.cpp does not say how many layers went to the GPU
_FLASH_ATTENTION = {"auto": "AUTO", "on": "ENABLED", "off": "DISABLED"}


def main() -> None:
    """Serve one model until the node ends this process."""
    servers: list[Any] = []  # a server that is collected stops serving

    def serve(orders: Orders) -> dict[str, Any]:
        import xllamacpp

        gpus = [d for d in xllamacpp.get_device_info() if _is_gpu(xllamacpp, d)]
        if not gpus and not orders["allow_cpu"]:
            sys.exit("error: the engine sees no GPU, and allow_cpu is false")
        servers.append(xllamacpp.Server(_params(xllamacpp, orders, on_gpu=bool(gpus))))
        device = "cuda" if gpus else "cpu"
        return {"url": servers[0].listening_address, "device": device}

    run_child(serve)


def _is_gpu(xllamacpp: Any, device: dict[str, Any]) -> bool:
    return bool(device["type"] == xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_GPU)


def _params(xllamacpp: Any, orders: Orders, *, on_gpu: bool) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = orders["path"]
    params.model_alias = {orders["id"]}
    params.n_ctx = orders["context"] * orders["slots"]  # llama.cpp divides it by the slots
    params.n_parallel = orders["slots"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [orders["api_key"]]
    params.ui = False
    params.warmup = on_gpu  # compiles kernels; on a CPU it only costs time
    params.cache_ram_mib = _PROMPT_CACHE_MIB
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = orders["threads"]
    if orders["gpu_layers"] is not None:  # llama.cpp's own choice is as many as fit
        params.n_gpu_layers = orders["gpu_layers"]
    flash = xllamacpp.llama_flash_attn_type
    params.flash_attn_type = getattr(flash, f"LLAMA_FLASH_ATTN_TYPE_{_FLASH_ATTENTION[orders['flash_attention']]}")
    kv_type = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{orders['kv_cache_type'].upper()}")
    params.cache_type_k = params.cache_type_v = kv_type
    params.verbosity = _VERBOSITY
    if orders["embedding"]:
        params.embedding = True
        if not orders["pooling"]:
            params.pooling_type = _POOLING_MEAN
    return params


if __name__ == "__main__":
    main()
