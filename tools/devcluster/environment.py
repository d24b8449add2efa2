# SPDX-License-Identifier: Apache-2.0
"""`.devcluster/env`: what a shell sources to use the cluster."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

DIRECTORY = ".devcluster"
LINE = re.compile(r"^export (\w+)=(.*)$")


def render(variables: Mapping[str, str], directories: Sequence[str]) -> str:
    """The file's text. Sourced twice, it puts the directories on PATH once."""
    lines = ["# Written by tools/devcluster. Source it: . .devcluster/env"]
    for directory in reversed(directories):
        quoted = shlex.quote(directory)
        lines.append(f'case ":$PATH:" in *:{quoted}:*) ;; *) export PATH={quoted}:"$PATH" ;; esac')
    lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(variables.items())]
    return "\n".join(lines) + "\n"


def variables_of(text: str) -> dict[str, str]:
    """The variables of a rendered file, without PATH."""
    found = (LINE.match(line) for line in text.splitlines())
    return {one[1]: "".join(shlex.split(one[2])) for one in found if one is not None}


def directories_of(text: str) -> list[str]:
    """The PATH directories of a rendered file, the first searched first."""
    cases = [shlex.split(line) for line in text.splitlines() if line.startswith("case ")]
    return [words[3].removeprefix("*:").removesuffix(":*)") for words in reversed(cases)]


def path_of(checkout: Path) -> Path:
    """The file of a checkout."""
    return checkout / DIRECTORY / "env"


def write(checkout: Path, variables: Mapping[str, str], directories: Sequence[str]) -> Path:
    """Write the file anew; readable by its owner alone, since it will hold a token."""
    path = path_of(checkout)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.touch(mode=0o600)
    draft.write_text(render(variables, directories))
    draft.replace(path)
    return path


def extend(checkout: Path, extra: Mapping[str, str]) -> Path:
    """Add variables to the file, or replace them; for what is known only later, as the caller's token.

    Raises FileNotFoundError when no cluster has been brought up from this checkout.
    """
    text = path_of(checkout).read_text()
    return write(checkout, {**variables_of(text), **extra}, directories_of(text))


def remove(checkout: Path) -> None:
    """Forget the cluster."""
    path_of(checkout).unlink(missing_ok=True)
    (checkout / DIRECTORY / "kubeconfig").unlink(missing_ok=True)
