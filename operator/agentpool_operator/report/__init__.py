# SPDX-License-Identifier: Apache-2.0
"""What is told to users: conditions with reasons and remedies, counts, Events."""
