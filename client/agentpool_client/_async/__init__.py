# SPDX-License-Identifier: Apache-2.0
"""The client for asyncio; `make generate` makes the one without from it."""
