# SPDX-License-Identifier: Apache-2.0
"""The command-line program `agentpool`, also `kubectl agentpool`."""
