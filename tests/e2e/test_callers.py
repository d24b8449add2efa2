# SPDX-License-Identifier: Apache-2.0
"""Who may do what: ServiceAccount tokens, and a review of access per verb."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from agentpool_core.cluster import AUDIENCE
from support.e2e import ALL_VERBS, ECHO, Installed, Pool

VALUE = {"tenant_id": "acme", "project_id": "mine", "input": 1}

Call = Callable[[httpx.Client, str, str], httpx.Response]
CALLS: dict[str, tuple[str, Call]] = {
    "invoke": ("invoke", lambda client, path, _: client.post(f"{path}/invoke", json=VALUE)),
    "stats": ("get", lambda client, path, _: client.get(f"{path}/stats")),
    "health": ("get", lambda client, path, _: client.get(f"{path}/health")),
    "list": ("get", lambda client, path, _: client.get(f"{path}/instances")),
    "look at one": ("get", lambda client, path, one: client.get(f"{path}/instances/{one}")),
    "pause": ("pause", lambda client, path, one: client.post(f"{path}/instances/{one}/pause")),
    "resume": ("pause", lambda client, path, one: client.post(f"{path}/instances/{one}/resume")),
    "choose a tier": (
        "place",
        lambda client, path, _: client.post(f"{path}/invoke", json={**VALUE, "tier": "WARM"}),
    ),
    "terminate": ("terminate", lambda client, path, one: client.delete(f"{path}/instances/{one}")),
}


@pytest.fixture(scope="module")
def pool(installed: Installed, namespace: str) -> Pool:
    """One shared pod."""
    made = installed.pool(namespace, "guarded", entrypoint=ECHO)
    made.ready()
    return made


@pytest.fixture(scope="module")
def clients(installed: Installed, pool: Pool) -> dict[str, httpx.Client]:
    """By verb: a caller who may do everything else."""
    found = {}
    for verb in ALL_VERBS:
        others = [one for one in ALL_VERBS if one != verb]
        token = installed.caller(pool.namespace, f"all-but-{verb}", *others, pools=[pool.name])
        found[verb] = installed.client(token)
    return found


def problem(response: httpx.Response, status: int, code: str) -> dict[str, str]:
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    found: dict[str, str] = response.json()
    return found


@pytest.mark.parametrize("name", CALLS)
def test_without_the_verb_it_is_forbidden_and_the_remedy_names_it(
    pool: Pool, clients: dict[str, httpx.Client], name: str
) -> None:
    verb, call = CALLS[name]
    instance = pool.answer(f"to-{name}", "hello")["instance_id"]
    if name == "resume":
        assert pool.client.post(f"{pool.path}/instances/{instance}/pause").is_success
    found = problem(call(clients[verb], pool.path, instance), 403, "PermissionDenied")
    assert f"verb {verb} on agentpools named {pool.name}" in found["remedy"]
    assert call(pool.client, pool.path, instance).is_success


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(None, id="none"),
        pytest.param("no.such.token", id="one that is none"),
        pytest.param("for somebody else", id="one for another audience"),
    ],
)
def test_without_a_good_token_nobody_is_let_in(installed: Installed, pool: Pool, token: str | None) -> None:
    if token == "for somebody else":
        token = pool.kube.token(pool.namespace, f"{pool.name}-caller", "https://elsewhere.example")
    response = installed.client(token).post(f"{pool.path}/invoke", json=VALUE)
    assert problem(response, 401, "Unauthenticated")["remedy"]
    assert response.headers["www-authenticate"].startswith("Bearer")


def test_a_forged_token_is_refused(installed: Installed, pool: Pool) -> None:
    token = pool.kube.token(pool.namespace, f"{pool.name}-caller", AUDIENCE)
    head, claims, signature = token.split(".")
    turned = signature[:20] + ("A" if signature[20] != "A" else "B") + signature[21:]
    response = installed.client(".".join((head, claims, turned))).get(f"{pool.path}/stats")
    problem(response, 401, "Unauthenticated")


def test_an_unknown_pool_is_not_told_from_a_forbidden_one(installed: Installed, pool: Pool) -> None:
    missing = pool.path.replace(pool.name, "missing")
    problem(pool.client.get(f"{missing}/stats"), 403, "PermissionDenied")
    token = installed.caller(pool.namespace, "of-all-pools", "get")
    problem(installed.client(token).get(f"{missing}/stats"), 404, "PoolNotFound")


def test_the_right_on_one_pool_is_none_on_a_pool_elsewhere(installed: Installed, pool: Pool) -> None:
    elsewhere = pool.path.replace(pool.namespace, "default")
    problem(pool.client.get(f"{elsewhere}/stats"), 403, "PermissionDenied")


def test_the_token_goes_no_further_than_the_gateway(pool: Pool) -> None:
    answer = pool.answer("mine", "hello")
    token = pool.client.headers["authorization"].removeprefix("Bearer ")
    logs = pool.kube.kubectl("logs", "-n", pool.namespace, answer["pod"], "--all-containers")
    assert token not in logs + json.dumps(answer)
