# SPDX-License-Identifier: Apache-2.0
"""Programs for working on AgentPool; run from the root by the Makefile."""
