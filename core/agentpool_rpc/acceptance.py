# SPDX-License-Identifier: Apache-2.0
"""How a host tells that it has accepted the request of a unary call, which has no events to tell it by.

As initial metadata it is there also when the call fails: `AioRpcError.initial_metadata()` has what had come.
"""

from __future__ import annotations

from collections.abc import Iterable

_KEY = "agentpool-accepted"
ACCEPTED = ((_KEY, "1"),)
"""Initial metadata of an accepted call."""


def tells_acceptance(metadata: Iterable[tuple[str, str | bytes]] | None) -> bool:
    """Whether the host had accepted the call that this initial metadata is of."""
    return any(key == _KEY for key, _ in metadata or ())
