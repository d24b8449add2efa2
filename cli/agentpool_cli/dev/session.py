# SPDX-License-Identifier: Apache-2.0
"""One run of `agentpool dev`: parts started, kept, reloaded and ended in order."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence

from agentpool_cli.dev.banner import SEPARATE_USERS, Facts, banner, why_one_user
from agentpool_cli.dev.command import DevOptions
from agentpool_cli.dev.hosts import HostLink
from agentpool_cli.dev.keeper import Keeper
from agentpool_cli.dev.launch import (
    base_environment,
    gateway_command,
    initialise_command,
    pod_command,
    pod_environment,
    pod_places,
)
from agentpool_cli.dev.layout import PodPlace, RunDirectory
from agentpool_cli.dev.orphans import adopt_orphans, users_below
from agentpool_cli.dev.parts import Parts, cancelled, stop_signals
from agentpool_cli.dev.plan import LocalPool, local_pool
from agentpool_cli.dev.ports import check_free
from agentpool_cli.dev.processes import Child
from agentpool_cli.dev.reload import Reloader
from agentpool_core.errors import AgentPoolError, InvalidRequest, Unavailable

READY_SECONDS = 30.0
"""From the start of the parts to the first ready host; a usual start takes two seconds."""
INITIALISE_SECONDS = 10.0
GATEWAY_GRACE_SECONDS = 8.0
POD_GRACE_SECONDS = 15.0
"""A host drains: requests in flight have this long to end before it is killed."""


class Session:
    """Everything of one run."""

    def __init__(self, options: DevOptions, environ: Mapping[str, str]) -> None:
        self._options = options
        self._environ = environ
        self._began = time.monotonic()

    async def run(self) -> int:
        """Run until a signal asks for the end; every process is ended then. Returns the exit code.

        Raises AgentPoolError when the pool cannot be started.
        """
        pool = local_pool(
            await asyncio.to_thread(read_manifest, self._options),
            self._environ,
            1,
            redis=self._options.redis is not None,
        )
        adopt_orphans()
        run = RunDirectory.open(self._options.state_dir)
        try:
            await self._initialise_store(pool)
            failure = await self._serve(pool, run)
        finally:
            await asyncio.to_thread(run.close)
        if failure is not None:
            raise failure
        return 0

    async def _serve(self, pool: LocalPool, run: RunDirectory) -> AgentPoolError | None:
        private_key = run.write_keys()
        ports = [check_free(0, "--port") for _ in range(self._options.hosts)]
        places = pod_places(pool.config, ports)
        run.write_pool(pool.config)
        run.write_membership(pool.config, places)
        run.write_gateway(pool.config, self._options.rest_port, self._options.grpc_port)
        parts = self._parts(pool, run, places, private_key)
        reloader = Reloader(self._options, self._environ, pool, places, run, parts, show)
        with stop_signals(parts.kill) as stop:
            async with parts.running():
                try:
                    await self._until(stop, pool, parts, reloader)
                except AgentPoolError as exc:
                    # Kept aside: within the block it would come out as an exception group.
                    return exc
                show("\nEnding: requests in flight are finished, then every process is stopped.")
        return None

    async def _until(self, stop: asyncio.Event, pool: LocalPool, parts: Parts, reloader: Reloader) -> None:
        ends = asyncio.create_task(_wait(stop))
        work = asyncio.create_task(self._work(pool, parts, reloader))
        try:
            await asyncio.wait({ends, work}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
                await ends
        finally:
            await cancelled((ends, work))

    async def _work(self, pool: LocalPool, parts: Parts, reloader: Reloader) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                await parts.wait_ready(self._options.rest_port)
        except TimeoutError:
            cause = " ".join(parts.problems()) or "A part does not answer."
            raise Unavailable(
                f"The pool did not become ready within {READY_SECONDS:g} s. {cause}",
                remedy="See the log lines above for the cause.",
            ) from None
        sys.stdout.write(banner(await self._facts(pool, parts)))
        sys.stdout.flush()
        if self._options.reload:
            await reloader.run()

    async def _initialise_store(self, pool: LocalPool) -> None:
        if self._options.redis is None:
            return
        environ = pod_environment(self._environ, self._options.redis)
        directory = self._options.manifest.parent
        child = await Child.start("store", initialise_command(pool.config), environ, _silent, directory)
        try:
            async with asyncio.timeout(INITIALISE_SECONDS):
                code = await child.wait()
        except TimeoutError:
            code = await child.stop(0)
        if code != 0:
            cause = child.tail[-1] if child.tail else "no answer"
            raise Unavailable(
                f"The Redis of --redis cannot be used: {cause}", remedy="Start it, or correct the URL."
            )

    def _parts(
        self, pool: LocalPool, run: RunDirectory, places: Sequence[PodPlace], private_key: bytes
    ) -> Parts:
        keepers: list[Keeper] = []

        def note_processes() -> None:
            started = {one.name: {"pid": one.child.pid} for one in keepers if one.child is not None}
            run.write_processes(started)

        def keeper(name: str, command: Sequence[str], environ: Mapping[str, str], grace: float) -> Keeper:
            directory = self._options.manifest.parent
            keepers.append(Keeper(name, command, environ, show, directory, grace, note_processes))
            return keepers[-1]

        environ = pod_environment(self._environ, self._options.redis)
        commands = [pod_command(place, pool.config, run, self._options.app_dirs) for place in places]
        return Parts(
            pods=[
                keeper(place.name, command, environ, POD_GRACE_SECONDS)
                for place, command in zip(places, commands, strict=True)
            ],
            gateway=keeper(
                "gateway", gateway_command(run), base_environment(self._environ), GATEWAY_GRACE_SECONDS
            ),
            links=[HostLink(place, private_key) for place in places],
        )

    async def _facts(self, pool: LocalPool, parts: Parts) -> Facts:
        status = parts.links[0].status
        guards = list(status.isolation) if status else []
        missing = dict(status.isolation_missing) if status else {}
        pod = parts.pods[0].child
        users = await asyncio.to_thread(users_below, pod.pid) if pod is not None else set[int]()
        if len(users) > 1:
            guards.append(SEPARATE_USERS)
        else:
            missing[SEPARATE_USERS] = why_one_user(os.geteuid())
        return Facts(
            pool=f"{pool.config.namespace}/{pool.config.name}",
            entrypoint=pool.config.agent.entrypoint,
            rest_port=self._options.rest_port,
            grpc_port=self._options.grpc_port,
            storage="Redis" if self._options.redis else "memory",
            hosts=len(parts.links),
            guards=guards,
            missing=missing,
            notes=pool.notes,
            ready_seconds=time.monotonic() - self._began,
            reloads=self._options.reload,
        )


def read_manifest(options: DevOptions) -> str:
    """The manifest's text. Raises InvalidRequest."""
    try:
        return options.manifest.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidRequest(
            f"The manifest {options.manifest} cannot be read: {exc}.", remedy="Name a readable text file."
        ) from exc


def show(line: str) -> None:
    """A line for the user, on standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _silent(line: str) -> None:
    """For a child whose words are shown only when it fails."""


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
