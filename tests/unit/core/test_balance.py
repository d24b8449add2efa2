# SPDX-License-Identifier: Apache-2.0
"""Load figures by the book, and each strategy's property shown by a simulation."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentpool_core.api.v1alpha1 import BalancingStrategy
from agentpool_core.balance import (
    STALE_SECONDS,
    Balancer,
    FastestResponse,
    HostLoad,
    LeastConnections,
    LoadMetrics,
    PowerOfTwoChoices,
    RandomChoice,
    RoundRobin,
    WeightedCapabilities,
    balancer,
)
from agentpool_core.config import BalancingConfig, WantedCapability


def loads(*active: int) -> list[HostLoad]:
    """Hosts with so many requests under way, as told by their reports."""
    return [HostLoad(LoadMetrics(0.0), elsewhere=number) for number in active]


def measured(ms: float, *, success: bool = True, at: float = 0.0) -> HostLoad:
    """A host with one measurement."""
    load = HostLoad(LoadMetrics(0.0))
    load.metrics.acquire()
    load.metrics.release(at, ms, success)
    return load


# Load figures


def test_figures_begin_with_nothing_measured_and_full_success() -> None:
    assert asdict(LoadMetrics(7.0)) == {
        "last_updated": 7.0,
        "active_commands": 0,
        "queue_length": 0,
        "average_response_time_ms": 0.0,
        "success_rate": 1.0,
        "measured": 0,
    }


def test_the_first_duration_is_taken_as_it_is_and_later_ones_count_a_tenth() -> None:
    load = LoadMetrics(0.0)
    seen = []
    for ms in (100.0, 200.0, 0.0):
        load.release(1.0, ms, True)
        seen.append(load.average_response_time_ms)
    assert seen == pytest.approx([100.0, 110.0, 99.0])


@given(st.lists(st.booleans(), min_size=1, max_size=300))
def test_the_success_rate_is_the_mean_over_all_outcomes(outcomes: list[bool]) -> None:
    load = LoadMetrics(0.0)
    for success in outcomes:
        load.release(1.0, 5.0, success)
    assert load.success_rate == pytest.approx(sum(outcomes) / len(outcomes))
    assert load.measured == len(outcomes)


@given(st.lists(st.sampled_from(["acquire", "release"]), max_size=60))
def test_requests_under_way_are_counted_and_never_below_zero(steps: list[str]) -> None:
    load, wanted = LoadMetrics(0.0), 0
    for now, step in enumerate(steps, 1):
        if step == "acquire":
            load.acquire()
            wanted += 1
        else:
            load.release(float(now), 1.0, None)
            wanted = max(0, wanted - 1)
            assert load.last_updated == now
        assert load.active_commands == wanted


@pytest.mark.parametrize(
    ("ms", "success", "average", "rate"),
    [
        pytest.param(9.0, None, 4.0, 1.0, id="a caller that leaves says nothing of the agent"),
        pytest.param(14.0, False, 5.0, 0.5, id="a failure counts in both"),
        pytest.param(math.nan, True, 4.0, 1.0, id="a duration that is no number is left out"),
        pytest.param(math.inf, True, 4.0, 1.0, id="so is one without end"),
        pytest.param(-1.0, True, 4.0, 1.0, id="so is one below zero"),
    ],
)
def test_what_an_end_changes(ms: float, success: bool | None, average: float, rate: float) -> None:
    load = LoadMetrics(0.0)
    load.release(1.0, 4.0, True)
    load.release(2.0, ms, success)
    assert load.average_response_time_ms == pytest.approx(average)
    assert load.success_rate == pytest.approx(rate)
    assert load.last_updated == 2.0


def test_what_a_host_reports_counts_without_the_requests_that_were_sent_from_here() -> None:
    load = HostLoad(LoadMetrics(0.0))
    load.metrics.acquire()
    load.metrics.acquire()
    load.reported(5)
    assert (load.elsewhere, load.active) == (3, 5)
    load.metrics.acquire()
    load.metrics.queue_length += 2
    assert load.active == 8, "what is sent since counts at once, and what waits"
    load.reported(1)
    assert (load.elsewhere, load.active) == (0, 5), "an old report does not hide what is under way"


# One choice


def pick(strategy: Balancer, hosts: Sequence[HostLoad], now: float = 1.0, seed: int = 1) -> int:
    return strategy.pick(hosts, now, Random(seed))


def test_the_default_is_least_connections() -> None:
    assert BalancingConfig().strategy is BalancingStrategy.LEAST_CONNECTIONS


@pytest.mark.parametrize("strategy", BalancingStrategy)
def test_every_strategy_chooses_one_of_the_hosts(strategy: BalancingStrategy) -> None:
    wanted = (WantedCapability(name="gpu"),)
    one = balancer(BalancingConfig(strategy=strategy, capabilities=wanted))
    for number in (1, 2, 7):
        assert all(0 <= pick(one, loads(*range(number)), seed=seed) < number for seed in range(50))


@pytest.mark.parametrize(
    ("strategy", "hosts", "chosen"),
    [
        pytest.param(LeastConnections(), loads(2, 1, 1), 1, id="fewest under way, the first of equals"),
        pytest.param(FastestResponse(), [measured(9), measured(4), measured(4)], 1, id="lowest average"),
        pytest.param(
            FastestResponse(), [measured(1), HostLoad()], 1, id="a host without measurement is tried first"
        ),
        pytest.param(
            FastestResponse(),
            [measured(4), measured(3, success=False)],
            0,
            id="a host that fails fast is not fast",
        ),
        pytest.param(PowerOfTwoChoices(), loads(3, 0), 1, id="the less loaded of two"),
    ],
)
def test_one_choice(strategy: Balancer, hosts: list[HostLoad], chosen: int) -> None:
    assert pick(strategy, hosts) == chosen


def test_among_equals_the_one_chosen_longest_ago_comes_first() -> None:
    hosts = loads(0, 0, 0)
    found = []
    for turn in range(1, 7):
        index = pick(LeastConnections(), hosts)
        hosts[index].chosen = turn
        found.append(index)
    assert found == [0, 1, 2, 0, 1, 2]


def test_an_unmeasured_host_is_tried_with_one_request_at_a_time() -> None:
    known, new = measured(10.0), HostLoad()
    assert pick(FastestResponse(), [known, new]) == 1
    new.metrics.acquire()
    assert pick(FastestResponse(), [known, new]) == 0, "one is on trial there already"


def test_an_old_measurement_is_made_anew() -> None:
    slow, fast = measured(500.0, at=0.0), measured(5.0, at=100.0)
    assert pick(FastestResponse(), [slow, fast], now=STALE_SECONDS - 1) == 1
    fast.metrics.last_updated = STALE_SECONDS + 1
    assert pick(FastestResponse(), [slow, fast], now=STALE_SECONDS + 1) == 0


def test_a_host_with_nothing_that_is_wanted_is_the_last_resort() -> None:
    has, bare, idle = HostLoad(capabilities=frozenset({"gpu"}), elsewhere=99), *loads(3, 1)
    weighted = WeightedCapabilities({"gpu": 2, "arm": 1})
    assert pick(weighted, [bare, idle, has]) == 2
    assert pick(weighted, [bare, idle]) == 1, "among such the one with the fewest requests"


# Simulations


def run(
    strategy: Balancer, seconds: Sequence[float], *, every: float, requests: int, seed: int = 3
) -> tuple[list[float], Counter[int]]:
    """Send requests at even times to hosts that each take so long for one; the mean number under way at each
    host, and how many each got."""
    random, hosts = Random(seed), [HostLoad(LoadMetrics(0.0)) for _ in seconds]
    ends: list[tuple[float, int, int]] = []
    under_way, got, tie = [0.0] * len(seconds), Counter[int](), count()
    for number in range(requests):
        now = number * every
        while ends and ends[0][0] <= now:
            at, _, index = heapq.heappop(ends)
            hosts[index].metrics.release(at, seconds[index] * 1000, True)
        index = strategy.pick(hosts, now, random)
        hosts[index].chosen = number + 1
        hosts[index].metrics.acquire()
        heapq.heappush(ends, (now + seconds[index], next(tie), index))
        got[index] += 1
        for place, host in enumerate(hosts):
            under_way[place] += host.active / requests
    return under_way, got


@given(st.integers(1, 12), st.integers(0, 200))
def test_round_robin_is_even_to_one(hosts: int, requests: int) -> None:
    one, found = RoundRobin(), Counter[int]()
    for _ in range(requests):
        found[pick(one, loads(*[0] * hosts))] += 1
    shares = [found[index] for index in range(hosts)]
    assert max(shares) - min(shares) <= 1


def test_round_robin_goes_on_when_hosts_come_and_go() -> None:
    one = RoundRobin()
    assert [pick(one, loads(*[0] * hosts)) for hosts in (3, 3, 3, 3, 2, 2, 4)] == [0, 1, 2, 0, 1, 0, 1]


UNEQUAL = (0.01, 0.02, 0.04, 0.08)


def test_least_connections_keeps_hosts_equally_busy_though_some_are_eight_times_as_slow() -> None:
    least, got = run(LeastConnections(), UNEQUAL, every=0.001, requests=20_000)
    assert max(least) / min(least) < 1.25
    assert got[0] > 4 * got[3], "so the fast ones serve more"
    even, _ = run(RoundRobin(), UNEQUAL, every=0.001, requests=20_000)
    assert max(even) / min(even) > 6, "round robin piles requests up at the slow one"


def test_fastest_response_tries_every_host_once_and_then_leaves_the_slow_one() -> None:
    one, hosts, random = FastestResponse(), [HostLoad() for _ in range(4)], Random(1)
    seconds, order = (0.01, 0.01, 0.2, 0.01), []
    for number in range(1000):
        index = one.pick(hosts, 1.0, random)
        order.append(index)
        hosts[index].chosen = number + 1
        hosts[index].metrics.acquire()
        hosts[index].metrics.release(1.0, seconds[index] * 1000, True)
    assert order[:4] == [0, 1, 2, 3]
    assert 2 not in order[4:]
    assert min(Counter(order[4:])[index] for index in (0, 1, 3)) > 250, "the equally fast ones share"


def test_fastest_response_shifts_load_from_a_slow_host_and_does_not_overrun_the_fast_ones() -> None:
    mean, got = run(FastestResponse(), (0.01, 0.01, 0.1, 0.01), every=0.002, requests=10_000)
    assert got[2] < 0.05 * 10_000
    assert max(mean) < 4, "five are under way at all; they are not all sent to one"


def test_random_is_uniform() -> None:
    draws, hosts, random = 20_000, loads(*[0] * 10), Random(5)
    found = Counter(RandomChoice().pick(hosts, 0.0, random) for _ in range(draws))
    chi_square = sum((found[index] - draws / 10) ** 2 / (draws / 10) for index in range(10))
    assert chi_square < 27.88, "the 99.9 % point with nine degrees of freedom"


def test_weighted_capabilities_gives_hosts_requests_in_proportion_to_their_shares() -> None:
    weighted = WeightedCapabilities({"gpu": 2, "arm": 1, "ssd": 1})
    has = ({"gpu", "arm", "ssd"}, {"gpu"}, {"arm"}, set[str]())
    hosts = [HostLoad(capabilities=frozenset(names)) for names in has]
    for turn in range(700):
        index = weighted.pick(hosts, 0.0, Random(1))
        hosts[index].chosen = turn
        hosts[index].metrics.acquire()
    active = [host.active for host in hosts]
    assert active[3] == 0
    assert active[:3] == pytest.approx([400, 200, 100], abs=2)


def fullest(strategy: Balancer, hosts: int, seed: int) -> int:
    """The most requests at one of n hosts that got n requests."""
    places, random = [HostLoad() for _ in range(hosts)], Random(seed)
    for _ in range(hosts):
        places[strategy.pick(places, 0.0, random)].metrics.acquire()
    return max(place.active for place in places)


def mean(of: Callable[[int], int], times: int = 20) -> float:
    return sum(of(seed) for seed in range(times)) / times


def test_two_choices_leave_the_fullest_host_near_log_log_n_and_far_below_one_choice() -> None:
    hosts = 1000
    two = mean(lambda seed: fullest(PowerOfTwoChoices(), hosts, seed))
    one = mean(lambda seed: fullest(RandomChoice(), hosts, seed))
    assert two < math.log2(math.log(hosts)) + 1
    assert one > 1.5 * two
