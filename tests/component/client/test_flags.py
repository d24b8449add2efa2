# SPDX-License-Identifier: Apache-2.0
"""A rollback reaches clients that talk to hosts themselves at their next request, lease in hand or not."""

from __future__ import annotations

from agentpool_core.flags import POOL_FLAG
from support.clients import client
from support.spine import Spine
from support.waiting import eventually

FLAG = f"/api/v1/pool/flags/{POOL_FLAG}"


async def test_a_leased_request_takes_the_other_way_after_a_rollback(spine: Spine, kind: str) -> None:
    rest = spine.gateways[0].client()
    async with client(kind, spine.gateways[0].grpc_address) as one:
        answers = [await one.invoke("acme", "p", "add")]

        async def direct() -> bool:
            answers.append(await one.invoke("acme", "p", "add"))
            return bool(answers[-1].direct)

        await eventually(direct, 10)
        (await rest.patch(FLAG, json={"roll_back": True})).raise_for_status()
        after = [await one.invoke("acme", "p", "add") for _ in range(3)]
        assert [answer.direct for answer in after] == [False] * 3
        outputs = [answer.output for answer in (*answers, *after)]
        assert outputs == list(range(1, len(outputs) + 1))
        # A project that is in the pool still goes to its host.
        await rest.patch(FLAG, json={"enable_for_tenant": "vip"})

        async def vip_direct() -> bool:
            return bool((await one.invoke("vip", "p", "add")).direct)

        await eventually(vip_direct, 10)
