# SPDX-License-Identifier: Apache-2.0
"""Cuts documents into passages and questions into words. Pure."""

from __future__ import annotations

import re

PASSAGE_CHARS = 600
"""A passage is a paragraph; a longer one is cut between sentences into pieces of about this length, which
fits an answer that is read, not skimmed."""

QUESTION_WORDS = 64
"""Words of a question that are looked for; the rest of a very long one adds time and no meaning."""

_PARAGRAPH = re.compile(r"\n\s*\n")
_HEADING = re.compile(r"#{1,6}\s+(.*\S)")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_WORD = re.compile(r"\w+")
_FILLER = frozenset(
    """a an and are as at be by can could do does for from had has have how i in is it its may me my of on or
    our shall should that the their there they this to was we were what when where which who whom whose why
    will with would you your""".split()
)


def sections(text: str) -> list[tuple[str, str]]:
    """Heading and body of each section of a Markdown text. What comes before the first heading has none;
    a heading with nothing below it is a body itself, so that no word is lost."""
    found: list[tuple[str, str]] = []
    heading, body = "", list[str]()
    for line in [*text.splitlines(), None]:
        named = _HEADING.match(line) if line is not None else None
        if line is not None and named is None:
            body.append(line)
            continue
        joined = "\n".join(body).strip()
        if joined or heading:
            found.append((heading, joined) if joined else ("", heading))
        heading, body = named.group(1) if named else "", []
    return found


def passages(text: str) -> list[str]:
    """The passages of a document, in order, blanks made one."""
    found: list[str] = []
    for paragraph in _PARAGRAPH.split(text):
        flat = " ".join(paragraph.split())
        if flat:
            found.extend(_pieces(flat))
    return found


def _pieces(paragraph: str) -> list[str]:
    pieces: list[str] = []
    for sentence in _SENTENCE.split(paragraph):
        if pieces and len(pieces[-1]) + 1 + len(sentence) <= PASSAGE_CHARS:
            pieces[-1] += " " + sentence
        else:
            pieces.append(sentence)
    return pieces


def question_words(question: str) -> list[str]:
    """The words of a question that carry meaning; all of them when none does."""
    words = list(dict.fromkeys(word.lower() for word in _WORD.findall(question)))
    telling = [word for word in words if word not in _FILLER]
    return (telling or words)[:QUESTION_WORDS]


def match_expression(words: list[str]) -> str:
    """The words as an FTS5 query: any of them. Quoted, so that none is read as an operator."""
    return " OR ".join(f'"{word}"' for word in words)
