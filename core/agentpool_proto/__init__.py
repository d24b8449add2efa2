# SPDX-License-Identifier: Apache-2.0
"""The wire protocol, generated from `proto/`."""
