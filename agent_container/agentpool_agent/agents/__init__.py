# SPDX-License-Identifier: Apache-2.0
"""Agents that come with AgentPool: `echo:Echo` and `librarian:Librarian`."""
