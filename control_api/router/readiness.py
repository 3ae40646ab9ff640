"""Why a model that exists cannot be answered now, in words that help whoever reads them."""

from control_api.router.errors import ModelNotFound, NotReady, RouterError
from control_api.router.table import RouteTable, RouteTarget

_ON_ITS_WAY = frozenset({"queued", "downloading", "verifying", "installed", "loading"})
LOADING_RETRY_S = 5.0


def why_not_ready(table: RouteTable, model: str, recovery_s: float | None) -> RouterError:
    """Return the error for a model without a candidate.

    Parameters
    ----------
    recovery_s: seconds until a node that failed is tried again; ``None`` if no node failed.
    """
    if not table.is_known(model):
        return ModelNotFound(model)
    targets = table.models.get(model, ())
    if any(table.serves(target) for target in targets):
        message = f"No node with {model} can be reached at the moment."
        return NotReady(message, code="no_ready_node", retry_after_s=recovery_s or 1.0)
    if loading := [target for target in targets if _is_loading(table, target)]:
        return NotReady(_loading_message(model, loading), code="model_loading", retry_after_s=LOADING_RETRY_S)
    message = f"{model} is on no node that is in service."
    return NotReady(message, code="no_ready_node", retry_after_s=LOADING_RETRY_S)


def _is_loading(table: RouteTable, target: RouteTarget) -> bool:
    node = table.nodes.get(target.node_id)
    return target.state in _ON_ITS_WAY and node is not None and node.admission == "open" and not node.silent


def _loading_message(model: str, targets: list[RouteTarget]) -> str:
    where = "1 node" if len(targets) == 1 else f"{len(targets)} nodes"
    first = max(targets, key=lambda target: target.bytes_done / max(target.bytes_total, 1))
    if not first.bytes_total or first.bytes_done >= first.bytes_total:
        return f"{model} is loading on {where}"
    unit, name = (1e9, "GB") if first.bytes_total >= 1e9 else (1e6, "MB")
    return f"{model} is loading on {where}: {first.bytes_done / unit:.1f} of {first.bytes_total / unit:.1f} {name}"
