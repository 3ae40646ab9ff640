"""Authentication of nodes by their own token."""

import hmac
from typing import Annotated

from fastapi import Depends, Request

from control_api.access.principal import bearer
from control_api.errors import NotFound, Unauthenticated
from control_api.fleet import repository
from control_api.fleet.models import Node
from control_api.kit.http import ReadSession
from control_api.kit.secretbox import token_hash


async def current_node(request: Request, session: ReadSession, node_id: str) -> Node:
    """Return the node of the path if the token is its own, the present one or the next."""
    given = token_hash(bearer(request))
    node = await repository.get_node(session, node_id)
    if not node:
        raise NotFound(f"No node {node_id!r}.", code="unknown_node", hint="Enrol it again: run the playbook.")
    if not any(hmac.compare_digest(given, known) for known in (node.token_hash, node.next_token_hash) if known):
        raise Unauthenticated("The node token is not valid.", code="bad_node_token", hint="Enrol it again: run the playbook.")
    return node


async def any_node(request: Request, session: ReadSession) -> Node:
    """Return the node whose token was sent, for paths that name none."""
    node = await repository.node_by_token(session, token_hash(bearer(request)))
    if not node:
        raise Unauthenticated("The node token is not valid.", code="bad_node_token", hint="This path is for nodes.")
    return node


CurrentNode = Annotated[Node, Depends(current_node, scope="function")]
AnyNode = Annotated[Node, Depends(any_node, scope="function")]
