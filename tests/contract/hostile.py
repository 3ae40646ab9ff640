"""Requests as an attacker makes them: a good one in which something is what no schema thinks of, down to the bytes."""

import json
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode

DEEP = 100_000
# JSON as it is sent, since no encoder would write most of it.
JSON_TEXTS = (
    *("null", "true", "0", "-1", "-0.0", "1e400", "-1e308", "NaN", "Infinity", "1E-400", "0.1", "[]", "{}", '""', '" "'),
    *(str(number) for number in (2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**30)),
    *("9" * 5000, "-" + "9" * 5000, "1" + "0" * 400 + ".5", '"' + "9" * 5000 + '"'),
    *(r'"\u0000"', r'"a\u0000b"', r'"\ud800"', r'"\udfff\ud800x"', r'"\uffff"', r'"\u202e\u0007\u001b]0;x\u0007\r\n"'),
    *('"' + "x" * 70_000 + '"', '"' + "é" * 300 + '"', '{"a": 1, "a": 2}', r'{"\u0000": 1, "\ud800": 2, "": 3}'),
    *("[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP, "[" * 200 + "]" * 200, "[" + "0," * 3000 + "0]"),
)
MOMENTS = (
    *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-23:59"),
    *("10000-01-01T00:00:00Z", "2024-02-30T00:00:00Z", "2024-06-30T23:59:60Z", "2024-01-01", "2024-01-01T00:00:00", "-1"),
    *("1e400", "253402300800", "-62135596801", "99999999999999999999", "1970-01-01T00:00:00.0000000001Z"),
)
YAML_TEXTS = (
    *(
        "a: &a [1]\nb: *a\n",
        "x: !!python/object/apply:os.system [id]\n",
        "x: !!binary aGk=\n",
        "x: !!set {a, b}\n",
        "x: .nan\n",
    ),
    *(
        "x: 0001-01-01T00:00:00+23:59\n",
        "x: 9999-12-31T23:59:59-23:59\n",
        f"x: {'9' * 5000}\n",
        "? [a]\n: b\n",
        "[" * 5000,
        "x: .nan",
    ),
    *(
        "gpu_hosts: {hosts: {a: {ansible_host: 2024-01-01}}}",
        "all: {children: {gpu_hosts: {hosts: {1: {}, null: {}}}}}",
        "\t- {",
    ),
)
TEXTS = (
    *("..", "../../etc/passwd", "..%2f..", "a/b", "/", ".", "%", "%s%n", "${x}", "{{ 7 * 7 }}", "$(id)", "-oProxyCommand=id"),
    *(
        "a\nb",
        "gpu-01\n",
        "\n",
        "\r\nX-A: b",
        "\0",
        "a\0b",
        "\x7f",
        "\x85",
        "\u2028",
        "\u202e",
        "\ufeff",
        "\uffff",
        "🏳️‍🌈",
        "İ",
        "ß",
        "ﬀ",
    ),
    *("١٢", "1_000", " 1 ", "+1", "0x10", "1e3", "9" * 5000, "-" + "9" * 5000, "9" * 19, "true", "null", "None"),
    *("::1%eth0;id", "[::1", "127.1", "0x7f.1", "1.2.3.4/33", "http://[::1", "http://a:99999", "file:///etc/passwd"),
    *("eyJ", "e30=", "bnVsbA==", "MA", "WyJhIl0", "=", "x" * 9000, *MOMENTS, *YAML_TEXTS),
)
# What a query or a path may hold beside texts: bytes that are none, and signs that are no escapes.
RAW_TEXTS = ("%00", "%ff", "%ed%a0%80", "%c0%af", "%", "%zz", "%u0000", "+", ";", "%0a", "%2e%2e%2f", "%25%30%30")
CONTENT_TYPES = (
    *("", "text/plain", "application/xml", "application/json; charset=utf-16", "application/json; charset=nonsense", "*/*"),
    *(
        "application/json;;;=",
        "multipart/form-data",
        "multipart/form-data; boundary=" + "x" * 3000,
        "application/x-www-form-urlencoded",
    ),
    *("application/vnd.api+json", "APPLICATION/JSON", "application/json, application/json", "/", "application/octet-stream"),
)
BODIES = (
    b"",
    b"{",
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b"\x00",
    b'"\xed\xa0\x80"',
    b"null",
    b"[]",
    b'{"a":1}}',
    b"a=b&a=c",
    b"--x\r\n\r\n",
)
HEADERS = (
    *(("idempotency-key", value) for value in ("", "x" * 5000, "é", "a b")),
    *(("accept", value) for value in ("application/xml", "*/*;q=nonsense", "text/event-stream")),
    *(("range", "bytes=9-1"), ("if-none-match", '"' + "x" * 9000), ("if-modified-since", "Thu, 99 Foo 9999 99:99:99 GMT")),
    *(("content-encoding", "gzip"), ("expect", "200-ok"), ("last-event-id", "9" * 400), ("x-request-id", "a\tb")),
    *(
        ("accept-language", "*-" * 500),
        ("x-forwarded-for", "::1%eth0, nonsense"),
        ("x-forwarded-proto", "\xff"),
        ("cookie", "a; =; b==" * 99),
    ),
    *(("traceparent", "00-" + "z" * 60), ("host", "a:b:c"), ("host", "[::1"), ("origin", "null"), ("prefer", "respond-async")),
)
_MARK = "\ue000here\ue000"


@dataclass
class Request:
    """What is sent. The path and the query are escaped already."""

    method: str
    path: str
    query: list[tuple[str, str]] = field(default_factory=list)
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes | None = None

    @property
    def target(self) -> str:
        """The address without the server."""
        return self.path + ("?" + "&".join(f"{name}={value}" for name, value in self.query) if self.query else "")

    def __str__(self) -> str:
        return f"{self.method} {self.target[:800]} {dict(self.headers)} {(self.body or b'')[:800]!r}"


def requests_of(operation: APIOperation, existing: dict[str, str]) -> st.SearchStrategy[Request]:
    """Return requests to an operation, with one to three things wrong with each."""
    good = operation.as_strategy(GenerationMode.POSITIVE)

    @st.composite
    def broken(draw: st.DrawFn) -> Request:
        request = _request(draw(good), existing if draw(st.booleans()) else {})
        for _ in range(draw(st.integers(1, 3))):
            spoil = draw(st.sampled_from(list(_ways(operation, request))))
            spoil(draw, request)
        return request

    return broken()


def _request(case: Case, existing: dict[str, str]) -> Request:
    values = {**(case.path_parameters or {}), **existing}
    path = case.operation.path
    for name, value in values.items():
        path = path.replace("{" + name + "}", _escaped(value))
    query = [(name, _escaped(value)) for name, value in (case.query or {}).items()]
    if not isinstance(case.body, dict | list | str | int | float | bool | None):
        return Request(case.method, path, query)
    body = json.dumps(case.body).encode()
    return Request(case.method, path, query, [("content-type", case.media_type or "application/json")], body)


Spoil = Callable[[st.DrawFn, Request], None]


def _ways(operation: APIOperation, request: Request) -> Iterator[Spoil]:
    """Name the ways to spoil a request: those that reach further into what is asked come more often."""
    yield _header
    if "{" in operation.path:
        yield _path(operation)
    names = [parameter.name for parameter in operation.query]
    if names:
        yield from (_query(names), _query(names))
    yield _query([*names, "cursor", "limit", "no_such"])
    if request.body is not None:
        yield from (_json, _json, _json, _json, _body)


def _json(draw: st.DrawFn, request: Request) -> None:
    """Put something else in the place of one value of the body."""
    try:
        value = json.loads(request.body or b"null")
    except (ValueError, RecursionError):
        return
    places = list(_places(value))
    path = draw(st.sampled_from(places))
    wrong = draw(st.one_of(st.sampled_from(JSON_TEXTS), st.sampled_from(TEXTS).map(json.dumps)))
    request.body = json.dumps(_with(value, path)).replace(json.dumps(_MARK), wrong, 1).encode()


def _body(draw: st.DrawFn, request: Request) -> None:
    request.body = draw(st.sampled_from(BODIES))
    kind = draw(st.sampled_from(CONTENT_TYPES))
    request.headers = [("content-type", kind)] if kind else []


def _header(draw: st.DrawFn, request: Request) -> None:
    if request.body is not None and draw(st.booleans()):
        kind = draw(st.sampled_from(CONTENT_TYPES))
        request.headers = [(name, value) for name, value in request.headers if name != "content-type"]
        request.headers += [("content-type", kind)] if kind else []
    else:
        name, value = draw(st.sampled_from(HEADERS))
        # The client itself refuses to send two of the same, where that makes no sense.
        request.headers = [(other, text) for other, text in request.headers if other != name] + [(name, value)]


def _query(names: list[str]) -> Spoil:
    def spoil(draw: st.DrawFn, request: Request) -> None:
        wrong = st.one_of(st.sampled_from(TEXTS).map(_escaped), st.sampled_from(RAW_TEXTS))
        name = draw(st.sampled_from(names))
        for _ in range(draw(st.integers(1, 2))):
            request.query.append((name, draw(wrong)))

    return spoil


def _path(operation: APIOperation) -> Spoil:
    def spoil(draw: st.DrawFn, request: Request) -> None:
        wrong = draw(st.one_of(st.sampled_from(TEXTS).map(_escaped), st.sampled_from(RAW_TEXTS)))
        parts = [part if not part.startswith("{") else wrong for part in operation.path.split("/")]
        request.path = "/".join(parts)

    return spoil


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from _places(inner, (*path, name))


def _with(value: Any, path: tuple[str | int, ...]) -> Any:
    if not path:
        return _MARK
    copy = value.copy()
    copy[path[0]] = _with(value[path[0]], path[1:])
    return copy


def _escaped(value: Any) -> str:
    return urllib.parse.quote(str(value), safe="", errors="surrogatepass")
