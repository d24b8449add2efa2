# SPDX-License-Identifier: Apache-2.0
"""What keeps a worker from its neighbours, the host and the machine."""

from agentpool_agent.worker.isolation import kernel
from agentpool_agent.worker.isolation.apply import (
    Prepared,
    Report,
    apply_isolation,
    prepare,
    probe,
    readable_paths,
    secure_process,
)

__all__ = [
    "Prepared",
    "Report",
    "apply_isolation",
    "kernel",
    "prepare",
    "probe",
    "readable_paths",
    "secure_process",
]
