# SPDX-License-Identifier: Apache-2.0
"""`python -m agentpool_cli` is `agentpool`."""

from agentpool_cli.main import main

raise SystemExit(main())
