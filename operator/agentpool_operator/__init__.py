# SPDX-License-Identifier: Apache-2.0
"""The operator: turns AgentPools and AgentInstances into pods, and reports what became of them.

kopf events, host reports, resync -> queue -> reconcile: observe -> plan (pure) -> apply -> report
"""
