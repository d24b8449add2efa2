# SPDX-License-Identifier: Apache-2.0
"""The page of the chart's values is complete, and says of each value what values.yaml says."""

from __future__ import annotations

from support.cluster_commands import values
from tools.chart_values import VALUES, rows

TEXT = """\
# Of the file.

# -- About one,
# and more.
one: 1
two:
  # A comment of its own.
  three: {a: b}
  # -- About four.
  four: ""
"""


def test_a_value_is_told_with_what_stands_above_it() -> None:
    assert list(rows(TEXT)) == [
        ["`one`", "`1`", "About one, and more."],
        ["`two.three`", "`{a: b}`", ""],
        ["`two.four`", '`""`', "About four."],
    ]


def test_every_value_of_the_chart_is_on_the_page() -> None:
    told = {row[0].strip("`") for row in rows(VALUES.read_text(encoding="utf-8"))}
    assert {name for name in values() if not any(name.startswith(one) for one in told)} == set()
