# SPDX-License-Identifier: Apache-2.0
"""The operator's environment: what must be there, what a mistake says, and what pools inherit."""

from __future__ import annotations

import pytest

from agentpool_operator.settings import read_settings

LEAST = {"AGENTPOOL_OPERATOR_NAMESPACE": "agents", "AGENTPOOL_OPERATOR_AGENT_IMAGE": "agent:1"}


def test_two_variables_are_enough() -> None:
    settings = read_settings(LEAST)
    assert (settings.namespace, settings.agent_image) == ("agents", "agent:1")
    assert (settings.watch_namespaces, settings.lease_seconds, settings.resync_seconds) == ((), 15.0, 300.0)
    assert (settings.health_interval_seconds, settings.health_timeout_seconds) == (30.0, 10.0)
    assert (settings.health_port, settings.metrics_port) == (8081, 8080)


def test_each_candidate_is_another_one() -> None:
    pod = {**LEAST, "AGENTPOOL_OPERATOR_POD": "operator-1"}
    one, two = read_settings(pod), read_settings(pod)
    assert one.identity.startswith("operator-1_")
    assert one.identity != two.identity


def test_pools_inherit_their_variables_and_no_others() -> None:
    environ = {**LEAST, "AGENT_POOL_WARMUP_COUNT": "3", "PATH": "/bin", "AGENT_POOL_DEFAULT_TIER": ""}
    assert read_settings(environ).pool_environ == {"AGENT_POOL_WARMUP_COUNT": "3"}


def test_health_has_the_pool_s_names() -> None:
    environ = {**LEAST, "AGENT_POOL_HEALTH_CHECK_INTERVAL": "5", "AGENT_POOL_HEALTH_CHECK_TIMEOUT": "2"}
    settings = read_settings(environ)
    assert (settings.health_interval_seconds, settings.health_timeout_seconds) == (5.0, 2.0)


MISTAKES = {
    "no namespace": ({"AGENTPOOL_OPERATOR_NAMESPACE": ""}, "AGENTPOOL_OPERATOR_NAMESPACE"),
    "no image": ({"AGENTPOOL_OPERATOR_AGENT_IMAGE": ""}, "AGENTPOOL_OPERATOR_AGENT_IMAGE"),
    "an unknown pull policy": (
        {"AGENTPOOL_OPERATOR_AGENT_PULL_POLICY": "Sometimes"},
        "Always, IfNotPresent or Never",
    ),
    "a word for a number": ({"AGENTPOOL_OPERATOR_RESYNC_SECONDS": "soon"}, "RESYNC_SECONDS is 'soon'"),
    "no number at all": ({"AGENTPOOL_OPERATOR_LEASE_SECONDS": "nan"}, "LEASE_SECONDS"),
    "too small": ({"AGENT_POOL_HEALTH_CHECK_INTERVAL": "0"}, "AGENT_POOL_HEALTH_CHECK_INTERVAL"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_names_the_variable(name: str) -> None:
    environ, words = MISTAKES[name]
    with pytest.raises(ValueError, match=words):
        read_settings({**LEAST, **environ})
