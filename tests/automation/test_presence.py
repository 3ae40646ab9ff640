"""Workers say that they are there, and that they go."""

import pytest
from sqlmodel import select

from control_api.automation.models import WorkerPresence
from tests.automation.site import Site, until

pytestmark = pytest.mark.anyio


async def test_a_worker_is_known_while_it_works_and_not_after(site: Site) -> None:
    async def known() -> list[str]:
        async with site.database.control.read() as session:
            return list((await session.exec(select(WorkerPresence.name))).all())

    async with site.working():
        assert len(await until(known, "the worker to say that it is there")) == 1
    assert await known() == []
