# SPDX-License-Identifier: Apache-2.0
"""From a request of an application to a host and back."""
