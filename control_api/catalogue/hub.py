"""What the hub says of a repository: its commit and its files. Nothing of it is believed before it was checked."""

import asyncio
from typing import Annotated
from urllib.parse import quote

import httpx2
from annotated_types import Ge, Le, MaxLen
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from control_api.catalogue.files import Files, HubFiles
from control_api.catalogue.sources import Source, is_plain
from control_api.catalogue.transport import HubTransport
from control_api.errors import BadAnswer, BadInput, MusterError, NotFound, Unavailable
from control_api.kit.wire import CommitStr, Sha256Str, SizeBytes
from control_api.settings import Settings

# Repositories with thousands of files say what they are in a few megabytes.
ANSWER_LIMIT_BYTES = 8 << 20
MAX_FILES = 20_000
_AT_ONCE = 4
_TOKEN_HINT = "Set MUSTER_HUB_TOKEN or HF_TOKEN to a token of an account that may read it; on the hub, accept its terms first."


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class HubFile(_Answer):
    """A file of a repository. ``sha256`` is None for files that the hub keeps in git itself."""

    path: Annotated[str, MaxLen(1024)]
    size_bytes: SizeBytes
    sha256: Sha256Str | None


class HubRepo(_Answer):
    """A repository at one commit."""

    commit: CommitStr
    files: Annotated[dict[str, HubFile], MaxLen(MAX_FILES)]
    pipeline: Annotated[str, MaxLen(64)] | None


class Popularity(_Answer):
    """How often a repository was downloaded in the last month and how many like it."""

    downloads: Annotated[int, Ge(0), Le(1 << 53)] = 0
    likes: Annotated[int, Ge(0), Le(1 << 53)] = 0


class _Lfs(_Answer):
    sha256: Sha256Str


class _Sibling(_Answer):
    rfilename: Annotated[str, MaxLen(1024)]
    size: SizeBytes | None = None
    lfs: _Lfs | None = None


class _Info(_Answer):
    """What a hub answers about a model. The reference of its protocol is ``huggingface_hub``."""

    sha: CommitStr
    siblings: Annotated[list[_Sibling], MaxLen(MAX_FILES)] = Field(default=[])
    pipeline_tag: Annotated[str, MaxLen(64)] | None = None


class Hub:
    """Asks one hub for metadata; ``files`` reads what is in its files."""

    def __init__(self, settings: Settings) -> None:
        self.endpoint = settings.hub_url
        # As everybody is told: without a password that the address may hold.
        self.host = self.endpoint.split("://", 1)[1].rpartition("@")[2]
        self._timeout_s = settings.hub_timeout_s
        self._transport = HubTransport(settings)
        self._places = asyncio.Semaphore(_AT_ONCE)
        self.files: Files = HubFiles(settings, self._transport)

    async def aclose(self) -> None:
        """Break off what is being read."""
        await self._transport.aclose()

    async def repo(self, source: Source) -> HubRepo:
        """Return a repository with its files, without those whose names are not plain relative paths.

        Raises ``NotFound`` (no such repository or revision), ``BadInput`` (access refused), ``Unavailable`` (no answer) or
        ``BadAnswer`` (one that cannot be used).
        """
        info = await self._ask(_Info, source, "?blobs=true", self._timeout_s)
        named = [sibling for sibling in info.siblings if is_plain(sibling.rfilename)]
        files = [HubFile(path=s.rfilename, size_bytes=s.size or 0, sha256=s.lfs.sha256 if s.lfs else None) for s in named]
        return HubRepo(commit=info.sha, files={file.path: file for file in files}, pipeline=info.pipeline_tag)

    async def popularity(self, repo: str, *, timeout_s: float) -> Popularity:
        """Return the counters of a repository. Raises as ``repo`` does."""
        return await self._ask(Popularity, Source(repo), "", timeout_s)

    async def _ask[Shape: _Answer](self, shape: type[Shape], source: Source, query: str, timeout_s: float) -> Shape:
        revision = f"/revision/{quote(source.revision, safe='')}" if source.revision else ""
        path = f"/api/models/{source.repo}{revision}{query}"
        try:
            async with asyncio.timeout(timeout_s), self._places:
                answer = await self._transport.read(path, limit_bytes=ANSWER_LIMIT_BYTES)
                hf_raise_for_status(answer)
                # Megabytes take a while to read, in which others must be answered.
                return await asyncio.to_thread(shape.model_validate_json, answer.content)
        except (TimeoutError, httpx2.TransportError) as error:
            raise self._unreachable(str(error) or f"no answer in {timeout_s:g} s") from error
        except HfHubHTTPError as error:
            raise self._refused(source, error) from error
        except ValidationError as error:
            raise self._not_understood(source, error) from error
        except BadAnswer as error:
            raise BadAnswer(f"{self.host}, asked for {source.repo}: {error.message}", code=error.code) from error
        except httpx2.HTTPError as error:
            raise self._unreachable(f"the answer is not one of a hub: {error}") from error

    def _not_understood(self, source: Source, error: ValidationError) -> BadAnswer:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))[:100]
        message = f"What {self.host} says of {source.repo} cannot be used: {where + ': ' if where else ''}{first['msg'][:300]}."
        return BadAnswer(message, code="hub_answer", hint="Nothing was registered. Is MUSTER_HUB_ENDPOINT a hub?")

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
