"""How much memory a model needs. The one place that answers it."""

_COMPUTE_BUFFERS_BYTES = 512 << 20


def required_memory_bytes(size_bytes: int) -> int:
    """Estimate the memory that a model of this file size needs to run, in bytes.

    Weights, a fifth on top for the KV cache, and a fixed share for the engine's compute buffers. It is an estimate: it knows
    neither the context nor the layers of the model.
    """
    return size_bytes + size_bytes // 5 + _COMPUTE_BUFFERS_BYTES
