# SPDX-License-Identifier: Apache-2.0
"""Measurements of the data plane on one machine: `make bench`."""
