# SPDX-License-Identifier: Apache-2.0
"""kopf in a thread and an event loop of its own.

When it ends, kopf cancels every task of its loop, whoever made it; in the operator's own loop that would be
the draining of everything else.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, cast

import kopf

from agentpool_core.cluster import AGENT_NAME, GROUP, LABEL_MANAGED_BY, LABEL_NAME, MANAGED_BY, VERSION
from agentpool_operator.handlers.doors import Doors
from agentpool_operator.kube.kinds import Object

LOOK_SECONDS = 15.0
"""How often the watches are counted."""
END_SECONDS = 10.0
LET_GO_SECONDS = 1.0
"""kopf closes its connections without waiting for the end of TLS, which is an answer of the API server; its
loop lives on for that long. Nobody waits for it when the operator is told to stop."""
HAND_OVER_SECONDS = 60.0
"""How long an event may wait for the operator's loop; it holds up the events of its object alone."""

Door = Callable[[str | None, Object], None]


class WatchesEnded(Exception):
    """kopf ended by itself; the process cannot go on."""


class Watches:
    """The watches on everything that the operator looks after.

    Args:
        namespaces: to watch; empty: all.
        identity: of this process; kopf would ask for the user's name, and in a container there may be none.
    """

    def __init__(self, doors: Doors, namespaces: Sequence[str], identity: str) -> None:
        self._doors = doors
        self._identity = identity
        self._namespaces = tuple(namespaces)
        self._stop = threading.Event()

    async def run(self) -> None:
        """Watch until cancelled; raises WatchesEnded."""
        loop = asyncio.get_running_loop()
        registry = kopf.OperatorRegistry()
        register(registry, self._doors, loop)
        ended: Future[None] = Future()
        # A daemon: a kopf that hangs cannot keep the process from ending.
        threading.Thread(target=self._run, args=(registry, ended), name="kopf", daemon=True).start()
        try:
            await asyncio.wrap_future(ended)
        finally:
            self._stop.set()
        raise WatchesEnded("the watches ended")

    def _run(self, registry: kopf.OperatorRegistry, ended: Future[None]) -> None:
        try:
            asyncio.run(
                watched(
                    kopf.operator(
                        registry=registry,
                        settings=settings(),
                        standalone=True,
                        # A type of its own, which kopf keeps to itself.
                        identity=cast(Any, self._identity),
                        clusterwide=not self._namespaces,
                        namespaces=self._namespaces,
                        stop_flag=self._stop,
                    )
                )
            )
        except BaseException as exc:
            if ended.set_running_or_notify_cancel():
                ended.set_exception(exc)
        else:
            if ended.set_running_or_notify_cancel():
                ended.set_result(None)


async def watched(
    operator: Coroutine[Any, Any, None],
    look_seconds: float = LOOK_SECONDS,
    let_go_seconds: float = LET_GO_SECONDS,
) -> None:
    """Run kopf for as long as every watch of it runs; raises WatchesEnded. kopf goes on without a watch whose
    task has ended, for example at an answer of 410 in place of an event, and the operator would see by its
    resync alone."""
    running = asyncio.get_running_loop().create_task(operator, name="kopf")
    most = 0
    try:
        while not running.done():
            await asyncio.wait([running], timeout=look_seconds)
            living = sum(task.get_name().startswith("watcher for ") for task in asyncio.all_tasks())
            most = max(most, living)
            if living < most and not running.done():
                running.cancel()
                await asyncio.wait([running], timeout=END_SECONDS)
                raise WatchesEnded(f"{most - living} of {most} watches ended")
        running.result()
    finally:
        await asyncio.sleep(let_go_seconds)


def register(registry: kopf.OperatorRegistry, doors: Doors, loop: asyncio.AbstractEventLoop) -> None:
    """Have kopf watch, and hand each event to its door in the operator's loop. Handlers return nothing: kopf
    would write it into the object."""

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        # kopf's own log-ins would load the whole synchronous client.
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(GROUP, VERSION, "agentpools", registry=registry)
    async def on_pool(event: Any, **_: Any) -> None:
        await _hand_over(loop, doors.pool, event)

    @kopf.on.event(GROUP, VERSION, "agentinstances", registry=registry)
    async def on_instance(event: Any, **_: Any) -> None:
        await _hand_over(loop, doors.instance, event)

    @kopf.on.event("", "v1", "pods", registry=registry)
    async def on_pod(event: Any, **_: Any) -> None:
        await _hand_over(loop, doors.pod, event)

    @kopf.on.event("apps", "v1", "deployments", registry=registry)
    async def on_deployment(event: Any, **_: Any) -> None:
        await _hand_over(loop, doors.child, event)


async def _hand_over(loop: asyncio.AbstractEventLoop, door: Door, event: Any) -> None:
    kind, body = event["type"], dict(event["object"])
    done: Future[None] = Future()

    def enter() -> None:
        try:
            door(kind, body)
        except Exception as exc:
            done.set_exception(exc)
        else:
            done.set_result(None)

    loop.call_soon_threadsafe(enter)
    async with asyncio.timeout(HAND_OVER_SECONDS):
        await asyncio.wrap_future(done)


def settings() -> kopf.OperatorSettings:
    """kopf's settings: it lists and watches with the server's label selectors, and writes nothing."""
    chosen = kopf.OperatorSettings()
    # Resources are looked up once, at the start: the operator waits for its CRDs before. Watching them would
    # take rights on the CRDs and namespaces of the whole cluster.
    chosen.posting.enabled = False
    chosen.scanning.disabled = True
    chosen.peering.standalone = True
    chosen.watching.label_selectors["", "v1", "pods"] = f"{LABEL_NAME}={AGENT_NAME}"
    chosen.watching.label_selectors["apps", "v1", "deployments"] = f"{LABEL_MANAGED_BY}={MANAGED_BY}"
    return chosen
