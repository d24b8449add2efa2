# SPDX-License-Identifier: Apache-2.0
"""Reasons, conditions and codes that the documentation explains are those that the product gives."""

from __future__ import annotations

import re

import pytest

from agentpool_core.errors import BY_CODE
from support.repository import ROOT

PAGE = (ROOT / "docs/howto/troubleshooting.md").read_text(encoding="utf-8")
OPERATOR = "\n".join(
    path.read_text(encoding="utf-8") for path in sorted((ROOT / "operator/agentpool_operator").rglob("*.py"))
)
REASONS = re.findall(r"^\| (?:condition )?`([A-Z][A-Za-z]+)`", PAGE, re.MULTILINE)
ROWS = re.findall(r"^\| (\d{3}) \| (`.+?`) \|", PAGE, re.MULTILINE)
CODES = [(status, code) for status, codes in ROWS for code in re.findall(r"`(\w+)`", codes)]


@pytest.mark.parametrize("reason", REASONS)
def test_the_operator_gives_this_reason(reason: str) -> None:
    assert f'"{reason}"' in OPERATOR


@pytest.mark.parametrize(("status", "code"), CODES)
def test_the_gateway_answers_this_code_with_this_status(status: str, code: str) -> None:
    assert str(BY_CODE[code].http_status) == status


def test_the_page_has_both_tables() -> None:
    assert len(REASONS) >= 8
    assert len(CODES) >= 6
