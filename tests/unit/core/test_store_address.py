# SPDX-License-Identifier: Apache-2.0
"""Addresses of a Redis that Sentinel fails over."""

from __future__ import annotations

import pytest

from agentpool_core.store_address import SentinelAddress, parse_sentinel

READ = [
    pytest.param(
        "redis+sentinel://one:1,two/store",
        SentinelAddress((("one", 1), ("two", 26379)), "store", "redis://master.invalid/0"),
        id="two sentinels, one on the usual port",
    ),
    pytest.param(
        "rediss+sentinel://us%40er:pa%2Fss@[::1]:5/my%20store/3?health_check_interval=9",
        SentinelAddress(
            (("::1", 5),),
            "my store",
            "redis://us%40er:pa%2Fss@master.invalid/3?health_check_interval=9",
            tls=True,
        ),
        id="TLS, a user, a database and an option of the connection",
    ),
    pytest.param(
        "redis+sentinel://:word@one/store?sentinel_password=p%26w&sentinel_username=u",
        SentinelAddress(
            (("one", 26379),),
            "store",
            "redis://:word@master.invalid/0",
            sentinel_username="u",
            sentinel_password="p&w",
        ),
        id="the sentinels' own password",
    ),
    pytest.param("redis://one:1/0", None, id="one server"),
    pytest.param("unix:///socket", None, id="a socket"),
]


@pytest.mark.parametrize(("url", "want"), READ)
def test_an_address_is_read(url: str, want: SentinelAddress | None) -> None:
    assert parse_sentinel(url) == want


WRONG = [
    pytest.param("redis+sentinel://one:1", "service", id="no service"),
    pytest.param("redis+sentinel://:secret@one:x/store", "port", id="a port that is none"),
    pytest.param("redis+sentinel://:secret@one:1,/store", "host", id="an empty place"),
    pytest.param("redis+sentinel://:secret@one:1/store/x", "database", id="a database that is none"),
]


@pytest.mark.parametrize(("url", "named"), WRONG)
def test_a_wrong_address_is_refused_without_its_secret(url: str, named: str) -> None:
    with pytest.raises(ValueError, match=named) as refused:
        parse_sentinel(url)
    assert "secret" not in str(refused.value)


def test_an_address_that_is_shown_tells_no_secret() -> None:
    assert "word" not in repr(parse_sentinel("redis+sentinel://:word@one/store"))
