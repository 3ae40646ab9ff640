"""A task is one generation of one assignment: no other report touches it, and nothing reopens it."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from control_api.distribution.models import DownloadTask
from control_api.distribution.states import TaskStatus
from control_api.distribution.tasks import apply_report, task_out
from control_api.fleet.reports import ModelReport
from control_api.fleet.states import ModelState

NOW = datetime(2026, 1, 1, tzinfo=UTC)

generations = st.integers(0, 4)
reports = st.builds(
    ModelReport,
    id=st.just("a:b"),
    generation=generations,
    state=st.sampled_from(ModelState),
    bytes_done=st.integers(0, 1000),
    bytes_total=st.integers(0, 1000),
    speed_bps=st.integers(0, 1000),
    error=st.none() | st.just("broken"),
)
tasks = st.builds(
    DownloadTask,
    node_id=st.just("n"),
    model_id=st.just("a:b"),
    generation=generations,
    status=st.sampled_from(TaskStatus),
    bytes_total=st.integers(0, 1000),
)


def shown(task: DownloadTask) -> dict[str, object]:
    return task_out(task).model_dump()


@given(tasks, st.lists(reports))
def test_reports_of_another_generation_change_nothing(task: DownloadTask, heard: list[ModelReport]) -> None:
    before = shown(task)

    for report in heard:
        if report.generation != task.generation:
            assert not apply_report(task, report, NOW)

    assert shown(task) == before


@given(tasks, st.lists(reports))
def test_a_closed_task_stays_as_it_is(task: DownloadTask, heard: list[ModelReport]) -> None:
    for report in heard:
        closed = None if task.status.is_open else shown(task)
        apply_report(task, report, NOW)
        assert closed is None or shown(task) == closed


@given(tasks, st.lists(reports))
def test_repeated_heartbeats_say_nothing_new(task: DownloadTask, heard: list[ModelReport]) -> None:
    for report in heard:
        apply_report(task, report, NOW)
        before = shown(task)
        assert not apply_report(task, report, NOW)
        assert shown(task) == before


@given(tasks, st.lists(reports))
def test_what_is_shown_is_consistent(task: DownloadTask, heard: list[ModelReport]) -> None:
    for report in heard:
        apply_report(task, report, NOW)
        out = task_out(task)
        assert 0 <= out.progress <= 1
        assert out.eta_s is None or out.status is TaskStatus.IN_PROGRESS
        if report.generation == task.generation and out.status is TaskStatus.FAILED and out.completed_at:
            assert out.error


def test_progress_speed_and_time_left() -> None:
    task = DownloadTask(node_id="n", model_id="a:b", generation=1, bytes_total=1000)
    report = ModelReport(id="a:b", generation=1, state=ModelState.DOWNLOADING, bytes_done=250, bytes_total=1000, speed_bps=50)

    apply_report(task, report, NOW)

    out = task_out(task)
    assert (out.status, out.progress, out.speed_bps, out.eta_s) == (TaskStatus.IN_PROGRESS, 0.25, 50, 15)
    assert out.started_at == NOW
