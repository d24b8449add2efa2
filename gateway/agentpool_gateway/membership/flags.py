# SPDX-License-Identifier: Apache-2.0
"""The feature flags of one pool as this gateway knows them: declared in the pool, or told of by its hosts.

Pure. Of what hosts tell, the highest version is the latest, whoever tells it. It is kept when a host is gone,
and belongs to one life of the pool.
"""

from __future__ import annotations

from agentpool_core.config import EffectivePool, FlagSet, unpack_flags
from agentpool_core.flags import Flag
from agentpool_proto.v1.host_pb2 import FeatureFlags


class PoolFlags:
    """See the module."""

    def __init__(self, config: EffectivePool) -> None:
        self.told = FeatureFlags()
        """The latest document that a host told."""
        self._changed: dict[str, Flag] = {}
        self._config = config
        self.current = self._merged()
        """All flags; replaced as a whole when one of them changes."""

    def configure(self, config: EffectivePool) -> None:
        """Take on a changed configuration of the pool."""
        if config.uid != self._config.uid:
            self.told, self._changed = FeatureFlags(), {}
        self._config = config
        self.current = self._merged()

    def tell(self, flags: FeatureFlags) -> None:
        """What a host has. A document that this release cannot read is passed over: what is known stays."""
        if flags.version <= self.told.version:
            return
        try:
            changed = unpack_flags(flags.document)
        except ValueError:
            return
        self.told, self._changed = FeatureFlags(version=flags.version, document=flags.document), changed
        self.current = self._merged()

    def _merged(self) -> FlagSet:
        return FlagSet(self._config.feature_flags, self._config.enabled, self._changed)
