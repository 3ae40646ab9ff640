"""Answers of the playground that are not what a model should write: they cost no more than others."""

import re
from html import unescape

import pytest

from dashboards.components.view import Action
from dashboards.pages.playground import Playground, Turn
from tests.dashboards import fake_fleet
from tests.dashboards.office import Office
from tests.dashboards.waiting import until

pytestmark = pytest.mark.anyio

MIB = 1 << 20
# What there may be of an answer that is more than text: it is drawn again and again on the loop that serves everybody.
READ_CHARS = 6144


async def answered(office: Office, fleet: fake_fleet.Fleet, answer: str) -> tuple[Playground, Turn]:
    """Ask, and return the page and what was answered."""
    fleet.chat_pieces = [answer[start : start + 65536] for start in range(0, len(answer), 65536)]
    page = office.open("playground")
    assert isinstance(page, Playground)
    await page.enter()
    await page.act(Action("say", "What is wrong?"))
    await until(lambda: not page._turns[-1].pending)
    return page, page._turns[-1]


@pytest.mark.parametrize("evil", ["|<td>|\n|-|-|\n|c|d|\n\n", "> - ", "[", "[a](", "![", "`", "<b>*a **b ", "- a\n", "&lt;a\n"])
async def test_of_a_long_answer_only_the_beginning_is_more_than_text(
    office: Office, fleet: fake_fleet.Fleet, evil: str
) -> None:
    answer = "**Well.**\n\n" + evil * (MIB // len(evil) - 100)
    page, turn = await answered(office, fleet, answer)
    assert turn.text == answer, "nothing is lost"
    read, _, plain = str(turn.html).partition('<div class="plain">')
    shown = plain.removesuffix("</div>")
    assert "<strong>Well.</strong>" in read
    assert len(read) < 16 * READ_CHARS
    assert not re.search("[<>]", shown)
    assert answer.endswith(unescape(shown))
    assert len(answer) - READ_CHARS <= len(unescape(shown)) < len(answer)
    assert shown in page._conversation()


@pytest.mark.parametrize(
    "table",
    [
        "|a" * 1000 + "|\n" + "|-" * 1000 + "|\n" + "|\n" * 1000,
        "> " + "a|" * 99 + "a\n> " + "-|" * 99 + "-\n" + ">|\n" * 999,
        ("|a" * 30 + "|\n" + "|-" * 30 + "|\n" + "|\n" * 200 + "\n") * 10,
    ],
    ids=["wide", "quoted", "many"],
)
async def test_few_characters_make_no_huge_table(office: Office, fleet: fake_fleet.Fleet, table: str) -> None:
    _, turn = await answered(office, fleet, table)
    assert turn.html.count("<td>") < 5000
    assert "a" in turn.html


async def test_a_table_is_one(office: Office, fleet: fake_fleet.Fleet) -> None:
    answer = "Look:\n\n" + "a line | a bar\n" * 200 + "\n| card | memory |\n|---|---|\n" + "| H200 | 141 GB |\n" * 50
    _, turn = await answered(office, fleet, answer)
    assert turn.html.count("<td>") == 100


async def test_an_answer_without_end_is_stopped(office: Office, fleet: fake_fleet.Fleet) -> None:
    answer = "more " * 300_000
    _, turn = await answered(office, fleet, answer)
    assert (turn.stopped, turn.text == answer[:MIB]) == (True, True)
