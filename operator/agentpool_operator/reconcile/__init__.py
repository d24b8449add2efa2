# SPDX-License-Identifier: Apache-2.0
"""One level-based reconcile for each kind: observe, plan, apply, report. Events only say where to look."""

from agentpool_operator.reconcile.instance import InstanceReconciler
from agentpool_operator.reconcile.pool import PoolReconciler
from agentpool_operator.reconcile.resync import Resync

__all__ = ["InstanceReconciler", "PoolReconciler", "Resync"]
