# SPDX-License-Identifier: Apache-2.0
"""Changes of code and manifest, carried over to what runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from watchfiles import awatch

from agentpool_cli.dev.command import DevOptions
from agentpool_cli.dev.layout import PodPlace, RunDirectory
from agentpool_cli.dev.parts import Parts
from agentpool_cli.dev.plan import LocalPool, local_pool, same_pool, same_settings
from agentpool_cli.dev.watching import Change, Fingerprint, changed, classify, code_directories, fingerprint
from agentpool_core.errors import AgentPoolError

LOOK_MILLISECONDS = 1000
"""How often files are looked at without a notice."""
GATHER_MILLISECONDS = 200
"""An editor writes a file in several steps; changes within this time are one change."""


class Reloader:
    """Watches the agent's code and the manifest."""

    def __init__(
        self,
        options: DevOptions,
        environ: Mapping[str, str],
        pool: LocalPool,
        places: Sequence[PodPlace],
        run: RunDirectory,
        parts: Parts,
        show: Callable[[str], None],
    ) -> None:
        self._options = options
        self._environ = environ
        self._config = pool.config
        self._places = places
        self._run = run
        self._parts = parts
        self._show = show
        self._seen = self._fingerprint()

    async def run(self) -> None:
        """Carry over changes until cancelled, those since this object was made included.

        The kernel's notices only say when to look: a change before the watch began, or on a file system that
        gives no notices, is found as well, a little later.
        """
        while True:
            directories = await asyncio.to_thread(self._directories)
            notices = awatch(
                *directories,
                recursive=False,
                debounce=GATHER_MILLISECONDS,
                step=50,
                rust_timeout=LOOK_MILLISECONDS,
                yield_on_timeout=True,
            )
            async with contextlib.aclosing(notices):
                async for _ in notices:
                    await self._look()
                    if await asyncio.to_thread(self._directories) != directories:
                        break

    async def _look(self) -> None:
        now = await asyncio.to_thread(self._fingerprint)
        paths = sorted(changed(self._seen, now))
        self._seen = now
        await self._take(classify(paths, self._options.manifest), paths)

    def _directories(self) -> list[Path]:
        return sorted({self._options.manifest.parent, *code_directories(self._options.app_dirs)})

    def _fingerprint(self) -> Fingerprint:
        return fingerprint(code_directories(self._options.app_dirs), self._options.manifest)

    async def _take(self, changes: set[Change], paths: Sequence[Path]) -> None:
        if Change.MANIFEST in changes:
            await self._take_manifest()
        if Change.CODE in changes:
            names = ", ".join(sorted({path.name for path in paths if path.suffix == ".py"}))
            self._parts.restart_agents()
            self._show(f"Reloaded: {names} changed. Agents start anew and take up their saved state.")

    async def _take_manifest(self) -> None:
        name = self._options.manifest.name
        try:
            text = await asyncio.to_thread(self._options.manifest.read_text, encoding="utf-8")
            generation = self._config.generation + 1
            redis = self._options.redis is not None
            config = local_pool(text, self._environ, generation, redis=redis).config
            if same_settings(config, self._config):
                return
            if not same_pool(config, self._config):
                self._show(
                    f"{name}: name, namespace and entrypoint are taken at the start only. Start dev again."
                )
                return
            for link in self._parts.links:
                await link.configure(config)
        except AgentPoolError as exc:
            self._show(
                f"{name} was not taken, the former one stays in force.\n{exc.message}\n  remedy: {exc.hint}"
            )
            return
        except (OSError, UnicodeDecodeError) as exc:
            self._show(f"{name} was not taken, the former one stays in force: it cannot be read: {exc}")
            return
        self._config = config
        self._run.write_pool(config)
        self._run.write_membership(config, self._places)
        self._show(f"Reloaded: {name} is in force as generation {config.generation}.")
