"""The command line: what a newcomer and a script see."""

import asyncio
import json
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from control_api.cli import app
from tests.fleet.reports import PlayedNode, bearer
from tests.processes import PROJECT
from tests.running import Api

pytestmark = pytest.mark.anyio

UNREACHABLE = "http://127.0.0.1:1"
SERVER_SIDE = {
    "alembic",
    "ansible",
    "ansible_runner",
    "fastapi",
    "huggingface_hub",
    "sqlalchemy",
    "sqlmodel",
    "starlette",
    "uvicorn",
}
NO_HOME = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
COMMANDS = ["hosts", "nodes", "jobs", "models", "tasks", "keys", "providers", "settings", "wheelhouse", "serve", "store"]


def run(api: Api, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``muster`` against an API."""
    environment = {"MUSTER_API_URL": api.url, "MUSTER_API_KEY": api.key, **NO_HOME}
    command = [sys.executable, "-m", "control_api.cli", *arguments]
    return subprocess.run(
        command, cwd=PROJECT, env=environment, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


async def muster(api: Api, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``muster`` without stopping the API's loop, which is this one."""
    return await asyncio.to_thread(run, api, *arguments)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 5


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["--help"], 0),
        (["hosts", "list"], 1),
        (["jobs", "run", "site.yml", "gpu-01"], 1),
        (["models", "push", "smollm2:135m"], 1),
    ],
)
def test_a_command_that_only_talks_http_loads_no_server(arguments: list[str], exit_code: int) -> None:
    """Loading the server side takes seconds of the operator's time on a busy machine."""
    environment = {**NO_HOME, "MUSTER_API_URL": UNREACHABLE, "MUSTER_API_KEY": "mk_x"}
    command = [sys.executable, "-X", "importtime", "-m", "control_api.cli", *arguments]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60, check=False)

    loaded = re.findall(r"^import time: +\d+ \| +\d+ \| +(\S+)$", done.stderr, re.MULTILINE)
    assert done.returncode == exit_code, done.stderr[-2000:]
    assert "control_api.client.schemas" in loaded
    assert not SERVER_SIDE & {name.partition(".")[0] for name in loaded}
    assert [name for name in loaded if re.fullmatch(r"control_api\..+\.(repository|service|routes)", name)] == []


async def test_hosts_from_nothing_to_a_list(api: Api) -> None:
    empty = await muster(api, "hosts", "list")
    assert "muster hosts add" in empty.stdout
    options = ["--tag", "site:tokyo", "--var", "gpu_host_require_gpu=false"]
    added = await muster(api, "hosts", "add", "gpu-01", "10.0.0.1", *options)
    assert added.returncode == 0, added.stderr
    assert "muster jobs run site.yml gpu-01" in added.stdout
    listed = json.loads((await muster(api, "hosts", "list", "--json")).stdout)
    assert listed[0]["variables"] == {"gpu_host_require_gpu": False}
    assert "10.0.0.1:22" in (await muster(api, "hosts", "list")).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hosts", "add", "{{ 1+1 }}", "10.0.0.1"], "name"),
        (["hosts", "add", "a", "10.0.0.1; id"], "address"),
        (["hosts", "add", "a", "10.0.0.1", "--var", "nonsense"], "NAME=VALUE"),
        (["jobs", "run", "nope.yml", "a"], "site.yml"),
        (["jobs", "show", "nope"], "nope"),
        (["nodes", "drain", "nope"], "nope"),
        (["models", "register", "nope:1b"], "nope:1b"),
    ],
)
async def test_bad_input_is_named_and_the_exit_code_says_so(api: Api, arguments: list[str], said: str) -> None:
    done = await muster(api, *arguments)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_hold_of_another_is_named_and_removed_only_when_that_is_meant(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    other = (await api.http.post("/v0/api-keys", json={"name": "ci", "scopes": ["operate"]})).json()["key"]
    await api.http.post(f"/v0/nodes/{node.id}/drain", json={"reason": "fan"}, headers=bearer(other))

    own, every = await muster(api, "nodes", "resume", "gpu-01"), await muster(api, "nodes", "resume", "gpu-01", "--all")

    assert own.stdout == "gpu-01 is still held by api_key:ci (fan). --all removes that, too.\n"
    assert every.stdout == "gpu-01 is registering.\n"


async def test_alerts_say_what_to_do_and_the_exit_code_that_there_are_some(api: Api) -> None:
    quiet = await muster(api, "alerts")
    assert (quiet.returncode, quiet.stdout) == (0, "Nothing is wrong.\n")
    node = await PlayedNode.enrolled(api)
    failed = {"id": "m:1", "state": "failed", "error": "no room"}
    await node.beat(models=[failed], ready_models={"loaded": 0, "total": 1})

    loud, listed = await muster(api, "alerts"), await muster(api, "alerts", "--json")
    critical = await muster(api, "alerts", "--severity", "critical")

    assert loud.returncode == listed.returncode == 2
    assert "warning node.degraded since" in loud.stdout and "To do: muster nodes models gpu-01" in loud.stdout
    assert [alert["subject"]["id"] for alert in json.loads(listed.stdout)] == [node.id]
    assert (critical.returncode, critical.stdout) == (0, "Nothing is wrong.\n")


async def test_a_key_is_made_and_works(api: Api) -> None:
    made = await muster(api, "keys", "create", "app", "--scope", "read")
    assert (await api.http.get("/v0/hosts", headers={"authorization": f"Bearer {made.stdout.strip()}"})).status_code == 200
    assert made.stdout.strip() not in (await muster(api, "keys", "list")).stdout


async def test_a_key_may_have_limits_per_minute(api: Api) -> None:
    limits = ["--requests-per-minute", "60", "--tokens-per-minute", "9000"]
    made = json.loads((await muster(api, "keys", "create", "app", *limits, "--json")).stdout)

    assert (made["requests_per_minute"], made["tokens_per_minute"]) == (60, 9000)
    listed = (await muster(api, "keys", "list")).stdout
    assert "60" in listed and "9000" in listed
    assert (await muster(api, "keys", "create", "app", "--requests-per-minute", "0")).returncode == 2


async def test_no_api_and_no_key_are_said_in_words(api: Api) -> None:
    environment = {**NO_HOME, "MUSTER_API_URL": UNREACHABLE, "MUSTER_API_KEY": "mk_x"}
    command = [sys.executable, "-m", "control_api.cli", "nodes", "list"]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "does not answer" in done.stderr) == (1, True)
    del environment["MUSTER_API_KEY"]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "MUSTER_API_KEY" in done.stderr) == (2, True)


