# SPDX-License-Identifier: Apache-2.0
"""A real API server for the tests of this folder, and the project's definitions in it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from agentpool_core.crd import KINDS, definition
from support.apiserver import ApiServer, api_server, programs

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ESTABLISH_SECONDS = 20


@pytest.fixture(scope="session")
def bare_api() -> Iterator[ApiServer]:
    """An API server without the project's definitions until `api` is asked for.

    `make cluster-up` builds the server, and `make test` runs it first; alone, these tests can do without.
    """
    if programs() is None:
        pytest.skip("there is no kube-apiserver: `make cluster-up` builds one")
    with api_server() as server:
        yield server


@pytest.fixture(scope="session")
def api(bare_api: ApiServer) -> ApiServer:
    """An API server that knows AgentPool and AgentInstance."""
    for kind in KINDS:
        answer = bare_api.create(DEFINITIONS, definition(kind))
        assert answer.status_code == 201, answer.text
    deadline = time.monotonic() + ESTABLISH_SECONDS
    for kind in KINDS:
        path = f"/apis/agentpool.dev/v1alpha1/{kind.plural}"
        while not bare_api.client.get(path).is_success:
            assert time.monotonic() < deadline, f"{kind.name} was not established"
            time.sleep(0.05)
    return bare_api
