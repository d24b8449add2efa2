# SPDX-License-Identifier: Apache-2.0
"""The words that fields of the resources choose from.

They are apart from the resources, because hosts and gateways work with the words alone.
"""

from __future__ import annotations

from enum import StrEnum


class Storage(StrEnum):
    """Where state lives."""

    REDIS = "Redis"
    MEMORY = "Memory"


class Durability(StrEnum):
    """What an acknowledged answer means."""

    RESPONSE = "Response"
    """A change is durable before its answer leaves."""
    INTERVAL = "Interval"
    """Changes are saved by timer; the last interval can be lost."""


class Network(StrEnum):
    """What a worker may reach by itself."""

    NONE = "None"
    OUTBOUND = "Outbound"


class PullPolicy(StrEnum):
    """When the kubelet fetches the image."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class TieringMode(StrEnum):
    """Who chooses the tier of an instance."""

    MANUAL = "Manual"
    """Whoever makes, declares or moves it."""
    AUTOMATIC = "Automatic"
    """Its traffic, unless its tier was chosen by hand."""


class BalancingStrategy(StrEnum):
    """How a shared host is chosen among those that have room (B22-B26); see `agentpool_core.balance`."""

    ROUND_ROBIN = "RoundRobin"
    """One after another."""
    LEAST_CONNECTIONS = "LeastConnections"
    """The one with the fewest requests under way."""
    FASTEST_RESPONSE = "FastestResponse"
    """The one that is expected to answer soonest, by what it took lately."""
    RANDOM = "Random"
    """Any, each as likely as the others."""
    WEIGHTED_CAPABILITIES = "WeightedCapabilities"
    """The one that has most of what `capabilities` asks for, shared by the requests under way there."""
    POWER_OF_TWO_CHOICES = "PowerOfTwoChoices"
    """The less loaded of two that are drawn at random."""


class Affinity(StrEnum):
    """Whether an instance goes back to the same host where it can."""

    PREFERRED = "Preferred"
    """To the host that its id names, while that one has room and is not loaded more than the others."""
    NONE = "None"
    """Wherever the strategy says."""


class ScalingMode(StrEnum):
    """Who chooses the number of shared pods."""

    AUTOMATIC = "Automatic"
    """The operator, from what the hosts report; the number is in status.scaling."""
    EXTERNAL = "External"
    """Whoever writes tiers.warm.replicas: kubectl scale, a HorizontalPodAutoscaler, KEDA."""


class WantedState(StrEnum):
    """What a user wants of a declared instance."""

    RUNNING = "Running"
    """Takes requests; resumed when it was paused."""
    PAUSED = "Paused"
    """Holds no process; its state is kept."""
    TERMINATED = "Terminated"
    """Ended and erased, for good."""


class Criticality(StrEnum):
    """How much depends on an instance."""

    HIGH = "High"
    """HOT, whatever its traffic is."""
    NORMAL = "Normal"
    """As its traffic says."""
    LOW = "Low"
    """As its traffic says, but never HOT."""
