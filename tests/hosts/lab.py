"""Real SSH hosts for tests and the demo: the script `lab` beside this file, with names and addresses given out."""

import fcntl
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TextIO

SCRIPT = Path(__file__).with_name("lab")
SETUP_TIMEOUT_S = 900  # cold, it installs packages and bootstraps two Debian systems
COMMAND_TIMEOUT_S = 120
SLOTS = 12  # sessions that may have hosts at the same time; each has its own addresses
HOSTS_PER_SLOT = 20
SUITES = ("bookworm", "trixie")


class LabError(Exception):
    """A command of the lab failed; the message is what it said."""


@dataclass
class Host:
    """A booted host."""

    name: str
    address: str
    lab: "Lab" = field(repr=False)

    @property
    def octet(self) -> str:
        """The last part of the address, by which the script knows the host."""
        return self.address.rsplit(".", 1)[1]

    def run(self, *command: str) -> str:
        """Run a command as root, without SSH, and return its output; raises LabError when it fails."""
        return self.lab.command("exec", self.name, *command)

    def cut(self) -> None:
        """Drop all traffic of the host."""
        self.lab.command("cut", self.name)

    def heal(self) -> None:
        """Let traffic pass again."""
        self.lab.command("heal", self.name)


class Lab:
    """The hosts of one session. `close` removes them."""

    def __init__(self, environment: dict[str, str], slot: int, lock: TextIO) -> None:
        self._environment = environment
        self._slot = slot
        self._lock = lock
        self._hosts: list[Host] = []
        self.gateway = self.command("gateway").strip()
        self.ssh_key = Path(self.command("key").strip())

    @classmethod
    def open(cls) -> Self:
        """Set the lab up, which takes a minute the first time; raises LabError."""
        if reason := cls.missing():
            raise LabError(reason)
        environment = dict(os.environ)
        run_dir = Path(environment.get("MUSTER_LAB_RUN", "/dev/shm/muster-lab"))
        run_dir.mkdir(exist_ok=True)
        _run(["setup", *SUITES], environment, SETUP_TIMEOUT_S)
        slot, lock = _take_slot(run_dir)
        _run(["clear", f"-{slot}"], environment, COMMAND_TIMEOUT_S)  # a session that was killed leaves its hosts running
        return cls(environment, slot, lock)

    @property
    def environment(self) -> dict[str, str]:
        """What tells the script, when others call it, that this lab is meant."""
        own = {name: value for name, value in self._environment.items() if name.startswith("MUSTER_LAB_")}
        return {**own, "MUSTER_LAB_DIR": str(self.ssh_key.parent)}

    @staticmethod
    def missing() -> str | None:
        """Return why there can be no lab here, or None."""
        if os.geteuid() != 0:
            return "real hosts need root"
        if not (shutil.which("podman") or shutil.which("apt-get")):
            return "real hosts need podman"
        return None

    def boot(self, name: str, suite: str, *, route: bool = True) -> Host:
        """Start to boot a host; `route=False` gives it nothing beyond the bridge. Call `wait` afterwards."""
        host = self.reserve(name)
        self.command("up", host.name, host.octet, suite, *([] if route else ["--no-route"]))
        return host

    def reserve(self, name: str) -> Host:
        """Give a host its name and address, and leave it to others to boot it."""
        network = self.gateway.rsplit(".", 1)[0]
        addresses = [f"{network}.{10 + self._slot * HOSTS_PER_SLOT + number}" for number in range(HOSTS_PER_SLOT)]
        address = next(one for one in addresses if one not in {host.address for host in self._hosts})
        host = Host(f"{name}-{self._slot}", address, self)
        self._hosts.append(host)
        return host

    def wait(self) -> None:
        """Wait until sshd answers on every host."""
        self.command("wait", *(host.octet for host in self._hosts))

    def boot_demo(self, count: int) -> dict[str, str]:
        """Boot `count` hosts, of both Debian releases in turn, and map their names to addresses."""
        names = [f"gpu-{number}" for number in range(1, count + 1)]
        hosts = {name: self.boot(name, SUITES[index % len(SUITES)]) for index, name in enumerate(names)}
        self.wait()
        return {name: host.address for name, host in hosts.items()}

    def remove_hosts(self) -> None:
        """Remove all hosts of this session."""
        if self._hosts:
            self.command("down", *(host.name for host in self._hosts))
        self._hosts.clear()

    def close(self) -> None:
        """Remove the hosts and give names and addresses back."""
        try:
            self.remove_hosts()
        finally:
            self._lock.close()

    def command(self, *arguments: str) -> str:
        """Run a command of the script and return its output; raises LabError when it fails."""
        return _run(arguments, self._environment, COMMAND_TIMEOUT_S)


def _run(arguments: list[str] | tuple[str, ...], environment: dict[str, str], timeout_s: float) -> str:
    done = subprocess.run(
        [str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if done.returncode:
        raise LabError(f"lab {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _take_slot(run_dir: Path) -> tuple[int, TextIO]:
    """Take a range of names and addresses for as long as the returned file is open."""
    for slot in range(SLOTS):
        lock = (run_dir / f"slot-{slot}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        return slot, lock
    raise LabError(f"{SLOTS} sessions have lab hosts already")
