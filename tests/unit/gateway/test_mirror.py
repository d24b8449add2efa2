# SPDX-License-Identifier: Apache-2.0
"""List and watch: what each event does to the copy of a collection."""

from __future__ import annotations

from typing import Any

import pytest

from agentpool_gateway.membership.mirror import Mirror, Outcome


def item(name: str, uid: str = "", version: str = "5", value: Any = 1) -> dict[str, Any]:
    metadata = {"namespace": "team", "name": name, "uid": uid or f"uid-{name}", "resourceVersion": version}
    return {"metadata": metadata, "value": value}


def event(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": body}


def expired(code: int = 410, reason: str = "Expired") -> dict[str, Any]:
    return event("ERROR", {"kind": "Status", "code": code, "reason": reason})


def value_of(body: Any) -> str:
    if body["value"] == "unreadable":
        raise ValueError
    return f"{body['metadata']['uid']}={body['value']}"


class Copy:
    """A mirror with one object `a` in it, listed at version 4."""

    def __init__(self) -> None:
        self.gone: list[str] = []
        self.mirror = Mirror(value_of, self.gone.append)
        self.mirror.replace([item("a")], "4")

    @property
    def views(self) -> list[str]:
        return sorted(self.mirror.views)


BOOKMARK = event("BOOKMARK", {"metadata": {"resourceVersion": "9"}})
EVENTS = [
    pytest.param(
        event("ADDED", item("b")), Outcome.CHANGED, ["uid-a=1", "uid-b=1"], [], "5", id="an addition is taken"
    ),
    pytest.param(
        event("MODIFIED", item("a", value=2)), Outcome.CHANGED, ["uid-a=2"], [], "5", id="a change is taken"
    ),
    pytest.param(
        event("DELETED", item("a")), Outcome.CHANGED, [], ["uid-a=1"], "5", id="a deletion is told once"
    ),
    pytest.param(
        event("DELETED", item("a", uid="older")),
        Outcome.UNCHANGED,
        ["uid-a=1"],
        [],
        "5",
        id="a late deletion of an earlier object of the same name takes nothing away",
    ),
    pytest.param(
        event("DELETED", item("z")),
        Outcome.UNCHANGED,
        ["uid-a=1"],
        [],
        "5",
        id="the deletion of a stranger is nothing",
    ),
    pytest.param(
        event("ADDED", item("a", uid="newer")),
        Outcome.CHANGED,
        ["newer=1"],
        ["uid-a=1"],
        "5",
        id="another object of the same name means that the first is gone",
    ),
    pytest.param(BOOKMARK, Outcome.UNCHANGED, ["uid-a=1"], [], "9", id="a bookmark moves the version on"),
    pytest.param(
        expired(), Outcome.RELIST, ["uid-a=1"], [], "", id="an expired version asks for a list, and keeps all"
    ),
    pytest.param(
        expired(500, "Expired"), Outcome.RELIST, ["uid-a=1"], [], "", id="so does the reason without the code"
    ),
    pytest.param(
        expired(500, "InternalError"),
        Outcome.BROKEN,
        ["uid-a=1"],
        [],
        "4",
        id="another error asks for a new watch from the same version",
    ),
    pytest.param(
        event("MODIFIED", item("a", value="unreadable")),
        Outcome.CHANGED,
        ["uid-a=1"],
        [],
        "5",
        id="an object that cannot be read keeps its last readable form",
    ),
    pytest.param(
        event("ADDED", item("a", uid="newer", value="unreadable")),
        Outcome.CHANGED,
        [],
        ["uid-a=1"],
        "5",
        id="but not that of another object of its name",
    ),
    pytest.param(
        {"type": "SURPRISE", "object": {}}, Outcome.BROKEN, ["uid-a=1"], [], "4", id="an unknown event"
    ),
]


@pytest.mark.parametrize(("told", "outcome", "views", "gone", "version"), EVENTS)
def test_each_event_has_its_effect(
    told: dict[str, Any], outcome: Outcome, views: list[str], gone: list[str], version: str
) -> None:
    copy = Copy()
    assert copy.mirror.apply(told) is outcome
    assert (copy.views, copy.gone, copy.mirror.version) == (views, gone, version)


def test_what_a_new_list_does_not_have_is_gone() -> None:
    copy = Copy()
    copy.mirror.apply(event("ADDED", item("b")))
    copy.mirror.replace([item("b", value=2), item("c", value="unreadable")], "20")
    assert (copy.views, copy.gone, copy.mirror.version) == (["uid-b=2"], ["uid-a=1"], "20")


def test_an_object_that_became_unreadable_is_not_gone() -> None:
    copy = Copy()
    copy.mirror.replace([item("a", value="unreadable")], "20")
    assert (copy.views, copy.gone) == (["uid-a=1"], [])


def test_it_is_synced_by_its_first_list_and_stays_so() -> None:
    mirror: Mirror[str] = Mirror(value_of, lambda _: None)
    assert (mirror.synced, mirror.version) == (False, "")
    mirror.replace([], "1")
    mirror.apply(expired())
    assert (mirror.synced, mirror.version) == (True, "")
