# SPDX-License-Identifier: Apache-2.0
"""The forms of names and ids, apart from the resources that have them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from agentpool_core.api.problems import BadValue
from agentpool_core.flags import MAX_NAME
from agentpool_core.names import MAX_NAME_CHARS

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def dns_label(text: str) -> str:
    """`text`, if it is a DNS label (RFC 1123); raises BadValue."""
    if _LABEL.fullmatch(text) is None:
        raise BadValue(
            f"found {text[:80]!r}, which is not a DNS label",
            remedy="Use 1 to 63 lower-case letters, digits and '-', a letter or digit first and last.",
        )
    return text


_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def dns_name(text: str) -> str:
    """`text`, if it is a DNS subdomain (RFC 1123); raises BadValue."""
    if _NAME.fullmatch(text) is None:
        raise BadValue(
            f"found {text[:80]!r}, which is not a DNS subdomain",
            remedy="Use 1 to 253 lower-case letters, digits, '-' and '.', a letter or digit first and last.",
        )
    return text


def identifier(text: str) -> str:
    """`text`, if it can be a tenant or project id: 1 to 253 printable characters; raises BadValue."""
    if not 1 <= len(text) <= MAX_NAME_CHARS:
        raise BadValue(
            f"found {len(text)} characters", remedy=f"Use 1 to {MAX_NAME_CHARS} printable characters."
        )
    if not text.isprintable():
        raise BadValue(
            "found a character that is not printable",
            remedy=f"Use 1 to {MAX_NAME_CHARS} printable characters, no control characters.",
        )
    return text


Label = Annotated[str, AfterValidator(dns_label)]
"""Name of a pool, an instance object or a namespace."""

Name = Annotated[str, AfterValidator(dns_name)]
"""Name of an object of Kubernetes, such as a Secret."""

Identifier = Annotated[str, AfterValidator(identifier)]
"""Id of a tenant or project (A20)."""


CAPABILITY_PATTERN = "[A-Za-z0-9]([-A-Za-z0-9._:/]{0,61}[A-Za-z0-9])?"
MAX_CAPABILITY_CHARS = 63


def capability_name(text: str) -> str:
    """`text`, if it can name a capability; raises BadValue."""
    if re.fullmatch(CAPABILITY_PATTERN, text) is None:
        raise BadValue(
            f"found {text[:80]!r}, which names no capability",
            remedy=f"Use 1 to {MAX_CAPABILITY_CHARS} letters, digits and '-._:/', a letter or digit first and"
            " last, for example arch:x86_64.",
        )
    return text


FLAG_NAME_PATTERN = f"^[a-z0-9]([-a-z0-9_.]{{0,{MAX_NAME - 2}}}[a-z0-9])?$"


def flag_name(text: str) -> str:
    """`text`, if it can be the name of a flag; raises BadValue."""
    if re.fullmatch(FLAG_NAME_PATTERN, text) is None:
        raise BadValue(
            f"found {text[:80]!r}, which is no name of a flag",
            remedy=f"Use 1 to {MAX_NAME} lower-case letters, digits, '_', '-' and '.',"
            " a letter or digit first and last.",
        )
    return text


FlagName = Annotated[str, AfterValidator(flag_name)]
Percentage = Annotated[int, Field(strict=True, ge=0, le=100)]
