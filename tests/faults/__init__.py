# SPDX-License-Identifier: Apache-2.0
"""The fault campaigns of `make faults`: a real API server, operator process and Redis; pods simulated."""
