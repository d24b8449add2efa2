# SPDX-License-Identifier: Apache-2.0
"""Who the client is: a token, or a file with one that is replaced from time to time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

REREAD_SECONDS = 60.0
"""The kubelet replaces a projected token when a fifth of its life is left, two minutes at least."""


class Credentials:
    """The bearer token of a client; empty when it has none.

    Args:
        token: a token that stays.
        token_file: a file to read it from, again and again.
        clock: seconds, of any origin.

    Raises ValueError when both are given.
    """

    def __init__(self, token: str | None, token_file: str | Path | None, clock: Callable[[], float]) -> None:
        if token is not None and token_file is not None:
            raise ValueError("give token or token_file, not both")
        self._token = token or ""
        self._file = Path(token_file) if token_file is not None else None
        self._clock = clock
        self._read_at = float("-inf")

    @property
    def due(self) -> bool:
        """Whether the file is to be read again before the next use."""
        return self._file is not None and self._clock() - self._read_at > REREAD_SECONDS

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call."""
        return (("authorization", f"Bearer {self._token}"),) if self._token else ()

    def read(self) -> bool:
        """Read the file; whether the token is another one than before. Blocks for the time of reading it.

        OSError when it cannot be read and never was; a later failure keeps the token there is.
        """
        if self._file is None:
            return False
        try:
            token = self._file.read_text(encoding="utf-8").strip()
        except OSError:
            if not self._token:
                raise
            return False
        changed = token != self._token
        self._token, self._read_at = token, self._clock()
        return changed
