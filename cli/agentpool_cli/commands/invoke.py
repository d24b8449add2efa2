# SPDX-License-Identifier: Apache-2.0
"""`agentpool invoke`: one request to an agent instance."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agentpool_cli.client import PoolClient, StreamEvent
from agentpool_cli.connection import connected
from agentpool_cli.output import as_json, as_names, as_yaml
from agentpool_core.errors import InvalidRequest


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Send the request and print its answer; facts about it go to standard error."""
    body = request_body(options, parse_input(read_input(options.input)))
    with connected(options, environ) as connection, PoolClient(connection) as client:
        if options.stream:
            for text, stream in stream_texts(client.stream(body, options.idempotency_key), options.output):
                (sys.stdout if stream == "out" else sys.stderr).write(text)
                sys.stdout.flush()
        else:
            answer = client.invoke(body, options.idempotency_key)
            sys.stdout.write(answer_text(answer, options.output))
            if options.output in ("table", "wide"):
                sys.stderr.write(facts(answer))
    return 0


def read_input(argument: str) -> str:
    """The text behind INPUT: itself, standard input for `-`, or the file after `@`."""
    if argument == "-":
        return sys.stdin.read()
    if not argument.startswith("@"):
        return argument
    try:
        return Path(argument[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidRequest(
            f"{argument[1:]} cannot be read: {exc}.", remedy="Name a text file after @."
        ) from exc


def parse_input(text: str) -> Any:
    """The JSON value, or the text itself when it is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def request_body(options: argparse.Namespace, value: Any) -> dict[str, Any]:
    """The body of the REST call."""
    body: dict[str, Any] = {"tenant_id": options.tenant, "project_id": options.project, "input": value}
    if options.tier:
        body["tier"] = options.tier
    if options.strong:
        body["consistency"] = "strong"
    return body


def answer_text(answer: Mapping[str, Any], form: str) -> str:
    """The answer in the wanted form; for people only the agent's output."""
    if form == "json":
        return as_json(answer)
    if form == "yaml":
        return as_yaml(answer)
    if form == "name":
        return as_names("instance", [answer["instance_id"]])
    return output_text(answer["output"])


def output_text(output: Any) -> str:
    """Text as it is, everything else as JSON."""
    return output + "\n" if isinstance(output, str) else as_json(output)


def facts(answer: Mapping[str, Any]) -> str:
    """Who answered and how fast, in one line."""
    total = answer.get("timing", {}).get("done_ms")
    parts = [answer["instance_id"], answer["tier"], answer["pod"]]
    parts += [f"{total:.1f} ms"] if total is not None else []
    parts += ["one-shot"] if answer.get("served_by") == "one-shot" else []
    parts += [word for word in ("stale", "replayed") if answer.get(word)]
    return "# " + " ".join(parts) + "\n"


def stream_texts(events: Iterator[StreamEvent], form: str) -> Iterator[tuple[str, str]]:
    """What to print for each event, and whether on "out" or "err"."""
    for event in events:
        if form in ("json", "yaml", "name"):
            yield json.dumps({"event": event.name, "data": event.data}, ensure_ascii=False) + "\n", "out"
        elif event.name == "chunk":
            yield output_text(event.data), "out"
        elif event.name == "done":
            yield output_text(event.data["output"]), "out"
            yield facts(event.data), "err"
