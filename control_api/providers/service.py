"""Rules of providers: a key is proved by asking for the models, kept encrypted, and never shown again."""

import asyncio
import ipaddress
import re
from typing import Annotated
from urllib.parse import urlsplit

import httpx2
from annotated_types import MaxLen
from pydantic import BaseModel, ValidationError
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.errors import BadInput, NotFound, Unavailable
from control_api.kit import revision
from control_api.kit.clock import utcnow
from control_api.kit.secretbox import SecretBox
from control_api.kit.tls import trusted
from control_api.providers import repository
from control_api.providers.models import Provider
from control_api.providers.schemas import ProviderName, ProviderOut, ProviderPut

# The OpenAI-compatible endpoint of each.
BASE_URLS = {
    ProviderName.OPENAI: "https://api.openai.com/v1",
    ProviderName.ANTHROPIC: "https://api.anthropic.com/v1",
    ProviderName.GOOGLE: "https://generativelanguage.googleapis.com/v1beta/openai",
}
# Anthropic's list of models is not part of its compatible endpoint.
_ANTHROPIC_VERSION = "2023-06-01"
_LIST_LIMIT_BYTES = 4 << 20
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,111}")


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: Annotated[list[_Model], MaxLen(10_000)]


class ProviderService:
    """Keeps the keys of providers.

    Parameters
    ----------
    box: encrypts keys so that routers can read them.
    timeout_s: for a provider's list of models.
    """

    def __init__(self, box: SecretBox, *, timeout_s: float) -> None:
        self._box = box
        self._timeout_s = timeout_s

    async def models_of(self, name: ProviderName, wanted: ProviderPut) -> list[str]:
        """Return the models that may be used: those that were named, or all that the provider lists for the key.

        Raises ``BadInput`` if it refuses the key or lists nothing, ``Unavailable`` if it does not answer.
        """
        if wanted.models is not None:
            return sorted(set(wanted.models))
        base_url = _base_url(name, wanted)
        # What comes is counted as it comes: a few compressed bytes can stand for any number.
        headers = {"authorization": f"Bearer {wanted.api_key}", "accept-encoding": "identity"}
        if name is ProviderName.ANTHROPIC:
            headers |= {"x-api-key": wanted.api_key, "anthropic-version": _ANTHROPIC_VERSION}
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                httpx2.AsyncClient(timeout=self._timeout_s, verify=trusted()) as http,
                http.stream("GET", f"{base_url}/models", params={"limit": 1000}, headers=headers) as answer,
            ):
                return _listed(name, answer, await _beginning(answer))
        except (httpx2.HTTPError, TimeoutError) as error:
            raise Unavailable(
                f"{name} cannot be asked for its models at {base_url}: {type(error).__name__}.",
                code="provider_unreachable",
                hint="Name the models yourself, then nobody is asked.",
            ) from error

    async def put(self, session: AsyncSession, name: ProviderName, wanted: ProviderPut, models: list[str]) -> ProviderOut:
        """Keep a key and the models that may be used with it."""
        sealed = self._box.encrypt(wanted.api_key)
        kept = Provider(name=name, base_url=_base_url(name, wanted), key_encrypted=sealed, models=models, updated_at=utcnow())
        provider = await session.merge(kept)
        await revision.bump(session, revision.ROUTES)
        return shown(provider)

    async def remove(self, session: AsyncSession, name: ProviderName) -> None:
        """Forget a key. Raises ``NotFound`` if there is none."""
        provider = await repository.get_provider(session, name)
        if provider is None:
            raise NotFound(f"{name} has no key.", code="unknown_provider")
        await session.delete(provider)
        await revision.bump(session, revision.ROUTES)


def shown(provider: Provider) -> ProviderOut:
    """Return a provider as others may see it."""
    models = [f"{provider.name}:{model}" for model in provider.models]
    return ProviderOut(
        name=ProviderName(provider.name), base_url=provider.base_url, models=models, updated_at=provider.updated_at
    )


def _base_url(name: ProviderName, wanted: ProviderPut) -> str:
    url = str(wanted.base_url or BASE_URLS[name]).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        raise BadInput("base_url: the key would travel unencrypted; use https.", code="insecure_provider")
    if parts.query or parts.fragment or parts.username:
        raise BadInput("base_url: must be scheme, host and path only.", code="bad_provider_url")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _beginning(answer: httpx2.Response) -> bytes:
    """Return the body, but no more of it than a list of models can have."""
    body = bytearray()
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > _LIST_LIMIT_BYTES:
            break
    return bytes(body[:_LIST_LIMIT_BYTES])


def _listed(name: ProviderName, answer: httpx2.Response, body: bytes) -> list[str]:
    if answer.status_code in (400, 401, 403):  # Google calls a wrong key a bad request
        raise BadInput(f"{name} refuses this key ({answer.status_code}).", code="provider_key_refused")
    try:
        found = _Models.model_validate_json(body).data if answer.is_success else []
    except ValidationError:
        found = []
    ids = {model.id.removeprefix("models/") for model in found}
    models = sorted(id_ for id_ in ids if _MODEL.fullmatch(id_))
    if not models:
        raise Unavailable(
            f"{name} lists no models (status {answer.status_code}).",
            code="provider_unreachable",
            hint="Name the models yourself, then nobody is asked.",
        )
    return models
