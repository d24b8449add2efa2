# SPDX-License-Identifier: Apache-2.0
"""A development cluster: the user's own, kind, or a real one-node Kubernetes without Docker."""
