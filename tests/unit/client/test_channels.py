# SPDX-License-Identifier: Apache-2.0
"""Channels are used again, closed when idle, and never while somebody uses them."""

from __future__ import annotations

from agentpool_client.channels import ChannelCache


def test_a_channel_is_used_again_and_closed_when_idle() -> None:
    cache: ChannelCache[str] = ChannelCache(idle_seconds=10)
    assert cache.take("a", 0) is None
    assert cache.add("a", "to a", 0) == "to a"
    cache.give_back("a", 1)
    assert cache.take("a", 5) == "to a"
    cache.give_back("a", 6)
    assert cache.surplus(15) == []
    assert cache.surplus(17) == ["to a"]
    assert cache.take("a", 18) is None


def test_the_first_of_two_that_were_opened_at_once_is_kept() -> None:
    cache: ChannelCache[str] = ChannelCache()
    assert cache.add("a", "first", 0) == "first"
    assert cache.add("a", "second", 0) == "first"


def test_beyond_the_bound_those_go_that_were_not_used_for_longest() -> None:
    cache: ChannelCache[str] = ChannelCache(most=2, idle_seconds=100)
    for number, address in enumerate("abcd"):
        cache.add(address, f"to {address}", number)
        if address != "a":
            cache.give_back(address, number)
    assert cache.surplus(4) == ["to b", "to c"], "a is in use"
    assert len(cache) == 2


def test_one_in_use_is_never_closed_for_idleness() -> None:
    cache: ChannelCache[str] = ChannelCache(idle_seconds=10)
    cache.add("a", "to a", 0)
    assert cache.surplus(1000) == []
    cache.give_back("a", 1000)
    assert cache.surplus(1011) == ["to a"]


def test_all_go_at_the_end() -> None:
    cache: ChannelCache[str] = ChannelCache()
    cache.add("a", "to a", 0)
    cache.add("b", "to b", 0)
    assert cache.clear() == ["to a", "to b"]
    cache.give_back("a", 1)
    assert len(cache) == 0
