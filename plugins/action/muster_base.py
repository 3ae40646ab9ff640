# SPDX-License-Identifier: GPL-3.0-or-later
# Imports ansible-core, hence the licence of this file. Needs nothing but ansible-core and the standard library.
"""What Muster's action plugins share: they run on the controller and talk to the control API."""

import json
import os
import re
import time
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from ansible.errors import AnsibleActionFail
from ansible.module_utils.urls import open_url
from ansible.plugins.action import ActionBase

ID = re.compile("[0-9A-Za-z_-]{1,64}")
TRANSIENT = frozenset({429, 502, 503, 504})


def visible(text: str) -> str:
    """Return text in which control, bidirectional and invisible characters are written out, as escapes."""
    return "".join(char if char == " " or char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _shown(answer: Any) -> Any:
    """Make every text of an answer visible: a node's own words end up in results, which Ansible prints."""
    if isinstance(answer, str):
        return visible(answer)
    if isinstance(answer, dict):
        return {visible(name): _shown(value) for name, value in answer.items()}
    return [_shown(value) for value in answer] if isinstance(answer, list) else answer


class ApiError(Exception):
    """The control API or the router refused, or could not be reached.

    Parameters:
        message: what happened, for people.
        status: HTTP status, or None when there was no answer.
        code: the stable error code of the answer, or an empty string.
    """

    def __init__(self, message: str, status: int | None = None, code: str = "") -> None:
        super().__init__(visible(message))
        self.status = status
        self.code = code


class Api:
    """JSON over HTTP with one bearer token; transient errors are tried again until the deadline.

    Parameters:
        base_url: address with scheme and port.
        token: bearer token.
        ca_bundle: file with certificate authorities, or None for the system's.
        retry_s: how long one call is repeated while the other side is away, in seconds.
    """

    def __init__(self, base_url: str, token: str, ca_bundle: str | None, retry_s: float = 30.0) -> None:
        self._base_url = base_url.rstrip("/")
        self._token = token
        self._ca_bundle = ca_bundle
        self._retry_s = retry_s

    def get(self, path: str) -> Any:
        """Return the decoded answer of GET `path`; raises ApiError."""
        return self.send("GET", path)[0]

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the decoded answer of POST `path`; raises ApiError."""
        return self.send("POST", path, body or {})[0]

    def send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = 15.0,
    ) -> tuple[Any, dict[str, str]]:
        """Return the decoded answer and its headers, names in lower case; raises ApiError."""
        deadline = time.monotonic() + self._retry_s
        while True:
            try:
                return self._send_once(method, path, body, headers or {}, timeout_s)
            except ApiError as error:
                again = error.status is None or error.status in TRANSIENT
                if not again or time.monotonic() >= deadline:
                    raise
            time.sleep(1)

    def _send_once(
        self, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str], timeout_s: float
    ) -> tuple[Any, dict[str, str]]:
        url = f"{self._base_url}{path}"
        try:
            response = open_url(
                url,
                method=method,
                data=None if body is None else json.dumps(body),
                headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"} | headers,
                timeout=timeout_s,
                ca_path=self._ca_bundle,
                follow_redirects="none",
                use_netrc=False,
            )
            content = response.read()
            answer_headers = {name.lower(): value for name, value in response.headers.items()}
        except HTTPError as error:
            raise _refused(method, url, error) from error
        except (URLError, OSError, ValueError) as error:
            raise ApiError(f"{method} {url}: {error}") from error
        try:
            return (_shown(json.loads(content)) if content else None), answer_headers
        except ValueError as error:
            raise ApiError(f"{method} {url}: the answer is not JSON", status=response.status) from error


def _refused(method: str, url: str, error: HTTPError) -> ApiError:
    """Turn an HTTP error into words, taking them from the body where it has the API's error shape."""
    try:
        detail = json.loads(error.read())["error"]
        text = " ".join(part for part in (detail.get("message"), detail.get("hint")) if part)
        return ApiError(f"{method} {url} answered {error.code}: {text}", error.code, str(detail.get("code") or ""))
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return ApiError(f"{method} {url} answered {error.code}", error.code)


def part(value: str) -> str:
    """Return an id that is one part of a path and no more: a host says itself what its node is called."""
    if not ID.fullmatch(value):
        raise AnsibleActionFail(f"{ascii(value)[:80]} is no id")
    return value


class ActionModule(ActionBase):
    """Base of Muster's actions. A subclass names its arguments and implements `act`."""

    TRANSFERS_FILES = False
    _requires_connection = False
    Api = Api
    ApiError = ApiError
    visible = staticmethod(visible)
    part = staticmethod(part)

    ARGUMENTS: dict[str, dict[str, Any]] = {}
    API_ARGUMENTS: dict[str, dict[str, Any]] = {
        "api_url": {"type": "str"},
        "ca_bundle": {"type": "path"},
    }

    @abstractmethod
    def act(self, api: Api, args: dict[str, Any]) -> dict[str, Any]:
        """Do the work and return the task's result; raise ApiError to fail the task."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Validate the arguments, call `act`, and say errors of the API in one line."""
        result = super().run(tmp, task_vars)
        _, args = self.validate_argument_spec(self.API_ARGUMENTS | self.ARGUMENTS)
        try:
            return result | self.act(self._api(args, task_vars or {}), args)
        except ApiError as error:
            raise AnsibleActionFail(str(error)) from error

    def router(self, base_url: str, token: str, args: dict[str, Any]) -> Api:
        """Return a client of the router that does not repeat a call by itself."""
        return Api(base_url, token, args["ca_bundle"], retry_s=0)

    @staticmethod
    def token() -> str:
        """Return the token of the job (a file) or of the shell (a key in the environment)."""
        path = os.environ.get("MUSTER_TOKEN_FILE")
        try:
            token = Path(path).read_text().strip() if path else os.environ.get("MUSTER_API_KEY", "")
        except OSError as error:
            raise AnsibleActionFail(f"cannot read the token file: {error}") from error
        if not token:
            raise AnsibleActionFail("the control API needs a key: set MUSTER_API_KEY or MUSTER_TOKEN_FILE")
        return token

    def would(self, what: str, before: Any, after: Any) -> dict[str, Any]:
        """Return the result of a change, with its diff; in check mode `what` is said as not yet done."""
        diff = {"before": f"{before}\n", "after": f"{after}\n"}
        if self._task.check_mode:
            return self.foresee(True, f"would {what}") | {"diff": diff}
        return {"changed": True, "msg": what, "diff": diff}

    def foresee(self, changed: bool, message: str | list[str]) -> dict[str, Any]:
        """Return a result of check mode; its message is shown, since it is what check mode was asked for."""
        return {"changed": changed, "msg": message, "_ansible_verbose_always": True}

    def find_node(self, api: Api, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the node of `node_id`, or else of `host_id`, or None while there is none."""
        node_id = args.get("node_id")
        try:
            if not node_id and args.get("host_id"):
                node_id = api.get(f"/v0/hosts/{part(args['host_id'])}")["node_id"]
            return api.get(f"/v0/nodes/{part(node_id)}") if node_id else None
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def poll(self, probe: Callable[[], Any], timeout_s: float, interval_s: float = 1.0) -> Any:
        """Call `probe` until it returns something true or the time is over; return its last value."""
        deadline = time.monotonic() + timeout_s
        while not (value := probe()) and time.monotonic() < deadline:
            time.sleep(interval_s)
        return value

    def _api(self, args: dict[str, Any], task_vars: dict[str, Any]) -> Api:
        base_url = args["api_url"] or os.environ.get("MUSTER_API_URL") or self._variable("muster_api_url", task_vars)
        if not base_url:
            raise AnsibleActionFail("the control API's address is not known: set MUSTER_API_URL or muster_api_url")
        return Api(base_url, self.token(), args["ca_bundle"] or os.environ.get("MUSTER_CA_BUNDLE"))

    def _variable(self, name: str, task_vars: dict[str, Any]) -> str | None:
        value = self._templar.template(task_vars.get(name))
        return None if value is None else str(value)
