# SPDX-License-Identifier: Apache-2.0
"""Specs, changed one field at a time: does admission hold, does the operator follow, does it come back?

Four oracles: a changed field shows (consistency), a changed pool is as a new one of the same spec
(differential), the last good spec mends what a bad one did (recovery), and the operator neither ends nor logs
a bug (no crash).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from agentpool_core.api import AgentPool, read_object
from agentpool_core.config import resolve
from agentpool_core.errors import InvalidRequest
from agentpool_operator.kube.kinds import POOLS, KubeError, Object
from agentpool_operator.plan.views import Trouble
from faults.findings import Findings
from faults.lane import BROKEN, CONVERGE_SECONDS, POOL, Lane, until
from faults.schema import Field, Mutation, mutate, nodes
from faults.scripts import LEARN_QUIET_SECONDS, ready
from faults.state import first_difference, without_history
from support.apiserver import ApiServer
from support.builders import manifest

SEED: Mapping[str, Any] = {
    "agent": {"entrypoint": "agentpool_agent.agents.echo:Echo"},
    "warmup": {"count": 1},
    "tiers": {"warm": {"replicas": 1}},
}
LARGE = {("tiers", "warm", "replicas"): 4, ("warmup", "count"): 4, ("warmup", "maxCount"): 6}
"""Fields that make pods, and how many pods a live pool may make."""
TROUBLE_SECONDS = 30.0
SHOW_SECONDS = 15.0
INVALID = "ConfigurationInvalid"
MISTAKES: tuple[Mapping[str, Any], ...] = (
    {"agent": {"entrypoint": "agentpool_agent.agents.echo:Echo", "image": BROKEN}},
    {"agent": {"entrypoint": "other.module:Agent", "image": BROKEN}, "warmup": {"count": 2}},
)


def admit(api: ApiServer, mutation: Mutation, seed: Mapping[str, Any], findings: Findings) -> bool:
    """Ask the API server without having it done, and read what it takes as the operator does."""
    findings.tried["spec mutations"] += 1
    body = manifest(mutate(seed, mutation), name="dry")
    try:
        answer = _post(api, body)
    except (httpx.InvalidURL, ValueError) as exc:
        findings.violate(str(mutation), f"cannot be sent: {exc}")
        return False
    if answer.status_code >= 500:
        findings.violate(str(mutation), f"the API server fails: {answer.status_code} {answer.text[:200]}")
    if answer.is_success:
        findings.tried["mutations admitted"] += 1
        _consistent(mutation, seed, answer.json(), findings)
    return answer.is_success


def _post(api: ApiServer, body: Object) -> httpx.Response:
    path = "/apis/agentpool.dev/v1alpha1/namespaces/default/agentpools"
    query = {"fieldValidation": "Strict", "dryRun": "All"}
    return api.client.post(
        path, content=json.dumps(body), params=query, headers={"content-type": "application/json"}
    )


def _consistent(mutation: Mutation, seed: Mapping[str, Any], body: Object, findings: Findings) -> None:
    """What was admitted is understood, and shows in the effective configuration or in the pods."""
    try:
        pool = read_object(AgentPool, body)
        effective = resolve(pool, {}, "uid", 1)
    except InvalidRequest:
        # The operator says so in a condition; admission is not asked to know everything.
        findings.tried["admitted, told by a condition"] += 1
        return
    except Exception as exc:
        findings.violate(str(mutation), f"the operator's reader fails: {type(exc).__name__}: {exc}")
        return
    before = resolve(read_object(AgentPool, _body(seed)), {}, "uid", 1)
    shown = before.model_dump(mode="json") != effective.model_dump(mode="json")
    if not shown and not _of_pods(mutation) and not _default(mutation, before.model_dump(mode="json")):
        findings.violate(str(mutation), "does not show in the effective configuration")


def _body(spec: Mapping[str, Any]) -> Object:
    body = manifest(spec, name="dry")
    body["metadata"] |= {"namespace": "default", "uid": "uid", "generation": 1}
    return body


def _of_pods(mutation: Mutation) -> bool:
    """Whether a field is one of pod templates alone; live steps look at those."""
    return bool(
        {"image", "imagePullPolicy", "imagePullSecrets", "resources", "runtimeClassName"} & {*mutation.field}
    )


def _default(mutation: Mutation, effective: Mapping[str, Any]) -> bool:
    """Whether a field says what held already."""
    if mutation.value in (None, [], {}):
        return True
    return any(_named(mutation.field, path) and same(mutation.value, one) for path, one in nodes(effective))


_OTHERWISE = {"instances_per_replica": "instances_per_host"}
"""Fields that the effective configuration calls by another name."""


def _named(field_: Field, path: Field) -> bool:
    """Whether a place in the effective configuration is a field's: the same name, perhaps with a unit or tier
    around it, in a part of the same name."""
    if not path:
        return False
    name = _snake(field_[-1])
    name, last = _OTHERWISE.get(name, name), path[-1]
    if last != name and not last.startswith(f"{name}_") and not last.endswith(f"_{name}"):
        return False
    within = field_[1] if field_[0] == "tiers" else field_[0]
    return len(path) == 1 or len(field_) == 1 or within in {one.lower() for one in path}


def _snake(name: str) -> str:
    return "".join(f"_{one.lower()}" if one.isupper() else one for one in name)


def same(given: Any, shown: Any) -> bool:
    """Whether the effective configuration shows a value: in another unit perhaps, cores in thousandths, and
    rounded up to a whole number as Kubernetes rounds."""
    units = {"m": 0.001, "Mi": 2**20, "Gi": 2**30, "e3": 1000}
    if isinstance(given, str) and isinstance(shown, int | float):
        found = [unit for unit in units if given.endswith(unit)]
        number = given.removesuffix(found[0]) if found else given
        if not number.replace(".", "").isdigit():
            return False
        value = float(number) * (units[found[0]] if found else 1)
        return shown in (value, value * 1000, math.ceil(value))
    if isinstance(given, int) and isinstance(shown, int) and not isinstance(given, bool):
        # Cores are shown in thousandths.
        return given in (shown, shown / 1000)
    return bool(given == shown)


@dataclass(slots=True)
class Live:
    """A pool on a lane, changed step by step."""

    lane: Lane
    findings: Findings
    spec: dict[str, Any] = field(default_factory=lambda: json.loads(json.dumps(SEED)))
    steps: int = 0

    async def begin(self) -> None:
        """An empty lane with an operator, and the pool as it is at first."""
        await self.lane.clear()
        await self.lane.start()
        await self.lane.ready()
        await self.lane.watches()
        await self._make()

    async def step(self, mutation: Mutation) -> None:
        """One change, and the oracles of consistency and of no crash."""
        changed = mutate(self.spec, mutation)
        if not _small(mutation) or changed == self.spec:
            return
        before = await self._shown()
        try:
            await self._apply(changed)
        except KubeError:
            return
        self.steps += 1
        self.findings.tried["mutations applied live"] += 1
        try:
            await self._settled()
            told = await self._told()
            if INVALID in told or Trouble.REFUSED in told:
                await self._taken_back(mutation, told, before)
            else:
                self.spec = changed
                await self._consistent(mutation, before)
        except TimeoutError:
            self.findings.violate(str(mutation), f"does not settle: {await self._told()}")
        self.crashed(str(mutation))

    async def _taken_back(self, mutation: Mutation, told: str, before: str) -> None:
        """What admission cannot know to be wrong is told by a condition, and mended by the spec of before.

        The operator's own refusal changes nothing; the API server's, of a pod, comes when others were made.
        """
        self.findings.tried["refused live, told by a condition"] += 1
        if INVALID in told and await self._shown() != before:
            self.findings.violate(f"consistency: {mutation}", "is refused, and yet something changed")
        await self._apply(self.spec)
        await self._settled()
        told = await self._told()
        if INVALID in told or Trouble.REFUSED in told:
            self.findings.violate(f"recovery: {mutation}", f"taken back, and still {told}")

    async def _consistent(self, mutation: Mutation, before: str) -> None:
        if _default(mutation, await self._effective()):
            return
        if not _of_pods(mutation):
            self.findings.violate(f"consistency: {mutation}", "is not what the status shows")

        async def shows() -> bool:
            return await self._shown() != before

        try:
            # One pod after the other is replaced.
            await until(shows, SHOW_SECONDS)
        except TimeoutError:
            self.findings.violate(f"consistency: {mutation}", "shows nowhere")

    async def compare(self) -> None:
        """The differential oracle: a new pool of the same spec ends in the same state."""
        changed = without_history(await self.lane.settle(LEARN_QUIET_SECONDS))
        await self._empty()
        await self._make()
        fresh = without_history(await self.lane.settle(LEARN_QUIET_SECONDS))
        self.findings.tried["differential comparisons"] += 1
        if fresh != changed:
            self.findings.violate("differential", first_difference(fresh, changed))

    async def recover(self, mistake: Mapping[str, Any]) -> None:
        """The recovery oracle: a spec whose pods cannot start, then the last good one, and nothing else."""
        good = without_history(await self.lane.settle())
        await self._apply({**self.spec, **mistake})

        async def told() -> bool:
            return "ImageMissing" in await self._told()

        try:
            # Without shared pods the waiting ones of before serve on, and there is no trouble to tell of.
            if _shares(self.spec):
                await until(told, TROUBLE_SECONDS)
        except TimeoutError:
            self.findings.violate("recovery", f"a missing image is not told: {await self._told()}")
        await self._apply(self.spec)
        self.findings.tried["recoveries"] += 1
        found: tuple[str, ...] = ()

        async def back() -> bool:
            nonlocal found
            found = without_history(await self.lane.state())
            return found == good

        try:
            await until(back, CONVERGE_SECONDS)
        except TimeoutError:
            self.findings.violate("recovery", first_difference(good, found))

    def crashed(self, after: str) -> None:
        """The oracle of no crash."""
        bad = [
            line for line in self.lane.log.splitlines() if "Traceback" in line or '"level": "error"' in line
        ]
        if bad:
            self.findings.violate(f"no crash: {after}", bad[-1][-300:])
        if self.lane.ended_by_themselves:
            self.findings.violate(f"no crash: {after}", "the operator ended by itself")
        self.lane.forget_log()
        self.lane.ended_by_themselves = 0

    async def _make(self) -> None:
        """The pool, and an instance of it in a pod of its own: what is said of HOT shows in that."""
        await self._apply(self.spec)
        await self.lane.instance("vip", tier="HOT")
        await self._settled()

    async def _apply(self, spec: Mapping[str, Any]) -> None:
        await self.lane.pool(spec)

    async def _empty(self) -> None:
        await self.lane.remove()

        async def empty() -> bool:
            return not any((await self.lane.objects()).values())

        await until(empty, CONVERGE_SECONDS)
        self.lane.node.forget()

    async def _settled(self) -> None:
        """Wait until the operator told of this generation: that all is well, or what is not."""

        async def told() -> bool:
            if await ready(self.lane):
                return True
            words = await self._told()
            return bool(words) and "Progressing" not in words

        await until(told, CONVERGE_SECONDS)

    async def _told(self) -> str:
        """Reasons of the conditions of this generation that are not good news; empty: not told yet."""
        body = await self.lane.mirror.get(POOLS, self.lane.name, POOL)
        assert body is not None
        generation = body["metadata"]["generation"]
        conditions = (body.get("status") or {}).get("conditions") or ()
        now = [one for one in conditions if one.get("observedGeneration") == generation]
        bad = [one for one in now if one["type"] in ("Ready", "WarmupComplete") and one["status"] != "True"]
        return ", ".join(one["reason"] for one in bad)

    async def _effective(self) -> Object:
        body = await self.lane.mirror.get(POOLS, self.lane.name, POOL)
        effective: Object = ((body or {}).get("status") or {}).get("effective") or {}
        return effective

    async def _shown(self) -> str:
        """Everything that a field can show in: the effective configuration, and the templates of objects."""
        objects = await self.lane.objects()
        effective = {**await self._effective(), "generation": 0}
        parts = [one["spec"] for kind in ("Deployment", "PodDisruptionBudget") for one in objects[kind]]
        hashes = sorted(
            str((one["metadata"].get("annotations") or {}).get("agentpool.dev/template-hash"))
            for one in objects["Pod"]
        )
        return json.dumps([effective, parts, hashes], sort_keys=True)


def _shares(spec: Mapping[str, Any]) -> bool:
    """Whether a pool has shared pods."""
    warm = (spec.get("tiers") or {}).get("warm") or {}
    return bool(warm.get("replicas", 2)) and bool(warm.get("maxInstances", 1))


def _small(mutation: Mutation) -> bool:
    most = LARGE.get(mutation.field)
    return most is None or (isinstance(mutation.value, int) and mutation.value <= most)


async def live_steps(lane: Lane, drawn: Sequence[Mutation], number: int, findings: Findings) -> None:
    """A sequence of steps on a pool, then a comparison and a recovery where the last spec is a good one."""
    live = Live(lane, findings)
    await live.begin()
    for mutation in drawn:
        await live.step(mutation)
    if not await ready(lane):
        return
    try:
        await live.compare()
        await live.recover(MISTAKES[number % len(MISTAKES)])
    except TimeoutError:
        findings.violate("sequence of steps", "did not settle")
    live.crashed("a sequence")
