# SPDX-License-Identifier: Apache-2.0
"""JSON log lines of the parts as lines that a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

HIDDEN = frozenset({"event", "timestamp", "level", "component", "exception"})
SOURCE_WIDTH = 8


def readable(line: str, source: str) -> str:
    """One line of a part's standard error: time, part, event and facts; other text stays as it is."""
    entry = _parse(line)
    if entry is None:
        return f"{'':8} {source:{SOURCE_WIDTH}} {line.rstrip()}"
    time = str(entry.get("timestamp", ""))[11:19]
    level = str(entry.get("level", "")).upper()
    mark = f"{level} " if level in ("WARNING", "ERROR", "CRITICAL") else ""
    facts = "".join(f" {name}={_fact(value)}" for name, value in entry.items() if name not in HIDDEN)
    text = f"{time:8} {source:{SOURCE_WIDTH}} {mark}{entry.get('event', '')}{facts}"
    trace = entry.get("exception")
    return text + "".join(f"\n{'':18}{part}" for part in str(trace).splitlines()) if trace else text


def _parse(line: str) -> Mapping[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        entry = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return None
    return entry if isinstance(entry, dict) and "event" in entry else None


def _fact(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return f'"{text}"' if " " in text else text
