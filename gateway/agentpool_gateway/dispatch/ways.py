# SPDX-License-Identifier: Apache-2.0
"""What the pool's feature flags say of a request: which way it takes, and the tier of a new instance."""

from __future__ import annotations

from collections.abc import Callable

from agentpool_core.errors import PoolDisabled, TierDisabled
from agentpool_core.lifecycle import Tier
from agentpool_gateway.dispatch.call import InvokeCall, Milestones, ServedBy
from agentpool_gateway.membership.table import PoolTable


class Ways:
    """See the module.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, table: PoolTable, clock: Callable[[], float]) -> None:
        self._table = table
        self._clock = clock

    def of(self, call: InvokeCall, arrived: float) -> tuple[Tier | None, Milestones]:
        """The tier of a new instance, and the milestones of the request, with the way that it takes."""
        marks = Milestones(arrived)
        if not self._table.flags.current.gates:
            return call.tier, marks
        if not self.pooled(call.tenant_id, call.project_id):
            marks.served_by = ServedBy.ONE_SHOT
        return self.tier(call.tenant_id, call.project_id, call.tier), marks

    def pooled(self, tenant_id: str, project_id: str) -> bool:
        """Whether requests of a project go through the pool."""
        return self._table.flags.current.pooled(tenant_id, project_id, self._clock())

    def require_pool(self, tenant_id: str, project_id: str) -> None:
        """PoolDisabled where requests pass the pool by: nothing is kept resident for them."""
        if not self.pooled(tenant_id, project_id):
            raise PoolDisabled("The flag agent_pool_enabled is off for this project.")

    def require_hot(self, tenant_id: str, project_id: str) -> None:
        """TierDisabled where nothing but a declaration makes an instance HOT."""
        if not self._table.flags.current.may_be_hot(tenant_id, project_id, self._clock()):
            raise TierDisabled("The flag agent_pool_hot_tier is off for this project.")

    def tier(self, tenant_id: str, project_id: str, tier: Tier | None) -> Tier | None:
        """The tier that a new instance gets: another one in place of a HOT that a flag keeps it out of."""
        default = self._table.config.default_tier
        if (tier or default) is not Tier.HOT:
            return tier
        if self._table.flags.current.may_be_hot(tenant_id, project_id, self._clock()):
            return tier
        return default if default is not Tier.HOT else Tier.WARM
