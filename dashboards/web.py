"""The plain pages around the Panel application: logging in and out, the first admin, the language, health."""

from urllib.parse import parse_qsl, urlsplit

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from control_api.client import ApiError, ApiUnreachable, Client, NotSignedIn
from control_api.client.schemas import SessionOut
from dashboards.auth import SESSION_COOKIE, Sessions
from dashboards.i18n import LANGUAGES, Language, choose
from dashboards.settings import DashboardSettings
from dashboards.templating import render
from dashboards.theme import css_variables

log = structlog.get_logger()

HOME = "/overview"
LANGUAGE_COOKIE = "muster_lang"
# A browser that has logged in before shows it: what others get wrong is then not counted against it.
DEVICE_COOKIE = "muster_device"
SESSION_DAYS = 30
DEVICE_DAYS = 365
DAY_S = 86400
LARGEST_FORM_BYTES = 16_384


class Web:
    """Handlers of the plain pages of one dashboard process."""

    def __init__(self, settings: DashboardSettings, client: Client, sessions: Sessions) -> None:
        self._settings = settings
        self._client = client
        self._sessions = sessions

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter(include_in_schema=False)
        for path, method, handler in (
            ("/", "GET", self.home),
            ("/healthz", "GET", self.healthz),
            ("/login", "GET", self.login_page),
            ("/login", "POST", self.login),
            ("/setup", "GET", self.setup_page),
            ("/setup", "POST", self.setup),
            ("/logout", "POST", self.logout),
            ("/language", "GET", self.language),
        ):
            router.add_api_route(path, handler, methods=[method])
        return router

    async def home(self) -> Response:
        """Send ``/`` to the overview."""
        return RedirectResponse(HOME, 303)

    async def healthz(self) -> Response:
        """Say that this process serves."""
        return PlainTextResponse("ok")

    async def login_page(self, request: Request) -> Response:
        """Show the form, or go on when there is a session already."""
        target = local_target(request.query_params.get("next"))
        problem = None
        if session_id := request.cookies.get(SESSION_COOKIE):
            try:
                await self._sessions.resolve(session_id)
                return RedirectResponse(target, 303)
            except NotSignedIn:
                pass
            except ApiError as error:
                problem = error
        return self._login_form(request, target, problem)

    async def login(self, request: Request) -> Response:
        """Open a session and go where the user wanted to go."""
        form = await self._form(request)
        target = local_target(form.get("next"))
        if not self._from_here(request):
            return self._foreign(request)
        try:
            answer = await self._client.auth.login(
                form.get("username", ""),
                form.get("password", ""),
                device=request.cookies.get(DEVICE_COOKIE),
                client=request.client.host if request.client else None,
            )
        except ApiError as error:
            return self._login_form(request, target, error, form.get("username", ""))
        return self._opened(answer, target)

    async def setup_page(self, request: Request) -> Response:
        """Show the form for the first admin."""
        return self._setup_form(request, request.query_params.get("token", ""), None)

    async def setup(self, request: Request) -> Response:
        """Make the first admin and open a session."""
        form = await self._form(request)
        if not self._from_here(request):
            return self._foreign(request)
        token, username = form.get("token", ""), form.get("username", "")
        try:
            answer = await self._client.auth.setup(token, username, form.get("password", ""))
        except ApiError as error:
            return self._setup_form(request, token, error, username)
        return self._opened(answer, HOME)

    async def logout(self, request: Request) -> Response:
        """End the session."""
        if not self._from_here(request):
            return self._foreign(request)
        if session_id := request.cookies.get(SESSION_COOKIE):
            try:
                await self._sessions.close(session_id)
            except ApiError as error:
                log.warning("logout.api_not_told", error=str(error))
        response = RedirectResponse("/login", 303)
        response.delete_cookie(SESSION_COOKIE, path="/")
        return response

    async def language(self, request: Request) -> Response:
        """Remember the language that the user chose."""
        response = RedirectResponse(local_target(request.query_params.get("next")), 303)
        code = request.query_params.get("lang", "")
        if code in LANGUAGES:
            response.set_cookie(LANGUAGE_COOKIE, code, max_age=365 * DAY_S, path="/", samesite="lax")
        return response

    def _opened(self, answer: SessionOut, target: str) -> Response:
        self._sessions.add(answer)
        response = RedirectResponse(target, 303)
        self._set_cookie(response, SESSION_COOKIE, answer.session_id, SESSION_DAYS)
        if answer.device:
            self._set_cookie(response, DEVICE_COOKIE, answer.device, DEVICE_DAYS)
        return response

    def _set_cookie(self, response: Response, name: str, value: str, days: int) -> None:
        secure = self._settings.secure_cookies
        response.set_cookie(name, value, max_age=days * DAY_S, path="/", httponly=True, samesite="lax", secure=secure)

    def _login_form(self, request: Request, target: str, problem: ApiError | None, username: str = "") -> Response:
        return self._page(request, "login.html", problem, next=target, username=username)

    def _setup_form(self, request: Request, token: str, problem: ApiError | None, username: str = "admin") -> Response:
        return self._page(request, "setup.html", problem, token=token, username=username)

    def _foreign(self, request: Request) -> Response:
        refusal = ApiError(
            "foreign_origin", self._language(request).gettext("This form was sent from another site."), status=403
        )
        return self._page(request, "login.html", refusal, next=HOME, username="")

    def _page(self, request: Request, template: str, problem: ApiError | None, **context: str) -> Response:
        words = self._language(request)
        html = render(template, words, css=css_variables(), problem=problem and explain(problem, words), **context)
        status = 200 if problem is None else problem.status or 503
        return HTMLResponse(html, status, {"cache-control": "no-store"})

    def _language(self, request: Request) -> Language:
        return choose(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language"))

    def _from_here(self, request: Request) -> bool:
        """Whether a form was sent by a page of ours. Browsers always name the origin of a POST."""
        origin = request.headers.get("origin")
        if origin is None:
            return request.headers.get("sec-fetch-site", "same-origin") == "same-origin"
        allowed = {request.headers.get("host", ""), urlsplit(self._settings.public_url).netloc}
        return urlsplit(origin).netloc in allowed - {""}

    async def _form(self, request: Request) -> dict[str, str]:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST_FORM_BYTES:
                return {}
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def local_target(target: str | None) -> str:
    """Return a path of this site to go to; anything that could lead elsewhere becomes the overview."""
    if not target or not target.startswith("/") or target.startswith(("//", "/\\")) or any(ord(c) < 32 for c in target):
        return HOME
    return target


def explain(error: ApiError, words: Language) -> str:
    """Return an error of the API in the user's language where we have it, else in the API's words."""
    if isinstance(error, ApiUnreachable):
        return words.gettext("The control API does not answer. It is tried again; if this stays, look at its log.")
    known = {
        "login_failed": words.gettext("The name or the password is wrong."),
        "session_ended": words.gettext("Your session has ended. Log in again."),
        "setup_closed": words.gettext("This link has been used or has expired. Start Muster again to get a new one."),
    }
    if error.code == "too_many_attempts" and isinstance(error.details, dict):
        wait_s = int(error.details.get("retry_after_s", 1))
        return words.gettext("There were too many attempts to log in. Try again in %(seconds)d s.") % {"seconds": wait_s}
    return known.get(error.code, str(error))
