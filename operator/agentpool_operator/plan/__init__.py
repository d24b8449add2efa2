# SPDX-License-Identifier: Apache-2.0
"""Decisions, pure: what is observed and wanted in, actions out. Time is an argument."""
