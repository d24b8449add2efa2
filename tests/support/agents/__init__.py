# SPDX-License-Identifier: Apache-2.0
"""Agents for tests: well-behaved ones with state, faulty ones, and hostile ones."""
