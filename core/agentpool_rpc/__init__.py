# SPDX-License-Identifier: Apache-2.0
"""What the processes share on the wire: channels, call tokens, and errors as gRPC statuses."""
