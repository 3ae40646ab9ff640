"""The real node behind the router is that of the node's own tests."""

from tests.node_service.conftest import serving, tiny_models

__all__ = ["serving", "tiny_models"]
