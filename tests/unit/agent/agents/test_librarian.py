# SPDX-License-Identifier: Apache-2.0
"""The built-in agents."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from blockbuster import BlockBuster
from hypothesis import given
from hypothesis import strategies as st

from agentpool_agent import Answer, Rejected, Request
from agentpool_agent.agents.echo import Echo
from agentpool_agent.agents.librarian import NO_DOCUMENTS, NO_MATCH, REMEMBERED_TURNS, Librarian
from agentpool_agent.agents.passages import (
    PASSAGE_CHARS,
    match_expression,
    passages,
    question_words,
    sections,
)

RETURNS = "Orders can be returned within 30 days.\n\nThe parcel must be closed."
SHIPPING = "Shipping to Norway takes five days and costs 12 euros."
TEACH = {"documents": [{"id": "returns", "text": RETURNS}, {"id": "shipping", "text": SHIPPING}]}


@pytest.fixture(autouse=True)
def index_in_memory(no_blocking_calls: BlockBuster) -> None:
    """SQLite counts as blocking; this index is in memory and waits for nothing."""
    for name, function in no_blocking_calls.functions.items():
        if name.startswith("sqlite3."):
            function.deactivate()


class FakeContext:
    """Notes whether the request declared itself unchanged."""

    said_unchanged = False

    def unchanged(self) -> None:
        self.said_unchanged = True


async def ask(agent: Any, given: object) -> Any:
    request = Request("1", msgspec.json.encode(given), 1.0)
    (event,) = [event async for event in agent.handle(request, FakeContext())]
    assert isinstance(event, Answer)
    return event.output


async def taught() -> Librarian:
    agent = Librarian()
    assert await ask(agent, TEACH) == {"taught": 2, "documents": 2}
    return agent


async def test_echo_answers_with_its_input() -> None:
    assert await ask(Echo(), [1, {"a": None}]) == [1, {"a": None}]


async def test_the_best_passage_is_quoted_with_its_document() -> None:
    answer = await ask(await taught(), "How many days do I have to return an order?")
    assert answer["answer"] == "Orders can be returned within 30 days."
    assert answer["passages"][0]["document"] == "returns"
    scores = [passage["score"] for passage in answer["passages"]]
    assert scores == sorted(scores, reverse=True)


async def test_no_match_and_no_documents_are_said_honestly() -> None:
    assert await ask(await taught(), "quantum chromodynamics") == {"answer": NO_MATCH, "passages": []}
    assert await ask(Librarian(), "anything") == {"answer": NO_DOCUMENTS, "passages": []}


async def test_a_document_taught_again_replaces_the_earlier_one() -> None:
    agent = await taught()
    await ask(agent, {"documents": [{"id": "returns", "text": "Returns are free."}]})
    assert (await ask(agent, "parcel closed"))["passages"] == []


async def test_state_has_a_part_per_document_and_unchanged_ones_are_the_same_objects() -> None:
    agent = await taught()
    before = agent.snapshot()
    await ask(agent, "norway")
    after = agent.snapshot()
    assert set(after) == {"document:returns", "document:shipping", "conversation"}
    assert after["document:returns"] is before["document:returns"]


async def test_a_restored_librarian_answers_the_same() -> None:
    agent, other = await taught(), Librarian()
    await ask(agent, "norway")
    other.restore(agent.snapshot())
    assert other.snapshot() == agent.snapshot()
    assert await ask(other, "return order") == await ask(agent, "return order")
    other.restore({})
    assert other.snapshot() == {}


async def test_the_conversation_is_bounded() -> None:
    agent = await taught()
    for _ in range(REMEMBERED_TURNS + 5):
        await ask(agent, "norway")
    assert len(msgspec.msgpack.decode(agent.snapshot()["conversation"])) == REMEMBERED_TURNS


@pytest.mark.parametrize(
    "given_input",
    [
        pytest.param(7, id="a number"),
        pytest.param("  ", id="an empty question"),
        pytest.param({"documents": []}, id="no document"),
        pytest.param({"documents": [{"id": "", "text": "x"}]}, id="a document without id"),
        pytest.param({"documents": [{"id": "a"}]}, id="a document without text"),
        pytest.param({"question": "x"}, id="an unknown field"),
    ],
)
async def test_a_wrong_input_is_refused_with_a_remedy(given_input: object) -> None:
    agent = await taught()
    before = agent.snapshot()
    with pytest.raises(Rejected, match="to teach"):
        await ask(agent, given_input)
    assert agent.snapshot() == before


@given(st.text(max_size=200))
def test_any_question_is_safe_for_the_index(question: str) -> None:
    agent = Librarian()
    agent._learn("a", b"some text")
    assert "answer" in agent._answer(question)


def test_a_heading_helps_to_find_its_passage_and_is_not_the_answer() -> None:
    text = "Before.\n# Descaling\nFill the tank.\n\nWait an hour.\n## Alone"
    assert sections(text) == [
        ("", "Before."),
        ("Descaling", "Fill the tank.\n\nWait an hour."),
        ("", "Alone"),
    ]


async def test_a_passage_is_found_by_the_heading_above_it() -> None:
    agent = Librarian()
    await ask(
        agent, {"documents": [{"id": "a", "text": "# Descaling\n\nFill the tank.\n\n# Cups\n\nWarm them."}]}
    )
    assert (await ask(agent, "How do I descale?"))["answer"] == "Fill the tank."


@given(st.text(alphabet="ab #\n", max_size=300))
def test_sections_lose_no_letter(text: str) -> None:
    kept = "".join(heading + body for heading, body in sections(text))
    assert [one for one in kept if one in "ab"] == [one for one in text if one in "ab"]


@given(st.text(alphabet="ab .!?\n", max_size=3000))
def test_passages_lose_no_word(text: str) -> None:
    assert " ".join(passages(text)).split() == text.split()


def test_long_paragraphs_are_cut_between_sentences() -> None:
    found = passages("One sentence of some length. " * 100)
    assert len(found) > 1
    assert all(len(passage) <= PASSAGE_CHARS and passage.endswith(".") for passage in found)


def test_filler_words_count_only_when_there_is_nothing_else() -> None:
    assert question_words("What is the price of it?") == ["price"]
    assert question_words("What is it?") == ["what", "is", "it"]
    assert match_expression(["a", "near"]) == '"a" OR "near"'
