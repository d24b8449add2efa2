# SPDX-License-Identifier: Apache-2.0
"""The private protocols inside an agent pod: host <-> worker and host <-> zygote."""
