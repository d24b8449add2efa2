# SPDX-License-Identifier: Apache-2.0
"""An agent that answers questions from the documents it was given, by quoting them.

    {"documents": [{"id": "a", "text": "..."}]}  ->  {"taught": 1, "documents": 1}
    "How long may I return an order?"  ->  {"answer": "...", "passages": [{"document", "text", "score"}]}

Passages are ranked by BM25 in an SQLite full-text index in memory. It needs no model, no key and no network.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from agentpool_agent.agents.passages import match_expression, passages, question_words, sections
from agentpool_agent.authoring import Answer, Context, Event, Rejected, Request

QUOTED_PASSAGES = 3
HEADING_WEIGHT = 0.5
"""A section's heading helps to find its passages, but a passage's own words count for more."""
REMEMBERED_TURNS = 50
DOCUMENT_PREFIX = "document:"
CONVERSATION = "conversation"
NO_DOCUMENTS = 'I have no documents yet. Teach me with {"documents": [{"id": "...", "text": "..."}]}.'
NO_MATCH = "I found nothing about that in the documents I have."
_USAGE = 'send a question as text, or {"documents": [{"id": "...", "text": "..."}]} to teach'


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One document as it is taught; the same id replaces the earlier one."""

    id: str
    text: str


class Lesson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input that teaches."""

    documents: list[Document]


class Turn(msgspec.Struct, frozen=True, array_like=True):
    """One question and its answer."""

    question: str
    answer: str


class Librarian:
    """Learns documents and answers questions from them; keeps both documents and conversation."""

    def __init__(self) -> None:
        self._texts: dict[str, bytes] = {}
        self._turns: deque[Turn] = deque(maxlen=REMEMBERED_TURNS)
        self._conversation = b""
        self._index = _empty_index()

    async def setup(self, context: Context) -> None:
        """Nothing to make ready."""

    async def handle(self, request: Request, context: Context) -> AsyncIterator[Event]:
        """Teach or answer; raises Rejected for any other input."""
        try:
            given = _parse(request)
        except Rejected:
            context.unchanged()
            raise
        if isinstance(given, Lesson):
            for document in given.documents:
                self._learn(document.id, document.text.encode())
            yield Answer({"taught": len(given.documents), "documents": len(self._texts)})
        else:
            answer = self._answer(given)
            self._turns.append(Turn(given, answer["answer"]))
            self._conversation = msgspec.msgpack.encode(list(self._turns))
            yield Answer(answer)

    def snapshot(self) -> Mapping[str, bytes]:
        """One part per document, the same object as long as it does not change, and the conversation."""
        parts = {DOCUMENT_PREFIX + name: text for name, text in self._texts.items()}
        if self._conversation:
            parts[CONVERSATION] = self._conversation
        return parts

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take on the parts, and build the index again."""
        self._index.close()
        self._index = _empty_index()
        self._texts = {}
        for name, text in parts.items():
            if name.startswith(DOCUMENT_PREFIX):
                self._learn(name.removeprefix(DOCUMENT_PREFIX), text)
        self._conversation = parts.get(CONVERSATION, b"")
        turns = msgspec.msgpack.decode(self._conversation, type=list[Turn]) if self._conversation else []
        self._turns = deque(turns, maxlen=REMEMBERED_TURNS)

    def _learn(self, name: str, text: bytes) -> None:
        if self._texts.get(name) == text:
            return
        if name in self._texts:
            self._index.execute("DELETE FROM passages WHERE document = ?", (name,))
        rows = [
            (name, heading, passage)
            for heading, body in sections(text.decode())
            for passage in passages(body)
        ]
        self._index.executemany("INSERT INTO passages (document, heading, text) VALUES (?, ?, ?)", rows)
        self._texts[name] = text

    def _answer(self, question: str) -> dict[str, Any]:
        if not self._texts:
            return {"answer": NO_DOCUMENTS, "passages": []}
        words = question_words(question)
        if not words:
            return {"answer": NO_MATCH, "passages": []}
        # FTS5's bm25() is smaller for better matches; a score grows with them.
        found = self._index.execute(
            "SELECT document, text, -bm25(passages, 0, ?, 1) AS score FROM passages "
            "WHERE passages MATCH ? ORDER BY score DESC LIMIT ?",
            (HEADING_WEIGHT, match_expression(words), QUOTED_PASSAGES),
        ).fetchall()
        quoted = [
            {"document": document, "text": text, "score": round(score, 6)} for document, text, score in found
        ]
        return {"answer": quoted[0]["text"] if quoted else NO_MATCH, "passages": quoted}


def _parse(request: Request) -> str | Lesson:
    given = request.input
    if isinstance(given, str):
        if not given.strip():
            raise Rejected(f"the question is empty: {_USAGE}")
        return given
    try:
        lesson = msgspec.convert(given, Lesson)
    except msgspec.ValidationError as exc:
        raise Rejected(f"{exc}: {_USAGE}") from exc
    if not lesson.documents or any(not document.id for document in lesson.documents):
        raise Rejected(f"documents need an id, and there has to be at least one: {_USAGE}")
    return lesson


def _empty_index() -> sqlite3.Connection:
    index = sqlite3.connect(":memory:", isolation_level=None)
    index.execute(
        "CREATE VIRTUAL TABLE passages USING "
        "fts5(document UNINDEXED, heading, text, tokenize='porter unicode61')"
    )
    return index
