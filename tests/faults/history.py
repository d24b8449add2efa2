# SPDX-License-Identifier: Apache-2.0
"""The ten invariants, over a recorded history: pure.

A history is what observers saw, in order of time: objects as the API server told of them, writes of
operators, and what hosts, callers and runs did. An invariant that a history has no entries for holds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentpool_core.cluster import LABEL_INSTANCE, LABEL_POOL_UID, LABEL_ROLE, ROLE_GENERIC, ROLE_HOT
from agentpool_operator.plan.generic import surge

ORPHAN_SECONDS = 60.0
STALE_SECONDS = 10.0
"""For how long the former wish counts still: a write that began before it changed may come after."""
Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """An object as a watch told of it; `change`: ADDED, MODIFIED or DELETED."""

    at: float
    change: str
    body: Object


@dataclass(frozen=True, slots=True)
class Wrote:
    """An operator wrote something other than a Lease."""

    at: float
    by: str
    what: str


@dataclass(frozen=True, slots=True)
class Rest:
    """From here to `until` nothing was to be done."""

    at: float
    until: float


@dataclass(frozen=True, slots=True)
class Held:
    """A host began (or, with `ended`, stopped) to serve an instance for a tenant."""

    at: float
    instance: str
    host: str
    tenant: str
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A request: accepted, had an effect, or ended with a result or an error that the caller saw."""

    at: float
    id: str
    what: str
    ok: bool = True


ACCEPTED, EFFECT, ENDED = "accepted", "effect", "ended"


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint of an instance in one pool was written."""

    at: float
    instance: str
    version: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run of an agent began, was cancelled, or ended; `parent`: the run that began it."""

    at: float
    id: str
    what: str
    parent: str = ""


BEGAN, CANCELLED = "began", "cancelled"
Entry = Seen | Wrote | Rest | Held | Request | Saved | Run


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a history is judged by.

    Attributes:
        grace_seconds: how long a child may outlive its cancelled parent.
        end: when the recording ended.
    """

    end: float
    grace_seconds: float = 30.0


@dataclass(slots=True)
class _Pods:
    """Pods by pool as a history goes on."""

    pools: dict[str, Object] = field(default_factory=dict)
    wishes: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    present: dict[str, tuple[str, str]] = field(default_factory=dict)

    def note(self, seen: Seen) -> None:
        uid = seen.body["metadata"]["uid"]
        if seen.body["kind"] == "AgentPool":
            self.pools[uid] = seen.body
            self.wishes[uid].append((seen.at, _wanted(seen.body)))
            return
        labels = seen.body["metadata"].get("labels") or {}
        role = "own" if labels.get(LABEL_INSTANCE) else labels.get(LABEL_ROLE, "")
        if seen.change == "DELETED":
            self.present.pop(uid, None)
        else:
            self.present[uid] = (labels.get(LABEL_POOL_UID, ""), role)

    def count(self, pool: str, *roles: str) -> int:
        return sum(1 for of, role in self.present.values() if of == pool and role in roles)

    def most_wanted(self, pool: str, now: float) -> int | None:
        """The largest wish that may still be acted upon; None: the pool is not known."""
        wishes = self.wishes.get(pool)
        if not wishes:
            return None
        recent = [count for at, count in wishes if at >= now - STALE_SECONDS]
        return max(
            [*recent, wishes[-1][1], *[c for at, c in wishes[-2:-1] if wishes[-1][0] >= now - STALE_SECONDS]]
        )


def _wanted(pool: Object) -> int:
    warmup = pool["spec"].get("warmup") or {}
    if warmup.get("enabled") is False:
        return 0
    count = int(warmup.get("count", 5))
    return max(count, int(warmup.get("maxCount") or 0))


def _seen(history: Sequence[Entry], *kinds: str) -> Iterator[Seen]:
    for entry in history:
        if isinstance(entry, Seen) and entry.body["kind"] in kinds:
            yield entry


def pods_within_surge(history: Sequence[Entry], _: Bounds) -> Iterator[str]:
    """1: whenever a waiting pod is made there are at most as many as wanted plus surge."""
    pods = _Pods()
    for seen in _seen(history, "AgentPool", "Pod"):
        pods.note(seen)
        if seen.body["kind"] != "Pod" or seen.change != "ADDED":
            continue
        labels = seen.body["metadata"].get("labels") or {}
        pool = labels.get(LABEL_POOL_UID, "")
        wanted = pods.most_wanted(pool, seen.at)
        if labels.get(LABEL_ROLE) != ROLE_GENERIC or labels.get(LABEL_INSTANCE) or wanted is None:
            continue
        found = pods.count(pool, ROLE_GENERIC)
        if found > wanted + surge(wanted):
            yield f"{found} waiting pods where {wanted} are wanted"


def one_holder(history: Sequence[Entry], _: Bounds) -> Iterator[str]:
    """2: an instance is served by one host at a time."""
    holders: dict[str, str] = {}
    for entry in history:
        if not isinstance(entry, Held):
            continue
        if entry.ended:
            if holders.get(entry.instance) == entry.host:
                del holders[entry.instance]
        elif holders.setdefault(entry.instance, entry.host) != entry.host:
            yield f"{entry.instance} is on {entry.host} and {holders[entry.instance]}"


def one_tenant(history: Sequence[Entry], _: Bounds) -> Iterator[str]:
    """3: an instance belongs to one tenant for ever."""
    tenants: dict[str, str] = {}
    for entry in history:
        if isinstance(entry, Held) and tenants.setdefault(entry.instance, entry.tenant) != entry.tenant:
            yield f"{entry.instance} served {tenants[entry.instance]} and {entry.tenant}"


def ends_once(history: Sequence[Entry], _: Bounds) -> Iterator[str]:
    """4: an accepted request ends exactly once, and one that ended well had its effect exactly once."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    well: set[str] = set()
    for entry in history:
        if isinstance(entry, Request):
            counts[entry.id][entry.what] += 1
            if entry.what == ENDED and entry.ok:
                well.add(entry.id)
    for id_, count in counts.items():
        if count[ENDED] != 1 and count[ACCEPTED]:
            yield f"request {id_} ended {count[ENDED]} times"
        if count[EFFECT] > 1:
            yield f"request {id_} had its effect {count[EFFECT]} times"
        if id_ in well and count[EFFECT] == 0:
            yield f"request {id_} was acknowledged, and its effect is lost"


