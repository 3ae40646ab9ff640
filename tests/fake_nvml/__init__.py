"""A `libnvidia-ml.so.1` for tests: GPUs that a text file describes, read again at each call."""

import subprocess
from pathlib import Path

__all__ = ["FakeNvml"]

_SOURCE = Path(__file__).with_name("fake_nvml.c")


class FakeNvml:
    """Builds the library and writes the file that drives it.

    Keys: `count`, `init` (code that nvmlInit returns), `delay_ms` (a driver that hangs), and for
    GPU n `n.name`, `n.uuid`, `n.memory_total`, `n.memory_used`, `n.utilization`,
    `n.temperature`, `n.power_mw`, and `n.error` (code that every call on it returns; 15 is lost).
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._conf = directory / "gpus.conf"

    def build(self) -> None:
        """Compile the library; raises CalledProcessError with the compiler's words."""
        library = self._directory / "libnvidia-ml.so.1"
        command = ["cc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(_SOURCE)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def describe(self, **keys: object) -> None:
        """Write the description; `gpu0_name="x"` stands for the key `0.name`."""
        lines = []
        for key, value in keys.items():
            name = f"{key[3]}.{key[5:]}" if key.startswith("gpu") else key
            lines.append(f"{name}={value}\n")
        temporary = self._conf.with_suffix(".new")
        temporary.write_text("".join(lines), encoding="utf-8")
        temporary.replace(self._conf)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to load it; to be set before its Python starts."""
        return {"LD_LIBRARY_PATH": str(self._directory), "FAKE_NVML_CONF": str(self._conf)}
