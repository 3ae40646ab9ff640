"""A worker in a process of its own, to be killed: ``python -m tests.automation.worker_process < settings.json``."""

import asyncio
import sys

from control_api.settings import Settings
from tests.automation.site import open_site


async def main() -> None:
    """Work until killed."""
    async with open_site(Settings.model_validate_json(sys.stdin.read()), new=False) as site:
        await site.worker().run()


if __name__ == "__main__":
    asyncio.run(main())
