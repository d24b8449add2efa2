# SPDX-License-Identifier: Apache-2.0
"""What is made of the store's word on an instance that no connected host holds."""

from __future__ import annotations

import pytest

from agentpool_operator.reconcile.found import Found, is_orphaned
from agentpool_proto.v1.types_pb2 import Instance
from support.kube_objects import held

OWNED = Instance(state="READY")
CASES = [
    pytest.param(Found(stored=OWNED), True, True, id="its owner is gone: every host is heard, none has it"),
    pytest.param(Found(stored=OWNED), False, False, id="a host that is not heard may hold it"),
    pytest.param(Found(stored=Instance(state="PAUSED")), True, False, id="it was released"),
    pytest.param(Found(stored=Instance(state="ERROR")), True, False, id="it failed"),
    pytest.param(Found(stored=Instance(state="READY", pod="a")), True, False, id="its owner itself answered"),
    pytest.param(Found(held=held(), stored=OWNED), True, False, id="a host holds it"),
    pytest.param(Found(), True, False, id="nobody knows it"),
]


@pytest.mark.parametrize(("found", "hears_all", "orphaned"), CASES)
def test_an_instance_whose_owner_vanished_is_in_nobodys_hands(
    found: Found, hears_all: bool, orphaned: bool
) -> None:
    assert is_orphaned(found, hears_all) is orphaned
