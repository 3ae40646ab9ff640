"""What the hub says of a repository: its commit and its files.

``huggingface_hub`` knows the hub's authentication and errors, but waits without end by default and knows no asyncio. So each
call runs in a thread of a small pool of its own, with a time limit on the wire and a deadline for the caller.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo

from control_api.catalogue.files import HubFiles
from control_api.catalogue.sources import Source
from control_api.errors import BadInput, MusterError, NotFound, Unavailable
from control_api.settings import Settings

_THREADS = 4
_TOKEN_HINT = "Set MUSTER_HUB_TOKEN or HF_TOKEN to a token of an account that may read it; on the hub, accept its terms first."


@dataclass(frozen=True)
class HubFile:
    """A file of a repository. ``sha256`` is None for files that the hub keeps in git itself."""

    path: str
    size_bytes: int
    sha256: str | None


@dataclass(frozen=True)
class HubRepo:
    """A repository at one commit."""

    commit: str
    files: dict[str, HubFile]
    pipeline: str | None


@dataclass(frozen=True)
class Popularity:
    """How often a repository was downloaded in the last month and how many like it."""

    downloads: int
    likes: int


class Hub:
    """Asks one hub for metadata; ``files`` reads what is in its files."""

    def __init__(self, settings: Settings) -> None:
        token = settings.hub_token.get_secret_value() if settings.hub_token else None
        self.endpoint = settings.hub_url
        self.host = self.endpoint.split("://", 1)[1]
        self._timeout_s = settings.hub_timeout_s
        self.files = HubFiles(settings)
        self._api = HfApi(endpoint=self.endpoint, token=token)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="hub")

    async def aclose(self) -> None:
        """Stop waiting for answers; a request under way ends by its own time limit."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self.files.aclose()

    async def repo(self, source: Source) -> HubRepo:
        """Return a repository with its files.

        Raises ``NotFound`` (no such repository or revision), ``BadInput`` (access refused), ``Unavailable`` (no usable answer).
        """
        limit_s = self._timeout_s
        info = await self._ask(source, limit_s, lambda: self._info(source, timeout_s=limit_s, with_files=True))
        siblings = info.siblings or []
        files = [HubFile(s.rfilename, s.size or 0, s.lfs.sha256 if s.lfs else None) for s in siblings]
        if not info.sha:
            raise Unavailable(f"{self.host} named no commit of {source.repo}.", code="hub_unreachable")
        return HubRepo(info.sha, {file.path: file for file in files}, info.pipeline_tag)

    async def popularity(self, repo: str, *, timeout_s: float) -> Popularity:
        """Return the counters of a repository. Raises as ``repo`` does."""
        source = Source(repo)
        info = await self._ask(source, timeout_s, lambda: self._info(source, timeout_s=timeout_s, with_files=False))
        return Popularity(info.downloads or 0, info.likes or 0)

    def _info(self, source: Source, *, timeout_s: float, with_files: bool) -> ModelInfo:
        return self._api.model_info(source.repo, revision=source.revision, timeout=timeout_s, files_metadata=with_files)

    async def _ask(self, source: Source, timeout_s: float, call: Callable[[], ModelInfo]) -> ModelInfo:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                return await loop.run_in_executor(self._threads, call)
        except (TimeoutError, httpx2.TransportError, OfflineModeIsEnabled) as error:
            raise self._unreachable(str(error) or f"no answer in {timeout_s:g} s") from error
        except HFValidationError as error:
            raise BadInput(f"{source.repo!r} is not the name of a repository.", code="bad_source") from error
        except HfHubHTTPError as error:
            raise self._refused(source, error) from error
        except (httpx2.HTTPError, ValueError, TypeError, KeyError) as error:
            raise self._unreachable(f"the answer is not one of a hub: {error}") from error

    def _unreachable(self, reason: str) -> Unavailable:
        return Unavailable(
            f"The hub {self.host} cannot be reached: {reason[:300]}",
            code="hub_unreachable",
            hint="Try again, or check MUSTER_HUB_ENDPOINT. Models that are registered already are not affected.",
            headers={"retry-after": "10"},
        )

    def _refused(self, source: Source, error: HfHubHTTPError) -> MusterError:
        status = error.response.status_code
        if isinstance(error, GatedRepoError) or status == 403:
            message = f"{self.host} refuses access to {source.repo}: the repository is gated or private."
            return BadInput(message, code="hub_access_denied", hint=_TOKEN_HINT)
        if isinstance(error, RepositoryNotFoundError) or (status == 404 and not isinstance(error, RevisionNotFoundError)):
            hint = f"Check its name. If it is private: {_TOKEN_HINT}"
            return NotFound(f"{self.host} has no repository {source.repo!r}.", code="hub_not_found", hint=hint)
        if isinstance(error, RevisionNotFoundError):
            return NotFound(f"{source.repo} on {self.host} has no revision {source.revision!r}.", code="hub_not_found")
        if status == 401:
            return BadInput(f"{self.host} does not accept the token.", code="hub_access_denied", hint=_TOKEN_HINT)
        return self._unreachable(f"it answered {status}")
