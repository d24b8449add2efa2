# SPDX-License-Identifier: Apache-2.0
"""Ids of leases, and what a report of one may say."""

from __future__ import annotations

import math

import pytest

from agentpool_core.errors import InvalidRequest
from agentpool_rpc.leases import REPORT_SECONDS, LeaseClaims, LeaseIds, LeaseReport
from agentpool_rpc.tokens import TokenSigner, TokenVerifier, Verb, generate_keypair

PRIVATE, PUBLIC = generate_keypair()
STRANGER, _ = generate_keypair()
NOW = 1_800_000_000.0
CLAIMS = LeaseClaims("shop", "support", "acme", "a/b", NOW + 60)


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


def test_an_id_says_what_it_is_about_at_any_gateway_of_the_release() -> None:
    assert LeaseIds(PRIVATE, Clock()).read(LeaseIds(PRIVATE, Clock()).issue(CLAIMS)) == CLAIMS


def token(audience: str) -> str:
    return TokenSigner(PRIVATE, "gateway", Clock()).lease(audience, "inst-1")[0].removeprefix("Bearer ")


@pytest.mark.parametrize(
    "lease_id",
    [
        pytest.param("", id="nothing"),
        pytest.param("garbage", id="garbage"),
        pytest.param(LeaseIds(STRANGER, Clock()).issue(CLAIMS), id="a stranger's signature"),
        pytest.param(token("pod/1"), id="a call token"),
        pytest.param(token("agentpool-lease"), id="a call token for a host of that name"),
    ],
)
def test_refuses_what_is_no_id(lease_id: str) -> None:
    with pytest.raises(InvalidRequest, match="not issued here"):
        LeaseIds(PRIVATE, Clock()).read(lease_id)


def test_an_id_is_no_call_token() -> None:
    lease_id = LeaseIds(PRIVATE, Clock()).issue(CLAIMS)
    with pytest.raises(Exception, match="not valid for this host"):
        TokenVerifier([PUBLIC], Clock()).verify(f"Bearer {lease_id}", "pod/1", Verb.INVOKE, lambda: "inst-1")


def test_a_report_counts_for_an_hour_after_the_end() -> None:
    clock = Clock()
    ids = LeaseIds(PRIVATE, clock)
    clock.now = CLAIMS.expires_at + REPORT_SECONDS
    assert ids.countable(ids.read(ids.issue(CLAIMS)))
    clock.now += 1
    assert not ids.countable(ids.read(ids.issue(CLAIMS)))


@pytest.mark.parametrize(
    ("requests", "failures", "held"),
    [
        pytest.param(1, 2, 1.0, id="more failures than requests"),
        pytest.param(-1, 0, 1.0, id="less than none"),
        pytest.param(10**9, 0, 1.0, id="more requests than anybody sends"),
        pytest.param(1, 0, -1.0, id="time that runs backwards"),
        pytest.param(1, 0, math.nan, id="no time"),
        pytest.param(1, 0, math.inf, id="all time"),
    ],
)
def test_refuses_reports_that_cannot_be(requests: int, failures: int, held: float) -> None:
    with pytest.raises(InvalidRequest):
        LeaseReport(requests, failures, held)
