"""Where the bytes of an artifact are: turns a source of the control API into an address."""

import asyncio
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx2
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from node_service.errors import SourceInterrupted, SourceRefused, WeightsError
from node_service.identity import IdentityStore
from node_service.wire import Artifact, HubSource, PassThroughSource, PeerSource, Source

__all__ = ["Location", "SourceResolver", "source_label"]

_HUB_TIMEOUT_S = 10.0
_HUB_REDIRECTS = 5


@dataclass(frozen=True)
class Location:
    """An address that serves an artifact's bytes; `label` names it in messages."""

    label: str
    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    max_redirects: int = 0


def source_label(source: Source) -> str:
    """Return a name for a source that a person can act on."""
    if isinstance(source, HubSource):
        return f"hub {source.repo}@{source.revision}/{source.path}"
    parts = urlsplit(source.url)
    if isinstance(source, PeerSource):
        return f"peer {parts.scheme}://{parts.netloc}"
    return f"pass-through {parts.path}"


class SourceResolver:
    """Knows the hub, the peers' tickets and the control API's pass-through."""

    def __init__(
        self,
        *,
        api_url: str,
        identities: IdentityStore,
        hub_endpoint: str | None,
        hub_token_file: Path | None,
    ) -> None:
        self._api_url = api_url
        self._identities = identities
        self._own_hub = hub_endpoint
        self._hub_token_file = hub_token_file

    async def locate(self, source: Source, artifact: Artifact) -> Location:
        """Return where to read the artifact.

        Raises:
            SourceInterrupted: the hub did not answer.
            SourceRefused: it does not have this artifact, or will not give it.
        """
        label = source_label(source)
        if isinstance(source, PeerSource):
            return Location(label, source.url, _bearer(source.ticket))
        if isinstance(source, PassThroughSource):
            return self._pass_through(source, label)
        return await self._hub_file(source, artifact, label)

    def _pass_through(self, source: PassThroughSource, label: str) -> Location:
        url = urljoin(f"{self._api_url}/", source.url)
        if urlsplit(url)[:2] != urlsplit(self._api_url)[:2]:
            raise SourceRefused(f"{label}: not an address of the control API")
        return Location(label, url, _bearer(self._identities.current.token or ""))

    async def _hub_file(self, source: HubSource, artifact: Artifact, label: str) -> Location:
        hub = self._own_hub or source.endpoint or constants.ENDPOINT
        # The token is for the hub that this host was configured with, not for one that somebody else names.
        token = self._hub_token() if hub in (self._own_hub, constants.ENDPOINT) else None
        try:
            url = hf_hub_url(source.repo, source.path, revision=source.revision, endpoint=hub)
            found = await asyncio.to_thread(
                get_hf_file_metadata,
                url,
                token=token or False,
                timeout=_HUB_TIMEOUT_S,
                endpoint=hub,
            )
        except (HfHubHTTPError, HFValidationError, httpx2.HTTPError, OSError, ValueError, httpx2.InvalidURL) as error:
            raise _hub_error(label, error, has_token=token is not None) from error
        _compare(label, artifact, found.etag, found.size)
        # Its own address and not the one it redirects to: that one is signed, and expires.
        return Location(label, url, _bearer(token) if token else {}, _HUB_REDIRECTS)

    def _hub_token(self) -> str | None:
        if self._hub_token_file is None:
            return None
        try:
            return self._hub_token_file.read_text(encoding="utf-8").strip() or None
        except OSError as error:
            raise SourceRefused(f"hub_token_file: {error}") from error


def _compare(label: str, artifact: Artifact, etag: str | None, size: int | None) -> None:
    """Refuse a file that is another one, before its first byte."""
    if size is not None and size != artifact.size:
        raise SourceRefused(f"{label}: has {size} bytes, the manifest says {artifact.size}")
    if etag is not None and len(etag) == 64 and etag != artifact.sha256:
        raise SourceRefused(f"{label}: has sha256 {etag}, the manifest says {artifact.sha256}")


def _hub_error(label: str, error: Exception, *, has_token: bool) -> WeightsError:
    if isinstance(error, GatedRepoError):
        hint = "the token has no access to it" if has_token else "set hub_token_file (HF_TOKEN)"
        return SourceRefused(f"{label}: the repository is gated: {hint}")
    if isinstance(error, RepositoryNotFoundError):
        hint = "" if has_token else " (if it is private, set hub_token_file)"
        return SourceRefused(f"{label}: no such repository{hint}")
    if isinstance(error, RevisionNotFoundError):
        return SourceRefused(f"{label}: no such revision")
    if isinstance(error, EntryNotFoundError):
        return SourceRefused(f"{label}: no such file")
    if isinstance(error, HfHubHTTPError) and error.response.status_code not in (408, 429):
        status = error.response.status_code
        kind = SourceInterrupted if status >= 500 else SourceRefused
        return kind(f"{label}: the hub answered {status}")
    if isinstance(error, HFValidationError | ssl.SSLCertVerificationError):
        return SourceRefused(f"{label}: {error}")
    return SourceInterrupted(f"{label}: {error or type(error).__name__}")


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}
