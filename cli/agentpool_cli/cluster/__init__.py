# SPDX-License-Identifier: Apache-2.0
"""The pool in a Kubernetes cluster, reached as kubectl reaches it."""
