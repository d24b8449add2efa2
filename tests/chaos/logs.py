# SPDX-License-Identifier: Apache-2.0
"""Logs of every container of a run. The kubelet deletes a pod's with the pod, and what is looked for was most
often written by a pod that is gone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import BinaryIO, Self

LOOK_SECONDS = 1.0
ERROR = "error"


@dataclass
class Logs:
    """Holds the log files of some namespaces' containers open.

    Attributes:
        pods: the kubelet's folder of pods' logs.
        to: where they are copied at the end; emptied at the beginning.
    """

    pods: Path
    namespaces: tuple[str, ...]
    to: Path
    _files: dict[Path, BinaryIO] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)
    _over: Event = field(default_factory=Event)

    def __enter__(self) -> Self:
        shutil.rmtree(self.to, ignore_errors=True)
        self.to.mkdir(parents=True)
        self._look()
        self._looking = Thread(target=self._look_on, name="logs", daemon=True)
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._looking.join()
        with self._open:
            self._look()
            for path, file in self._files.items():
                pod, container = path.parts[-3:-1]
                with (self.to / f"{pod}.{container}.{path.name}").open("wb") as copy:
                    shutil.copyfileobj(file, copy)

    def errors(self) -> list[str]:
        """What was logged as an error, each with its pod; to be asked for after the end."""
        return [
            f"{path.name.split('_')[1]}: {line}"
            for path in sorted(self.to.glob("*.log"))
            for line in errors_in(path.read_text(errors="replace").splitlines())
        ]

    def _look_on(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        for namespace in self.namespaces:
            # A pod that goes meanwhile takes its folder with it.
            with suppress(FileNotFoundError):
                for path in self.pods.glob(f"{namespace}_*/*/*.log"):
                    if path not in self._files:
                        self._files[path] = self._open.enter_context(path.open("rb"))


def errors_in(lines: Iterable[str]) -> list[str]:
    """Messages of level error, of lines "time stream tag message" as a container runtime writes them."""
    found = []
    for line in lines:
        message = line.split(" ", 3)[-1]
        try:
            entry = json.loads(message)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") == ERROR:
            found.append(message)
    return found
