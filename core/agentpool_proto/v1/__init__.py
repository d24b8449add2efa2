# SPDX-License-Identifier: Apache-2.0
"""Version 1 of the wire protocol: `types`, `host` and `gateway`, messages and services."""
