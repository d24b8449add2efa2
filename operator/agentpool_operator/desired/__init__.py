# SPDX-License-Identifier: Apache-2.0
"""The objects that a pool is made of, pure."""
