# SPDX-License-Identifier: Apache-2.0
"""`agentpool simulate`: traces, the model of a pool, and what it prints."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from agentpool_cli.main import main
from agentpool_cli.simulation.model import LOOK_SECONDS, Shape, percentile, simulate
from agentpool_cli.simulation.report import back_after, outcome
from agentpool_cli.simulation.trace import Trace, read_trace
from agentpool_core.config import ForecastConfig, ScalingConfig
from agentpool_core.errors import InvalidRequest
from support.builders import manifest
from support.repository import ROOT

HEAD = "seconds,requests_per_second\n"
FIXED = ScalingConfig(enabled=True, min_replicas=1, max_replicas=1)


def trace(*lines: tuple[float, float]) -> Trace:
    return read_trace(HEAD + "".join(f"{at},{rate}\n" for at, rate in lines), "trace")


def test_a_trace_holds_each_rate_until_the_next_line() -> None:
    found = read_trace("# a comment\n" + HEAD + "0,2\n10,20\n30,0\n", "trace")
    assert [found.at(seconds).per_second for seconds in (0, 9.9, 10, 29)] == [2, 2, 20, 20]
    assert (found.ends, found.step) == (30, (10, 2, 20))


BAD = {
    "no head": ("0,1\n1,2\n", "has no column seconds"),
    "another head": ("seconds,rate\n0,1\n", "has no column requests_per_second"),
    "no number": (HEAD + "0,many\n1,2\n", "line 2: requests_per_second is 'many'"),
    "below zero": (HEAD + "0,-1\n1,2\n", "line 2: requests_per_second is '-1'"),
    "not a finite number": (HEAD + "0,inf\n1,2\n", "line 2: requests_per_second is 'inf'"),
    "no value": (HEAD + "0\n1,2\n", "line 2: requests_per_second is None"),
    "not in order": (HEAD + "5,1\n5,2\n", "line 3: seconds do not rise"),
    "no end": (HEAD + "0,1\n", "has fewer than two lines"),
    "too much": (HEAD + "0,1e6\n1e6,1\n", "has about 1000000000000 requests"),
    "no time": ("seconds,requests_per_second,service_milliseconds\n0,1,0\n1,1,5\n", "milliseconds is 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_trace_says_why(name: str) -> None:
    text, message = BAD[name]
    with pytest.raises(InvalidRequest) as refused:
        read_trace(text, "trace.csv")
    assert message in refused.value.message
    assert refused.value.hint


def test_the_model_agrees_with_the_theory_of_one_queue() -> None:
    # M/G/1: mean wait = rate * E[S^2] / (2 (1 - utilisation)); Erlang of four phases: E[S^2] = 1.25 mean^2.
    looks = simulate(trace((0, 7), (4_000, 0)), FIXED, Shape(slots=1, service_seconds=0.1, seed=3))
    waits = [wait for look in looks for wait in look.waits]
    expected = 7 * 1.25 * 0.1**2 / (2 * (1 - 0.7))
    assert sum(waits) / len(waits) == pytest.approx(expected, rel=0.15)
    assert sum(look.used for look in looks) / len(looks) == pytest.approx(0.7, rel=0.05)
    assert sum(look.arrived for look in looks) == pytest.approx(28_000, rel=0.02)


def test_the_same_seed_gives_the_same_run_and_another_one_another() -> None:
    steps = trace((0, 5), (60, 50), (120, 0))
    policy = ScalingConfig(enabled=True)
    assert simulate(steps, policy, Shape(seed=1)) == simulate(steps, policy, Shape(seed=1))
    assert simulate(steps, policy, Shape(seed=1)) != simulate(steps, policy, Shape(seed=2))


def test_pods_serve_once_they_have_started_and_those_that_go_take_nothing_new() -> None:
    policy = ScalingConfig(enabled=True, cooldown_seconds=20, stabilization_seconds=20)
    looks = simulate(trace((0, 5), (60, 60), (180, 1), (400, 0)), policy, Shape(start_seconds=30))
    up = next(look for look in looks if look.action is not None)
    assert up.action is not None
    serving = [look.at for look in looks if look.serving >= up.action.after]
    assert serving[0] - up.at == pytest.approx(30 + LOOK_SECONDS, abs=LOOK_SECONDS)
    assert looks[-1].serving == policy.min_replicas
    # Nothing is lost: what came has ended, or is in line or at work at the end.
    came, ended = sum(look.arrived for look in looks), sum(len(look.times) for look in looks)
    assert came - ended <= 8


def test_a_step_of_ten_times_ends_sooner_with_forecast() -> None:
    steps = trace((0, 1.8), (300, 18), (900, 0))
    found = {}
    for forecast in (True, False):
        policy = ScalingConfig(enabled=True, forecast=ForecastConfig(enabled=forecast))
        found[forecast] = outcome(steps, simulate(steps, policy, Shape(service_seconds=2.0)), 10.0)
    with_forecast, without = found[True].back_after, found[False].back_after
    assert with_forecast is not None
    assert without is not None
    assert with_forecast <= 90
    assert without > 300


def test_latency_that_never_left_is_back_at_once_and_one_that_stays_never() -> None:
    calm = simulate(trace((0, 1), (60, 2), (300, 0)), FIXED, Shape())
    assert back_after(calm, 60, 5.0) == 0.0
    lost = simulate(trace((0, 1), (60, 100), (300, 0)), FIXED, Shape())
    assert back_after(lost, 60, 1.0) is None


def test_percentiles() -> None:
    assert percentile([], 0.99) == 0.0
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert percentile([1.0, 2.0, 3.0], 0.99) == 3.0


@pytest.mark.parametrize("name", ["step", "day"])
def test_the_traces_of_the_repository_are_traces(name: str) -> None:
    found = read_trace((ROOT / "benchmarks" / "traces" / f"{name}.csv").read_text(), name)
    assert found.step[2] > found.step[1]


def test_the_command_prints_both_runs_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trace.csv").write_text(HEAD + "0,6\n60,60\n200,0\n")
    assert main(["simulate", str(tmp_path / "trace.csv")]) == 0
    text = capsys.readouterr().out
    assert "| with forecast: pods" in text
    assert "| without forecast: pods" in text
    assert "Largest step: at 60 s from 6 to 60 requests/s." in text
    assert "under target again" in text
    assert main(["simulate", str(tmp_path / "trace.csv"), "--no-forecast"]) == 0
    assert "| with forecast" not in capsys.readouterr().out


def test_the_policy_is_that_of_the_pool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trace.csv").write_text(HEAD + "0,60\n60,60\n")
    scaling = {"enabled": True, "minReplicas": 7, "targetLatencyMilliseconds": 321}
    (tmp_path / "pool.yaml").write_text(yaml.safe_dump(manifest({"scaling": scaling})))
    assert main(["simulate", str(tmp_path / "trace.csv"), "--pool", str(tmp_path / "pool.yaml")]) == 0
    assert "end within 321 ms" in capsys.readouterr().out
    assert main(["simulate", str(tmp_path / "trace.csv"), "--pool", str(tmp_path / "none.yaml")]) == 1
    assert "cannot be read" in capsys.readouterr().err
