# SPDX-License-Identifier: Apache-2.0
"""The host process of an agent pod: it owns the pod's instances and is the truth about what runs.

Every call comes through `service`, every rule about instances is in `table` and `quota`, every instance is an
`instance.Resident` with a `worker.WorkerChannel` of its own. `server` puts the parts together.
"""

from __future__ import annotations

__all__: list[str] = []
