"""Sessions, tokens and API keys."""

from collections.abc import Sequence

from control_api.client.http import Http, part
from control_api.client.schemas import ApiKeyCreate, ApiKeyCreated, ApiKeyOut, InferenceTokenOut, SessionOut


class Auth:
    """``/v0/auth``."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def login(self, username: str, password: str, *, device: str | None = None, client: str | None = None) -> SessionOut:
        """Open a browser session.

        Parameters
        ----------
        device: what the last login of this browser was answered with.
        client: address of the browser; believed if this client has the key of a dashboard.
        """
        body = {"username": username, "password": password} | ({"device": device} if device else {})
        headers = {"x-muster-client": client} if client else {}
        answer = await self._http.send("POST", "/v0/auth/login", json=body, headers=headers)
        return SessionOut.model_validate_json(answer.content)

    async def setup(self, token: str, username: str, password: str) -> SessionOut:
        """Make the first admin with the one-time token of the first start, and open a session."""
        body = {"token": token, "username": username, "password": password}
        return await self._http.post(SessionOut, "/v0/auth/setup", body)

    async def refresh(self, session_id: str) -> SessionOut:
        """Exchange a session id for a fresh access token."""
        return await self._http.post(SessionOut, "/v0/auth/refresh", {"session_id": session_id})

    async def logout(self, session_id: str) -> None:
        """End a session."""
        await self._http.send("POST", "/v0/auth/logout", json={"session_id": session_id})

    async def inference_token(self, *, node_ids: Sequence[str] | None = None) -> InferenceTokenOut:
        """Return a short-lived token for the router; ``node_ids``: nodes that it may pin."""
        body = {"node_ids": None if node_ids is None else list(node_ids)}
        return await self._http.post(InferenceTokenOut, "/v0/auth/inference-token", body)


class Keys:
    """``/v0/api-keys``."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(self) -> list[ApiKeyOut]:
        """Return all API keys, without their secrets."""
        return [key async for key in self._http.items(ApiKeyOut, "/v0/api-keys")]

    async def create(self, key: ApiKeyCreate) -> ApiKeyCreated:
        """Make a key; its secret is in this answer and nowhere else."""
        return await self._http.post(ApiKeyCreated, "/v0/api-keys", key)

    async def delete(self, key_id: str) -> None:
        """Revoke a key."""
        await self._http.send("DELETE", f"/v0/api-keys/{part(key_id)}")
