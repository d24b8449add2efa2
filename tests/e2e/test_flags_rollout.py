# SPDX-License-Identifier: Apache-2.0
"""A rollout of agent_pool_enabled on real pods, through every gateway of the release."""

from __future__ import annotations

import os
import subprocess
import sys

from support.e2e import Installed
from tools.devcluster.places import CHECKOUT

ROLLOUT_SECONDS = 240


def test_every_request_takes_the_way_its_flag_says(installed: Installed) -> None:
    command = [sys.executable, "-m", "tools.flags_demo", "--cluster"]
    done = subprocess.run(
        command,
        env={**os.environ, "PROJECTS": "30"},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=ROLLOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 requests took another way than the flag says" in done.stdout
    assert len(installed.parts("gateway")) > 1, "the share is counted over several gateways"
