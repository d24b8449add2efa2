# SPDX-License-Identifier: Apache-2.0
"""The zygote: imports an agent once and forks a worker for each instance.

python -m agentpool_agent.zygote --socket PATH --entrypoint package.module:Class
    [--app-dir DIR ...] [--work-dir DIR] [--connect-seconds SECONDS]
"""
