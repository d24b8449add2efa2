# SPDX-License-Identifier: Apache-2.0
"""The pure part of AgentPool: API types, lifecycle, names, placement and the error tree.

Nothing here does input or output, reads a clock, or imports asyncio, grpc or a Kubernetes client; an
import contract in `pyproject.toml` holds that.
"""
