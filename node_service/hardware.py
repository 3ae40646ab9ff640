"""The machine's facts: GPUs by NVML, processor, memory and disk."""

import asyncio
import contextlib
import os
import platform
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml

__all__ = ["Gpu", "GpuProbe", "GpuReading", "disk_facts", "machine_facts", "memory_total_bytes", "read_gpus"]

_INTERVAL_S = 2.0
_STALE_S = 20.0  # NVML calls that take longer than this mean a hung driver


@dataclass(frozen=True)
class Gpu:
    """One GPU as NVML sees it; readings that the card does not support are None."""

    index: int
    uuid: str
    name: str
    memory_total: int
    memory_used: int
    driver: str
    compute_capability: str
    utilization: int | None
    temperature: int | None
    power_w: float | None

    def facts(self) -> dict[str, Any]:
        """What stays the same, for the registration."""
        keys = ("index", "uuid", "name", "memory_total", "driver", "compute_capability")
        return {key: getattr(self, key) for key in keys}

    def readings(self) -> dict[str, Any]:
        """What changes, for the heartbeat."""
        keys = ("index", "name", "memory_total", "memory_used", "utilization", "temperature", "power_w")
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True)
class GpuReading:
    """One look at all GPUs: those that answered, and why others did not."""

    gpus: tuple[Gpu, ...] = ()
    errors: tuple[str, ...] = ()


class GpuProbe:
    """Reads the GPUs every few seconds from a thread of its own.

    A hung driver blocks that thread and nothing else; `latest` then says so.
    """

    def __init__(self) -> None:
        self._latest = GpuReading(errors=("GPUs were not read yet",))
        self._read_at = time.monotonic()
        self._first = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = threading.Event()
        # A daemon, because a hung driver call cannot be ended by anything but our exit.
        self._thread = threading.Thread(target=self._run, name="gpu-probe", daemon=True)

    def start(self) -> None:
        """Begin reading; called from the event loop that waits for the first reading."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def first_reading(self, timeout_s: float) -> None:
        """Wait until the GPUs were read once, or `timeout_s` have passed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._first.wait(), timeout_s)

    @property
    def latest(self) -> GpuReading:
        """The last reading; never blocks."""
        age_s = time.monotonic() - self._read_at
        if age_s > _STALE_S:
            return GpuReading(errors=(f"NVML has not answered for {age_s:.0f} s",))
        return self._latest

    async def close(self) -> None:
        """Stop reading, without waiting for a driver that hangs."""
        self._stop.set()
        await asyncio.to_thread(self._thread.join, 1.0)

    def _run(self) -> None:
        nvml = _Nvml()
        while not self._stop.is_set():
            self._latest = nvml.read()
            self._read_at = time.monotonic()
            self._tell_first()
            self._stop.wait(_INTERVAL_S)
        nvml.close()

    def _tell_first(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._first.set)


def machine_facts(reading: GpuReading, store_dir: Path) -> dict[str, Any]:
    """Return the hardware section of the registration."""
    disk = disk_facts(store_dir)
    return {
        "gpus": [gpu.facts() for gpu in reading.gpus],
        "gpu_errors": list(reading.errors),
        "cpu": {"model": _cpu_model(), "cores": os.cpu_count() or 1},
        "memory_total": memory_total_bytes(),
        "disk_total": disk["total"],
        "disk_free": disk["free"],
        "platform": _platform(),
    }


def memory_total_bytes() -> int:
    """Return the machine's RAM."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def disk_facts(store_dir: Path) -> dict[str, int]:
    """Return total and free bytes of the disk that holds the model files."""
    usage = shutil.disk_usage(store_dir)
    return {"total": usage.total, "free": usage.free}


def read_gpus() -> GpuReading:
    """Look at all GPUs once; may hang as long as the driver does."""
    nvml = _Nvml()
    try:
        return nvml.read()
    finally:
        nvml.close()


class _Nvml:
    """The driver's library, kept open while all is well and opened anew after an error.

    A driver that is loaded later is found that way, and a lost GPU that came back after a
    reset gets a handle that works.
    """

    def __init__(self) -> None:
        self._open = False

    def read(self) -> GpuReading:
        try:
            if not self._open:
                pynvml.nvmlInit()
                self._open = True
            reading = _read_initialised()
        except pynvml.NVMLError as error:
            reading = GpuReading(errors=(f"NVML: {error}",))
        if reading.errors:
            self.close()
        return reading

    def close(self) -> None:
        if self._open:
            self._open = False
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()


def _read_initialised() -> GpuReading:
    driver = _text(pynvml.nvmlSystemGetDriverVersion())
    gpus, errors = [], []
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            gpus.append(_read_gpu(index, driver))
        except pynvml.NVMLError as error:
            errors.append(f"GPU {index}: {error}")
    if not gpus and not errors:
        errors.append("NVML: no GPU on this machine")
    return GpuReading(tuple(gpus), tuple(errors))


def _read_gpu(index: int, driver: str) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    power_mw = _optional(pynvml.nvmlDeviceGetPowerUsage, handle)
    capability = _optional(pynvml.nvmlDeviceGetCudaComputeCapability, handle)
    rates = _optional(pynvml.nvmlDeviceGetUtilizationRates, handle)
    return Gpu(
        index=index,
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        memory_total=int(memory.total),
        memory_used=int(memory.used),
        driver=driver,
        compute_capability="" if capability is None else ".".join(map(str, capability)),
        utilization=None if rates is None else int(rates.gpu),
        temperature=_optional(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        power_w=None if power_mw is None else power_mw / 1000,
    )


def _optional(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except pynvml.NVMLError_NotSupported:
        return None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.machine()
    return platform.machine()


def _platform() -> str:
    machine = platform.machine()
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    return f"{platform.system().lower()}/{arch}"
