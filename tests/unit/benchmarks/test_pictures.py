# SPDX-License-Identifier: Apache-2.0
"""Pictures are well-formed, say what they show, and place values where their axes say."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.pictures import HEIGHT, WIDTH, Series, axis, bars, lines, short

NAMESPACE = "{http://www.w3.org/2000/svg}"


def parsed(picture: str) -> ElementTree.Element:
    return ElementTree.fromstring(picture)  # noqa: S314  # our own text


def test_a_chart_of_lines_has_a_line_for_each_series() -> None:
    root = parsed(
        lines(
            "Time & load", "p50 < p99", [Series("p50", [(1, 1), (2, 3)]), Series("p99", [(1, 2)])], "s", "ms"
        )
    )
    assert root.findtext(f"{NAMESPACE}title") == "Time & load"
    assert root.findtext(f"{NAMESPACE}desc") == "p50 < p99"
    assert len(root.findall(f"{NAMESPACE}polyline")) == 2
    assert len(root.findall(f"{NAMESPACE}circle")) == 3
    texts = [one.text for one in root.findall(f"{NAMESPACE}text")]
    assert {"p50", "p99", "s", "ms"} <= set(texts)


def test_a_chart_of_bars_has_a_bar_for_each_value_and_its_number() -> None:
    root = parsed(
        bars(
            "Ways",
            "told",
            [("first\nrequest", [2000.0, 5.0]), ("later", [10.0, 1.0])],
            ["old", "new"],
            "ms",
            log_y=True,
        )
    )
    heights = [
        float(one.get("height", "0"))
        for one in root.findall(f"{NAMESPACE}rect")
        if one.get("height") != "10"  # squares of the legend
    ]
    assert len(heights) == 4
    assert heights[0] > heights[2] > heights[1] > heights[3]
    assert {"first", "request", "2000"} <= {one.text for one in root.findall(f"{NAMESPACE}text")}


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=20), st.booleans())
def test_values_lie_within_the_axis(values: list[float], log: bool) -> None:
    found = axis("ms", values, 300.0, 20.0, log)
    for value in values:
        assert 20.0 - 1e-6 <= found.place(value) <= 300.0 + 1e-6
    assert 2 <= len(found.ticks) <= 12
    assert found.place(found.ticks[0]) == pytest.approx(300.0)
    assert found.place(found.ticks[-1]) == pytest.approx(20.0)


@given(
    st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e6)), min_size=1, max_size=10),
    st.text(max_size=20).filter(lambda text: text.isprintable()),
)
@example([(0.0, 5e-324)], "a value that has no logarithm of its fifth")
def test_every_picture_is_well_formed_and_inside_its_frame(
    points: list[tuple[float, float]], title: str
) -> None:
    root = parsed(lines(title, title, [Series("one", points)], "x", "y"))
    for circle in root.findall(f"{NAMESPACE}circle"):
        assert 0 <= float(circle.get("cx", "-1")) <= WIDTH
        assert 0 <= float(circle.get("cy", "-1")) <= HEIGHT


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param([], "no values", id="nothing to show"),
        pytest.param([0.0, 1.0], "a logarithm of 0.0", id="a logarithm of nothing"),
    ],
)
def test_what_has_no_logarithm_is_refused(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        axis("ms", values, 0, 100, log=True)


@pytest.mark.parametrize(
    ("value", "text"), [(0.1234, "0.123"), (12.0, "12"), (1500.0, "1500"), (25_000.0, "25k")]
)
def test_short(value: float, text: str) -> None:
    assert short(value) == text
