# SPDX-License-Identifier: Apache-2.0
"""The gateway: REST and gRPC for applications, in one process and on one event loop."""

__version__ = "0.1.0"
