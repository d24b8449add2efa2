# SPDX-License-Identifier: Apache-2.0
"""The hosts: one Watch stream each, the configuration they are sent, and the calls made on them."""

from agentpool_operator.hosts.fleet import Fleet
from agentpool_operator.hosts.link import HostAway

__all__ = ["Fleet", "HostAway"]
