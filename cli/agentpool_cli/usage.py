# SPDX-License-Identifier: Apache-2.0
"""Wrong usage, told in kubectl's words when kubectl called."""

from __future__ import annotations

import re

PLUGIN = "kubectl agentpool"
"""How help and errors call the program when it runs as a plugin of kubectl."""
_CHOICE = re.compile(
    r"argument (?P<where>\S+): invalid choice: '(?P<value>.*)' \(choose from (?P<choices>.*)\)"
)
_TYPE = re.compile(r"argument (?P<where>\S+): invalid \w+ value: '(?P<value>.*)'")
_MISSING = re.compile(r"argument (?P<where>\S+): expected one argument")
_REFUSED = re.compile(r"argument (?P<where>\S+): (?P<why>.*)")
_REQUIRED = re.compile(r"the following arguments are required: (?P<names>.*)")
_UNKNOWN = re.compile(r"unrecognized arguments: (?P<first>\S+).*")


def in_kubectl_words(message: str, program: str) -> str:
    """A message of argparse about the arguments of `program`, as kubectl would say it."""
    for pattern, say in (
        (_UNKNOWN, _unknown),
        (_CHOICE, _choice),
        (_TYPE, lambda found, _: f'invalid argument "{found["value"]}" for "{_flag(found)}" flag'),
        (_MISSING, lambda found, _: f"flag needs an argument: {_flag(found)}"),
        (_REQUIRED, _required),
        (_REFUSED, lambda found, _: f'invalid argument for "{_flag(found)}" flag: {found["why"]}'),
    ):
        found = pattern.fullmatch(message)
        if found is not None:
            return say(found, program)
    return message


def kubectl_error(message: str, program: str) -> str:
    """What is printed about wrong usage."""
    return f"error: {in_kubectl_words(message, program)}\nSee '{program} --help' for usage.\n"


def _flag(found: re.Match[str]) -> str:
    return ", ".join(found["where"].split("/"))


def _unknown(found: re.Match[str], program: str) -> str:
    first = found["first"]
    if first.startswith("--"):
        return f"unknown flag: {first.partition('=')[0]}"
    if first.startswith("-"):
        return f"unknown shorthand flag: '{first[1:2]}' in {first}"
    return f'unexpected argument "{first}" for "{program}"'


def _choice(found: re.Match[str], program: str) -> str:
    if found["where"] in ("COMMAND", "ACTION"):
        return f'unknown command "{found["value"]}" for "{program}"'
    choices = found["choices"].replace("'", "")
    return f'invalid argument "{found["value"]}" for "{_flag(found)}" flag: must be one of: {choices}'


def _required(found: re.Match[str], program: str) -> str:
    names = found["names"]
    if names in ("COMMAND", "ACTION"):
        return f"you must specify a command of {program}"
    return f'required argument(s) "{names}" not set'
