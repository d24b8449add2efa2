# SPDX-License-Identifier: Apache-2.0
"""The client for threads; made from the one for asyncio by `make generate`."""
