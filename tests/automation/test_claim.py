"""The queue: one claim statement on both databases, host locks all or none, oldest waiter first."""

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy.exc import IntegrityError
from sqlmodel import select

from control_api.automation import outcome, repository
from control_api.automation.models import HostLock, Job, JobHost
from control_api.automation.outcome import Outcome
from control_api.automation.states import JobStatus
from control_api.kit.database import Database
from tests.automation.site import create_tables

pytestmark = pytest.mark.anyio

DONE = Outcome(JobStatus.SUCCESSFUL)


async def add_job(database: Database, *hosts: str, priority: int = 0, locks_hosts: bool = True) -> str:
    async with database.control.write() as session:
        job = Job(playbook="site.yml", requested_by="tests", priority=priority, locks_hosts=locks_hosts)
        session.add(job)
        await session.flush()
        session.add_all(JobHost(job_id=job.id, host_id=host, name=host) for host in hosts)
    return job.id


async def claim(database: Database, worker: str = "w", lease_s: int = 60) -> str | None:
    async with database.control.write() as session:
        job = await repository.claim(session, worker, lease_s)
    return job.id if job else None


async def finish(database: Database, job_id: str, attempt: int = 1) -> bool:
    async with database.control.write() as session:
        return await outcome.finish(session, job_id, attempt, None, DONE)


async def locks(database: Database) -> dict[str, str]:
    async with database.control.read() as session:
        return {lock.host_id: lock.job_id for lock in (await session.exec(select(HostLock))).all()}


async def test_claim_takes_all_hosts_or_none(database: Database) -> None:
    first = await add_job(database, "a", "b")
    second = await add_job(database, "b", "c")
    assert await claim(database) == first
    assert await claim(database) is None
    assert await locks(database) == {"a": first, "b": first}
    assert await finish(database, first)
    assert await claim(database) == second
    assert await locks(database) == {"b": second, "c": second}


async def test_job_for_many_hosts_is_not_overtaken_by_jobs_for_few(database: Database) -> None:
    running = await add_job(database, "a")
    assert await claim(database) == running
    wide = await add_job(database, "a", "b")
    narrow = await add_job(database, "b")
    elsewhere = await add_job(database, "c")
    assert await claim(database) == elsewhere
    assert await claim(database) is None
    await finish(database, running)
    assert await claim(database) == wide
    await finish(database, wide)
    assert await claim(database) == narrow


async def test_priority_goes_before_age_and_what_takes_no_lock_waits_for_nobody(database: Database) -> None:
    held = await add_job(database, "a")
    assert await claim(database) == held
    old = await add_job(database, "a")
    urgent = await add_job(database, "a", priority=10)
    looking = await add_job(database, "a", locks_hosts=False)
    assert await claim(database) == looking
    await finish(database, held)
    assert await claim(database) == urgent
    await finish(database, urgent)
    assert await claim(database) == old


async def test_attempt_that_was_given_up_can_change_nothing(database: Database) -> None:
    job_id = await add_job(database, "a")
    await claim(database, lease_s=-1)
    async with database.control.write() as session:
        assert await repository.expired_ids(session) == [job_id]
        (job,) = await repository.expired(session, [job_id])
        assert await outcome.give_up(session, job, None, "silence")
    assert await locks(database) == {}
    assert await claim(database) == job_id
    assert not await finish(database, job_id, attempt=1)
    assert await locks(database) == {"a": job_id}
    assert await finish(database, job_id, attempt=2)


async def test_many_workers_run_every_job_once_and_no_host_twice_at_once(database: Database) -> None:
    hosts = [f"h{number}" for number in range(6)]
    jobs = [await add_job(database, *{hosts[n % 6], hosts[(n * 5 + 1) % 6]}) for n in range(40)]
    done: list[str] = []
    busy: set[str] = set()

    async def worker(name: str) -> None:
        while len(done) < len(jobs):
            if not (job_id := await claim(database, name)):
                await asyncio.sleep(0.005)
                continue
            async with database.control.read() as session:
                mine = {host.host_id for host in (await repository.hosts_of(session, [job_id]))[job_id]}
            assert not mine & busy
            busy.update(mine)
            await asyncio.sleep(0.002)
            busy.difference_update(mine)
            done.append(job_id)
            assert await finish(database, job_id)

    async with asyncio.timeout(60):
        await asyncio.gather(*(worker(f"w{number}") for number in range(6)))
    assert sorted(done) == sorted(jobs)
    assert await locks(database) == {}


