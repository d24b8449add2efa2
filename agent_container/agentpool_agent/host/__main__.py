# SPDX-License-Identifier: Apache-2.0
"""`python -m agentpool_agent.host`: the host process of an agent pod."""

from __future__ import annotations

import gc
import os
import signal

# A container's first process ignores a signal without a handler, so that a pod deleted while the imports
# below still run would wait for the whole of its grace time. There is nothing to drain yet.
if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    # What is imported stays: to look for garbage among it takes a tenth of a start.
    gc.disable()

import asyncio
import ctypes
import resource
import sys

from agentpool_agent.host.server import HostServer
from agentpool_agent.host.settings import Settings, read_settings
from agentpool_rpc.logs import configure_logs
from agentpool_rpc.tracing import Tracing, tracing_of

PR_SET_DUMPABLE = 4


def _harden() -> None:
    # Not dumpable: another process of the same user can read neither memory nor environment.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(settings: Settings, tracing: Tracing | None) -> None:
    server = HostServer(settings, tracing)
    await server.start()
    await server.run()


def _tracing(settings: Settings) -> Tracing | None:
    pod = {"k8s.pod.name": settings.pod, "k8s.namespace.name": settings.namespace}
    return tracing_of(os.environ, "agentpool-host", {**pod, "agentpool.pool": settings.pool})


def main() -> int:
    """Run a host until SIGTERM; 0 after a drain, 2 for wrong settings."""
    try:
        settings = read_settings(sys.argv[1:], os.environ)
    except (ValueError, OSError) as exc:
        sys.stderr.write(f"agentpool-host: {exc}\n")
        return 2
    configure_logs("host", settings.log_level, settings.log_pretty)
    _harden()
    gc.enable()
    gc.freeze()
    asyncio.run(_run(settings, _tracing(settings)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