def versions_grow(history: Sequence[Entry], _: Bounds) -> Iterator[str]:
    """5: checkpoint versions only grow."""
    last: dict[str, int] = {}
    for entry in history:
        if isinstance(entry, Saved):
            if entry.version <= last.get(entry.instance, -1):
                yield f"{entry.instance}: version {entry.version} after {last[entry.instance]}"
            last[entry.instance] = entry.version


def status_tells_of_its_generation(history: Sequence[Entry], _: Bounds) -> Iterator[str]:
    """6: no status is of a generation to come, and Ready tells of the generation that the status tells of."""
    for seen in _seen(history, "AgentPool", "AgentInstance"):
        status = seen.body.get("status") or {}
        observed = status.get("observedGeneration", 0)
        name = f"{seen.body['kind']} {seen.body['metadata']['name']}"
        if observed > seen.body["metadata"].get("generation", 0):
            yield f"{name} observed generation {observed} before there was one"
        for one in status.get("conditions") or ():
            ready = one["type"] == "Ready" and one["status"] == "True"
            if ready and one.get("observedGeneration", observed) != observed:
                yield f"{name} is Ready for another generation than {observed}"


def nothing_is_left(history: Sequence[Entry], bounds: Bounds) -> Iterator[str]:
    """7: what belonged to a deleted object is gone 60 s later, and no finalizer holds anything."""
    owned: dict[str, Object] = {}
    deleted: dict[str, float] = {}
    gone: dict[str, float] = {}
    for entry in history:
        if not isinstance(entry, Seen):
            continue
        uid = entry.body["metadata"]["uid"]
        owned[uid] = entry.body
        if entry.change == "DELETED":
            gone[uid] = deleted[uid] = entry.at
        elif "deletionTimestamp" in entry.body["metadata"]:
            deleted.setdefault(uid, entry.at)
            if entry.body["metadata"].get("finalizers"):
                yield f"{entry.body['kind']} {entry.body['metadata']['name']} has a finalizer"
    for uid, body in owned.items():
        owners = [one["uid"] for one in body["metadata"].get("ownerReferences") or ()]
        ends = [deleted[one] for one in owners if one in deleted]
        if not owners or len(ends) < len(owners):
            continue
        if gone.get(uid, bounds.end) - max(ends) > ORPHAN_SECONDS:
            yield f"{body['kind']} {body['metadata']['name']} outlived its owner"


def quota_holds(history: Sequence[Entry], _: Bounds) -> Iterator[str]:
    """8: no HOT pod is made beyond tiers.hot.maxInstances."""
    pods = _Pods()
    for seen in _seen(history, "AgentPool", "Pod"):
        pods.note(seen)
        labels = seen.body["metadata"].get("labels") or {}
        pool = pods.pools.get(labels.get(LABEL_POOL_UID, ""))
        if seen.change != "ADDED" or labels.get(LABEL_ROLE) != ROLE_HOT or pool is None:
            continue
        most = ((pool["spec"].get("tiers") or {}).get("hot") or {}).get("maxInstances")
        found = pods.count(pool["metadata"]["uid"], "own", ROLE_HOT)
        if most is not None and found > most:
            yield f"{found} HOT pods where {most} are allowed"


def children_end(history: Sequence[Entry], bounds: Bounds) -> Iterator[str]:
    """9: a child run ends within the grace time of its parent's cancellation."""
    parents: dict[str, str] = {}
    cancelled: dict[str, float] = {}
    ended: dict[str, float] = {}
    for entry in history:
        if isinstance(entry, Run):
            if entry.what == BEGAN:
                parents[entry.id] = entry.parent
            elif entry.what == CANCELLED:
                cancelled[entry.id] = entry.at
            else:
                ended[entry.id] = entry.at
    for child, parent in parents.items():
        if parent in cancelled and ended.get(child, bounds.end) - cancelled[parent] > bounds.grace_seconds:
            yield f"run {child} outlived {parent}, which was cancelled"


def rest_is_quiet(history: Sequence[Entry], _: Bounds) -> Iterator[str]:
    """10: at rest no operator writes."""
    rests = [entry for entry in history if isinstance(entry, Rest)]
    for entry in history:
        if isinstance(entry, Wrote) and any(rest.at < entry.at < rest.until for rest in rests):
            yield f"{entry.by} wrote at rest: {entry.what}"


INVARIANTS: Mapping[int, Callable[[Sequence[Entry], Bounds], Iterator[str]]] = {
    1: pods_within_surge,
    2: one_holder,
    3: one_tenant,
    4: ends_once,
    5: versions_grow,
    6: status_tells_of_its_generation,
    7: nothing_is_left,
    8: quota_holds,
    9: children_end,
    10: rest_is_quiet,
}


def check(history: Sequence[Entry], bounds: Bounds) -> list[str]:
    """Every violation, with the number of the invariant."""
    ordered = sorted(history, key=lambda entry: entry.at)
    return [f"invariant {number}: {one}" for number, of in INVARIANTS.items() for one in of(ordered, bounds)]
