# SPDX-License-Identifier: Apache-2.0
"""Commands that talk to a running gateway."""
