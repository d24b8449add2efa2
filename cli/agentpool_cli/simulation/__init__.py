# SPDX-License-Identifier: Apache-2.0
"""A pool's automatic scaling on a trace of arrivals: traces, the model of a pool, tables."""
