# SPDX-License-Identifier: Apache-2.0
"""Which pools and hosts there are, and which instance lives where."""
