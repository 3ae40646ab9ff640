"""An ssh-agent of the run's own. Keys reach it through a pipe and are never in a file.

ansible-runner has an agent too, but wraps it around the playbook: then SIGTERM would meet the agent and not Ansible.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from control_api.automation.supervisor import processes

START_TIMEOUT_S = 5.0
_LOOK_EVERY_S = 0.02


class AgentError(Exception):
    """The agent or a key cannot be used; says why."""


@dataclass
class Agent:
    """A running agent.

    Attributes
    ----------
    public_keys: the public half of each key, by the name it was given under.
    """

    pids: frozenset[int] = frozenset()
    public_keys: dict[str, str] = field(default_factory=dict)


@contextlib.asynccontextmanager
async def agent(socket: Path, keys: Mapping[str, str], *, lifetime_s: int) -> AsyncIterator[Agent]:
    """Run an agent that holds these private keys for the length of the block. Without keys there is none.

    It is killed with this process, and forgets the keys after ``lifetime_s`` in any case.

    Raises ``AgentError`` if there is no ssh-agent or a key cannot be read, e.g. because it has a passphrase.
    """
    if not keys:
        yield Agent()
        return
    process = await _start("ssh-agent", "-D", "-a", str(socket))
    try:
        await _wait_for(socket)
        running = Agent(frozenset({process.pid}))
        for name, key in keys.items():
            running.public_keys[name] = await _add(socket, key, lifetime_s)
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _start(*command: str, socket: Path | None = None) -> asyncio.subprocess.Process:
    environment = {"SSH_AUTH_SOCK": str(socket), "SSH_ASKPASS_REQUIRE": "never"} if socket else None
    stream = asyncio.subprocess.PIPE if socket else asyncio.subprocess.DEVNULL
    tie = processes.killed_with(os.getpid())
    try:
        return await asyncio.create_subprocess_exec(
            *command, stdin=stream, stdout=stream, stderr=stream, env=environment, preexec_fn=tie
        )
    except OSError as error:
        raise AgentError(f"{command[0]} cannot be started: {error.strerror}") from error


async def _wait_for(socket: Path) -> None:
    for _ in range(int(START_TIMEOUT_S / _LOOK_EVERY_S)):
        if socket.exists():
            return
        await asyncio.sleep(_LOOK_EVERY_S)
    raise AgentError("ssh-agent did not start")


async def _add(socket: Path, key: str, lifetime_s: int) -> str:
    """Add a key and return its public half: the last one listed."""
    adding = await _start("ssh-add", "-q", "-t", str(lifetime_s), "-", socket=socket)
    _, complaint = await asyncio.wait_for(adding.communicate(key.encode()), START_TIMEOUT_S)
    if adding.returncode:
        raise AgentError(f"the SSH key of the credential cannot be used: {complaint.decode(errors='replace').strip()}")
    listing = await _start("ssh-add", "-L", socket=socket)
    listed, _ = await asyncio.wait_for(listing.communicate(), START_TIMEOUT_S)
    return listed.decode().strip().splitlines()[-1] + "\n"
