# SPDX-License-Identifier: Apache-2.0
"""One worker process: the runtime around one agent instance."""
