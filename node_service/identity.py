"""Who this node is: its own inference key, and what the control API gave it at registration."""

import secrets
from dataclasses import asdict, dataclass, field, replace

from node_service.errors import ConfigError
from node_service.state_dir import StateDir

__all__ = ["Identity", "IdentityStore"]

_DOCUMENT = "identity.json"


@dataclass(frozen=True)
class Identity:
    """The node's identity; `node_id` and `token` are None until it is registered."""

    inference_key: str = field(repr=False)
    node_id: str | None = None
    token: str | None = field(default=None, repr=False)
    store_id: str | None = None
    heartbeat_interval_s: float = 5.0

    @property
    def registered(self) -> bool:
        """Whether the control API gave this node an id and a token."""
        return self.node_id is not None and self.token is not None


class IdentityStore:
    """Keeps the identity in the state directory; a change is on the disk before it is used."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._identity = self._load()

    @property
    def current(self) -> Identity:
        """The identity as it is on the disk."""
        return self._identity

    def update(self, **changes: object) -> Identity:
        """Store the identity with `changes` and return it."""
        changed = replace(self._identity, **changes)  # type: ignore[arg-type]
        self._state.write(_DOCUMENT, asdict(changed))
        self._identity = changed
        return changed

    def _load(self) -> Identity:
        try:
            document = self._state.read(_DOCUMENT)
            if document is not None:
                return Identity(**document)
        except (ValueError, TypeError) as error:
            raise ConfigError([f"{_DOCUMENT} in the state directory is damaged: {error}"]) from error
        identity = Identity(inference_key=secrets.token_urlsafe(32))
        self._state.write(_DOCUMENT, asdict(identity))
        return identity
