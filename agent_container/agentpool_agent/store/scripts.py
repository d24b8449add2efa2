# SPDX-License-Identifier: Apache-2.0
"""The Lua of the Redis store: one script per operation, put together from the files in `lua/`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

_FRAGMENTS: Mapping[str, tuple[str, ...]] = {
    "claim": ("prelude", "claim"),
    "save": ("prelude", "write", "save"),
    "register": ("prelude", "write", "register"),
    "release": ("prelude", "release"),
    "note": ("prelude", "note"),
    "place": ("prelude", "place"),
    "plant": ("prelude", "write", "plant"),
    "prune": ("prelude", "prune"),
    "pause": ("prelude", "pause"),
    "wish": ("prelude", "wish"),
    "mark": ("prelude", "mark"),
    "erase": ("prelude", "erase"),
    "reap": ("prelude", "reap"),
    "observe": ("prelude", "observe"),
    "flags": ("prelude", "flags"),
    "greet": ("greet",),
}


@dataclass(frozen=True)
class Script:
    """One Lua program and the digest under which Redis keeps it."""

    name: str
    source: str

    @cached_property
    def sha(self) -> str:
        """Hexadecimal SHA-1, as EVALSHA wants it."""
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


def read_fragments() -> dict[str, str]:
    """The text of every file in `lua/`, by its name without the ending."""
    names = sorted({name for parts in _FRAGMENTS.values() for name in parts})
    folder = files("agentpool_agent.store").joinpath("lua")
    return {name: folder.joinpath(f"{name}.lua").read_text("utf-8") for name in names}


def assemble(fragments: Mapping[str, str]) -> dict[str, Script]:
    """Every operation's script, from the text of the fragments."""
    return {
        name: Script(name, "\n".join(fragments[part] for part in parts)) for name, parts in _FRAGMENTS.items()
    }


SCRIPTS: Mapping[str, Script] = assemble(read_fragments())
"""The store's own Lua, read once at import, where reading a file blocks nobody."""