async def test_a_host_cannot_be_locked_twice(database: Database) -> None:
    await add_job(database, "a")
    await claim(database)
    other = await add_job(database, "a")
    with pytest.raises(IntegrityError):
        async with database.control.write() as session:
            await repository.lock_hosts(session, other)


class Queue(RuleBasedStateMachine):
    """Jobs, workers and lost supervisors in any order, beside a model of what must hold."""

    directory: Path
    names: Iterator[int]
    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        number = next(self.names)
        urls = (f"sqlite+aiosqlite:///{self.directory}/{name}-{number}.db" for name in ("control", "telemetry"))
        self.database = Database.open(*urls)
        self.run(create_tables(self.database))
        self.waiting: list[tuple[int, str, frozenset[str]]] = []
        self.running: dict[str, tuple[int, int, frozenset[str]]] = {}

    def run[Value](self, work: "asyncio._CoroutineLike[Value]") -> Value:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.run(self.database.close())

    def may_run(self) -> list[str]:
        """Return the jobs that may be claimed, the one that must be first."""
        held = frozenset().union(*(hosts for _, _, hosts in self.running.values()))
        free = []
        for _, job_id, hosts in sorted(self.waiting, key=lambda job: (-job[0], job[1])):
            if not hosts & held:
                free.append(job_id)
            held |= hosts
        return free

    @rule(hosts=st.frozensets(st.sampled_from("abcd"), min_size=1), priority=st.sampled_from([0, 0, 5]))
    def ask(self, hosts: frozenset[str], priority: int) -> None:
        self.waiting.append((priority, self.run(add_job(self.database, *hosts, priority=priority)), hosts))

    @rule()
    def claim(self) -> None:
        free = self.may_run()
        claimed = self.run(claim(self.database))
        assert claimed == (free[0] if free else None)
        if claimed:
            (job,) = [job for job in self.waiting if job[1] == claimed]
            self.waiting.remove(job)
            attempt = self.run(self.attempt(claimed))
            self.running[claimed] = (job[0], attempt, job[2])

    async def attempt(self, job_id: str) -> int:
        async with self.database.control.read() as session:
            return (await session.get_one(Job, job_id)).attempt

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if self.running:
            job_id = data.draw(st.sampled_from(sorted(self.running)))
            _, attempt, _ = self.running.pop(job_id)
            assert self.run(finish(self.database, job_id, attempt))
            assert not self.run(finish(self.database, job_id, attempt))

    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        if self.running:
            job_id = data.draw(st.sampled_from(sorted(self.running)))
            priority, attempt, hosts = self.running.pop(job_id)
            self.run(self.give_up(job_id))
            if attempt < outcome.MAX_ATTEMPTS:
                self.waiting.append((priority, job_id, hosts))

    async def give_up(self, job_id: str) -> None:
        async with self.database.control.write() as session:
            assert await outcome.give_up(session, await session.get_one(Job, job_id), None, "silence")

    @invariant()
    def locks_are_those_of_the_running_jobs(self) -> None:
        expected = {host: job_id for job_id, (_, _, hosts) in self.running.items() for host in hosts}
        assert self.run(locks(self.database)) == expected


def test_queue_holds_in_any_order_of_events(tmp_path: Path) -> None:
    Queue.directory, Queue.names, Queue.loop = tmp_path, count(), asyncio.new_event_loop()
    slow = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    try:
        run_state_machine_as_test(
            Queue, settings=settings(max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=slow)
        )
    finally:
        Queue.loop.close()
