"""What processes log."""

import re
import subprocess
import sys

import pytest

from tests.processes import PROJECT

FAILS = """
import structlog
from control_api import logs
from control_api.settings import Settings
logs.configure(Settings(log_format={format!r}), "test")
def fails(password):
    raise ValueError("a mistake")
try:
    fails("se" + "cret-value")
except ValueError:
    structlog.get_logger().exception("failed")
"""


def test_a_traceback_shows_no_values() -> None:
    """Not in either format: passwords and keys are among the variables."""
    for format_ in ("console", "json"):
        command = [sys.executable, "-c", FAILS.format(format=format_)]
        logged = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True).stderr
        assert "a mistake" in logged
        assert "Traceback" in logged
        assert "secret-value" not in logged


HOSTILE = """
import logging, sys, structlog
from control_api import logs
from control_api.settings import Settings
logs.configure(Settings(log_format={format!r}), "test")
text = "a\\x1b]0;t\\x07\\x9b\\u202e\\x7f\\n2026-11-30T12:00:00Z [error] faked"
log = structlog.get_logger()
log.warning("node.says " + text, error=text, parts=[text], name={{"a": text}}, fault=ValueError(text))
logging.getLogger("uvicorn.error").error("%s", text)
for say in (log.exception, logging.getLogger("asyncio").exception):
    try:
        raise ValueError(text)
    except ValueError:
        say("failed")
"""
SECRETS = """
import logging, structlog
from control_api import logs
from control_api.kit.secretbox import new_token
from control_api.settings import Settings
logs.configure(Settings(log_format={format!r}), "test")
urls = ["GET /setup?token=" + new_token("setup"), "https://hub/f?X-Amz-Signature=secret-part&b=c",
    "/v0/events?x&zz=secret-part", "/v0/events?secret-part", "/v0/events?=secret-part",
    "/v0/events?a+b='secret-part", "Bearer " + new_token("mn"),
    "hf_" + "q" * 34, "sk-proj-" + "q" * 40, "postgresql+psycopg://muster:secret-part@db/muster", "http://secret-part@proxy:3128",
    "a: token=secret-part, PGPASSWORD=secret-part api_key=secret-part", "client_secret=secret-part"]
for url in urls:
    structlog.get_logger().info("asked", url=url, urls=[url])
    logging.getLogger("other").error("cannot get %s", url)
    try:
        raise OSError(f"no answer: {{url}}")
    except OSError:
        logging.getLogger("uvicorn.error").exception("failed")
"""


def logged(script: str, format_: str) -> str:
    command = [sys.executable, "-c", script.format(format=format_)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, timeout=60, check=True)
    return done.stderr.decode()


@pytest.mark.parametrize("format_", ["console", "json"])
def test_foreign_text_is_shown_in_a_log_and_makes_no_record(format_: str) -> None:
    said = logged(HOSTILE, format_)
    assert re.findall(r"[^\n -~]", said) == []
    assert said.count("faked") >= 5
    assert [line for line in said.splitlines() if line.startswith("2026-11-30T12:00:00Z")] == []
    assert r"\x1b]0;t\x07\x9b\u202e\x7f" in said.replace(r"\\", "\\")


@pytest.mark.parametrize("format_", ["console", "json"])
def test_a_log_holds_no_query_and_no_token(format_: str) -> None:
    said = logged(SECRETS, format_)
    assert len(re.findall("no answer", said)) == 13
    assert re.findall(r"(setup|mn)_[\w-]{20,}|secret-part|q{16}", said) == []
