"""OpenAI-compatible data plane: route table, balancing, queue, streaming."""
