# SPDX-License-Identifier: Apache-2.0
"""`agentpool dev`: a pool as processes on this machine."""
