"""What the router's role in PostgreSQL may do: read the route tables, add to the request history, and say which nodes are out.

The router is the process that strangers reach. Whoever takes it over finds no SSH key, no session and no token of a node in the
database, and can change nothing there.
"""

import sqlalchemy as sa
from sqlalchemy.sql.compiler import IdentifierPreparer

# Whole tables, or the columns that the router needs where others are none of its business.
_READS: dict[str, tuple[str, ...]] = {
    "alembic_version_control": (),
    "alembic_version_telemetry": (),
    "revision": (),
    "key_check": (),
    "api_key": (),
    "signing_key": ("kid", "public_pem"),
    "user": ("id", "name", "scopes"),
    "user_session": ("token_id", "user_id", "expires_at"),
    "job": ("id", "attempt", "status", "asker"),
    "job_host": ("job_id", "host_id"),
    "model": ("id", "created_at", "capabilities"),
    "node": ("id", "name", "base_url", "state", "admission", "was_online", "host_id", "inference_key_encrypted"),
    "node_model": (),
    "assignment": ("node_id", "model_id", "residency", "generation", "paused", "unschedulable"),
    "provider": (),
}
_ADDS_TO = "request_history"
_SAYS_IN = "router_breaker"


def grant_router(url: str, role: str) -> None:
    """Give a role of PostgreSQL exactly what a router needs, in one transaction.

    Parameters
    ----------
    url: of the database, as the owner of its tables.
    role: who is to have the rights; it exists.
    """
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection:
            for statement in _statements(role, connection.dialect.identifier_preparer):
                connection.execute(sa.text(statement))
    finally:
        engine.dispose()


def _statements(role: str, preparer: IdentifierPreparer) -> list[str]:
    to = preparer.quote_identifier(role)
    reads = [
        f"GRANT SELECT{f' ({", ".join(columns)})' if columns else ''} ON {preparer.quote_identifier(table)} TO {to}"
        for table, columns in _READS.items()
    ]
    return [
        f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {to}",
        f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {to}",
        *reads,
        f"GRANT INSERT ON {_ADDS_TO} TO {to}",
        f"GRANT SELECT, INSERT, DELETE ON {_SAYS_IN} TO {to}",
        f"GRANT USAGE ON SEQUENCE {_ADDS_TO}_id_seq TO {to}",
    ]
