# SPDX-License-Identifier: Apache-2.0
"""How many shared pods a pool needs: pure, the same in the operator and in `agentpool simulate`."""

from agentpool_core.scaling.forecast import Arrivals
from agentpool_core.scaling.loads import ReplicaLoad, Signal
from agentpool_core.scaling.policy import Action, Decision, Direction, Policy, State, Verdict, decide

__all__ = [
    "Action",
    "Arrivals",
    "Decision",
    "Direction",
    "Policy",
    "ReplicaLoad",
    "Signal",
    "State",
    "Verdict",
    "decide",
]
