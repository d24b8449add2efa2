# SPDX-License-Identifier: Apache-2.0
"""Doors from kopf: each event becomes a key in the queue, and nothing is ever returned, patched or stored.

Only `on.event` is used. Timers, daemons and state handlers of kopf would each write to the objects.
"""

from agentpool_operator.handlers.doors import Doors
from agentpool_operator.handlers.watches import Watches

__all__ = ["Doors", "Watches"]
