# SPDX-License-Identifier: Apache-2.0
"""Calls of the user's own kubectl, so that contexts, log-ins and proxies are exactly those that it has."""

from __future__ import annotations

import json
import re
import select
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from agentpool_core.errors import AgentPoolError, InvalidRequest, NotFound, PermissionDenied, Unavailable

SECONDS = 20.0
FORWARD_SECONDS = 15.0
"""For a port-forward to be there."""
_MISCONFIGURED = ("Error in configuration", "error loading config", "specified context", "kubeconfig")
_ABSENT = ("(NotFound)", "not found", "doesn't have a resource type")
_FORWARDING = re.compile(rb"Forwarding from 127\.0\.0\.1:(\d+) ")


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl with the user's choice of cluster.

    Attributes:
        flags: options for every call, such as --context.
        program: name or path of kubectl.
    """

    flags: tuple[str, ...] = ()
    program: str = "kubectl"

    def text(self, *arguments: str) -> str:
        """Standard output of a call; the AgentPoolError that fits when it fails."""
        try:
            done = subprocess.run(
                [self.program, *self.flags, *arguments],
                capture_output=True,
                text=True,
                timeout=SECONDS,
                stdin=subprocess.DEVNULL,
            )
        except FileNotFoundError as exc:
            raise _no_kubectl() from exc
        except subprocess.TimeoutExpired as exc:
            raise Unavailable(f"kubectl did not end within {SECONDS:g} s.") from exc
        if done.returncode != 0:
            error = failure(done.stderr)
            error.details["stdout"] = done.stdout.strip()
            raise error
        return done.stdout

    def json(self, *arguments: str) -> dict[str, Any]:
        """The JSON object that a call prints."""
        try:
            found = json.loads(self.text(*arguments))
        except ValueError as exc:
            raise AgentPoolError("kubectl did not print JSON.") from exc
        return found if isinstance(found, dict) else {}

    def items(self, *arguments: str) -> Sequence[Mapping[str, Any]]:
        """The objects that `kubectl get` prints."""
        items: Sequence[Mapping[str, Any]] = self.json("get", *arguments, "-o", "json").get("items") or ()
        return items

    @contextmanager
    def forwarded(self, namespace: str, service: str, port: str) -> Iterator[int]:
        """A port of this machine that leads to a service's port as long as the block lasts."""
        command = [self.program, *self.flags, "--namespace", namespace, "port-forward"]
        command += ["--address", "127.0.0.1", f"service/{service}", f":{port}"]
        try:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
            )
        except FileNotFoundError as exc:
            raise _no_kubectl() from exc
        with process:
            try:
                yield _forwarded_port(process)
            finally:
                process.kill()


def failure(stderr: str) -> AgentPoolError:
    """The error that kubectl's words on standard error mean."""
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    message = (lines[-1] if lines else "kubectl failed without a word").removeprefix("error: ")
    if any(words in message for words in _MISCONFIGURED):
        return InvalidRequest(message, remedy="Correct --context, --kubeconfig or KUBECONFIG.")
    if "orbidden" in message:
        return PermissionDenied(message, remedy="Ask the cluster's administrator for this right.")
    if any(words in message for words in _ABSENT):
        return NotFound(message, remedy="Check names and namespace, and that AgentPool is installed.")
    return Unavailable(message, remedy="See that `kubectl get --raw /readyz` answers.")


def _forwarded_port(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None and process.stderr is not None  # noqa: S101  # both are pipes
    readable, _, _ = select.select([process.stdout], [], [], FORWARD_SECONDS)
    line = process.stdout.readline() if readable else b""
    found = _FORWARDING.match(line)
    if found is None:
        process.kill()
        raise failure(process.stderr.read().decode(errors="replace") or "no port-forward in time")
    return int(found[1])


def _no_kubectl() -> AgentPoolError:
    return InvalidRequest(
        "kubectl is not found.", remedy="Install kubectl, or name the gateway with --url or AGENTPOOL_URL."
    )
