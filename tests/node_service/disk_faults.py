"""Run in a mount namespace of its own: a small disk that fills up midway, is cleaned, and is then made read-only."""

import asyncio
import subprocess
import sys
from pathlib import Path

from node_service.errors import InsufficientDisk, WeightsError
from tests.hub import Hub
from tests.node_service.control_plane import ControlPlane
from tests.node_service.installing import Place, Weights

SIZE = 2_000_000
CUT = 1_200_000


async def main(folder: Path) -> None:
    """Walk through the faults; any of them that ends otherwise ends this with an error."""
    disk = folder / "node/store"
    disk.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], check=True)
    control, hub = ControlPlane().start(), Hub(folder / "hub").start()
    weights = Weights.offered(folder / "hub", control, SIZE)
    place = Place.of(folder / "node", control, hub, stall_s=5)

    hub.fail(stall_at=CUT, for_good=True)
    going = asyncio.create_task(place.provide(weights))
    while not any(served.sent_bytes for served in hub.served):
        await asyncio.sleep(0.01)
    filler = disk / "filler"
    subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], check=False, stderr=subprocess.DEVNULL)
    hub.fail()
    try:
        await going
        sys.exit("the disk was full, and nobody noticed")
    except InsufficientDisk as error:
        assert "No space left on device" in str(error) and "bytes" in str(error), error

    kept = place.part_size(weights)
    filler.unlink()
    before = len(hub.served)
    await place.provide(weights)
    assert place.has(weights)
    assert [s.range for s in hub.served[before:] if s.method == "GET"] == [f"bytes={kept}-"], (kept, hub.served)

    place.store.remove(weights.sha256)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        await place.provide(weights)
        sys.exit("nothing can be written, and nobody noticed")
    except WeightsError as error:
        assert "Read-only file system" in str(error) and str(disk) in str(error), error
    hub.stop()
    control.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
