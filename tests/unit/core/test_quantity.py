# SPDX-License-Identifier: Apache-2.0
"""Kubernetes quantities."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_core.api.problems import BadValue
from agentpool_core.api.quantity import cpu_millis, memory_bytes

MEMORY = {
    "512Mi": 512 * 2**20,
    "2Gi": 2 * 2**30,
    "1.5Gi": 3 * 2**29,
    "128974848": 128974848,
    "129e6": 129_000_000,
    "129M": 129_000_000,
    "1k": 1000,
    "1Ki": 1024,
    "100m": 1,
    ".5Ki": 512,
    "+1Mi": 2**20,
    "1E3": 1000,
}
CPU = {"500m": 500, "1": 1000, "0.5": 500, "2": 2000, "0.1": 100, "0.0001": 1, "1e0": 1000, "1.": 1000}
REFUSED = [
    "",
    "lots",
    "1x",
    "1 Gi",
    "1mi",
    "1MI",
    "-1",
    "0",
    "0Mi",
    "1Gi ",
    "1e999",
    "1eM",
    "1KiB",
    "nan",
    "inf",
    "٣",
    "9" * 65,
    "10000Pi",
]


@pytest.mark.parametrize(("text", "bytes_"), MEMORY.items(), ids=MEMORY)
def test_reads_memory(text: str, bytes_: int) -> None:
    assert memory_bytes(text) == bytes_


@pytest.mark.parametrize(("text", "millis"), CPU.items(), ids=CPU)
def test_reads_cpu(text: str, millis: int) -> None:
    assert cpu_millis(text) == millis


@pytest.mark.parametrize("text", REFUSED, ids=[repr(text[:12]) for text in REFUSED])
@pytest.mark.parametrize("read", [memory_bytes, cpu_millis], ids=["memory", "cpu"])
def test_refuses_with_a_remedy(read: Callable[[str], int], text: str) -> None:
    with pytest.raises(BadValue) as refused:
        read(text)
    assert refused.value.remedy.startswith("Write ")


@given(st.integers(1, 2**30), st.sampled_from(["", "Ki", "Mi"]))
def test_memory_grows_with_its_unit(number: int, unit: str) -> None:
    assert memory_bytes(f"{number}{unit}") == number * {"": 1, "Ki": 2**10, "Mi": 2**20}[unit]


@given(st.integers(1, 10**6))
def test_thousandths_and_cores_agree(number: int) -> None:
    assert cpu_millis(f"{number}m") == number
    assert cpu_millis(str(number)) == number * 1000


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert memory_bytes(text) >= 1
    except BadValue as refused:
        assert refused.remedy
