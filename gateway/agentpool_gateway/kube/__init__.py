# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes API: the only place that imports its client."""