@pytest.mark.parametrize("arguments", [["serve", "api"], ["hosts", "list"]])
def test_a_wrong_setting_is_named(arguments: list[str]) -> None:
    environment = {**NO_HOME, "MUSTER_API_PORT": "eighty"}
    command = [sys.executable, "-m", "control_api.cli", *arguments]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "MUSTER_API_PORT" in done.stderr
    assert "Traceback" not in done.stderr


async def test_names_from_outside_are_not_markup(api: Api) -> None:
    await api.http.post("/v0/api-keys", json={"name": "[bold red]x[/] [link=http://evil]y", "scopes": ["read"]})
    assert "[bold red]x[/]" in (await muster(api, "keys", "list")).stdout


async def test_providers_from_a_key_to_none(api: Api) -> None:
    def given(*arguments: str, key: str = "") -> subprocess.CompletedProcess[str]:
        return run(api, "providers", *arguments, stdin=key)

    made = await asyncio.to_thread(given, "set", "openai", "--model", "gpt-5", key="sk-provider-0123456789\n")
    bad = await asyncio.to_thread(given, "set", "openai", "--model", "gpt-5", key="short\n")
    listed = await asyncio.to_thread(given, "list")
    removed = await asyncio.to_thread(given, "remove", "openai")
    empty = await asyncio.to_thread(given, "list")

    assert (made.returncode, made.stdout) == (0, "openai: 1 models, such as openai:gpt-5.\n")
    assert bad.returncode == 2
    assert "api_key" in bad.stderr
    assert "openai:gpt-5" in listed.stdout
    assert "sk-provider" not in made.stdout + listed.stdout + bad.stderr
    assert removed.returncode == 0
    assert "muster providers set" in empty.stdout


async def test_a_host_that_an_operator_added_is_shown_to_an_admin_and_accepted(api: Api) -> None:
    other = (await api.http.post("/v0/api-keys", json={"name": "ci", "scopes": ["operate"]})).json()["key"]
    added = await muster(api, "hosts", "add", "gpu-01", "10.0.0.1", "--user", "ops", "--api-key", other)
    listed = await muster(api, "hosts", "list")
    asked = await asyncio.to_thread(run, api, "hosts", "accept", "gpu-01", stdin="n\n")
    refused = await muster(api, "jobs", "run", "site.yml", "gpu-01")
    accepted = await muster(api, "hosts", "accept", "gpu-01", "--yes")

    assert added.stdout == "Added gpu-01. Next: an admin accepts it: muster hosts accept gpu-01\n"
    assert "proposed" in listed.stdout
    assert "gpu-01: ops@10.0.0.1:22, host key not known yet" in asked.stdout and asked.returncode == 1
    assert "Not accepted by an admin yet: gpu-01." in refused.stderr and "muster hosts accept gpu-01" in refused.stderr
    assert accepted.stdout == "Accepted gpu-01.\n"
    assert (await api.http.get("/v0/hosts/gpu-01")).json()["acceptance"] == "accepted"
