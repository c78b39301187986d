"""Three offices are merged into a fourth while documents to all four are on their way and before them: each is collected once or
returned with the successor named, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from node.cli.talk import Code
from tests.processes.letters import connector, letter
from tests.processes.tree import Node, Tree, eventually
from tests.processes.trees import tree_text
from tests.test_cli import run
from tests.vxp_client import VxpClient

DOCUMENTS = 30
"""Half of them lie before the offices already, half are on their way. By hand it was a thousand."""
MERGED = ("H41.31", "H41.32", "H41.33")
HEIR = "H41"
CLIENTS = 6
ENDED_S = 120.0
STATES = "SELECT recipient,state,reason,count(*) FROM delivery GROUP BY recipient,state,reason"


async def act(node: Node, *args: str) -> None:
    """A node that has not heard the hub yet, or hears something new just now, says so (75)."""

    def done() -> bool:
        result = run("directory", *args, "--config", str(node.config))
        assert result.exit_code in (Code.DONE, Code.LATER), result.stderr
        return bool(result.exit_code == Code.DONE)

    await eventually(done, "said")


async def send_some(tree: Tree, numbers: range) -> None:
    async with connector(tree, "G22") as client:
        for number in numbers:
            answer = await client.send(letter("G22", *MERGED, HEIR, number=number, seed="merge"))
            assert answer["status"] == "OK", answer


async def send_many(tree: Tree, numbers: range) -> None:
    await asyncio.gather(*(send_some(tree, numbers[n::CLIENTS]) for n in range(CLIENTS)))


async def collect(client: VxpClient) -> int:
    found = 0
    while lines := await client.received():
        for line in lines:
            await client.get(line["docId"])
            assert (await client.update(line["docId"], "done"))["status"] == "OK"
            found += 1
    return found


@pytest.mark.timeout(300)
async def test_three_offices_are_merged_with_documents_in_flight_and_none_is_lost(tmp_path: Path) -> None:
    topology = tmp_path / "merge.toml"
    text = tree_text("gop", {"H41": ""}).replace("[options.link]", "[options.retention]\nsweep_s = 1.0\n[options.link]")
    topology.write_text(text)
    with Tree(tmp_path / "tree", topology) as tree:
        hub, province = tree.nodes[""], tree.nodes["H41"]
        for code in MERGED:
            await act(province, "set", code, "--name", f"Phòng {code}", "--connection", "chinh-thuc", "--why", "QĐ thành lập")

        def known() -> bool:
            listed = run("directory", "list", "--json", "--config", str(hub.config)).stdout.splitlines()
            return {json.loads(line)["code"] for line in listed} >= set(MERGED)

        await eventually(known, "the hub knows them")
        half = DOCUMENTS // 2
        await send_many(tree, range(half))
        await eventually(lambda: province.count("mailbox") == half * 4, "half of them lie before the offices", ENDED_S)
        province.kill()
        await send_many(tree, range(half, DOCUMENTS))
        for code in MERGED:
            await act(hub, "close", code, "--successor", HEIR, "--fate", "gop", "--why", "QĐ gộp", "--yes")
        province.start()
        await province.ready()
        refused = len(MERGED) * DOCUMENTS
        await eventually(lambda: hub.count("delivery WHERE state='refused'") == refused, "those to closed codes end", ENDED_S)
        async with connector(tree, HEIR) as client:
            laid = f"mailbox WHERE organ='{HEIR}'"
            await eventually(lambda: province.count(laid) == DOCUMENTS, "the heir has its own", ENDED_S)
            assert await collect(client) == DOCUMENTS
        await eventually(lambda: hub.count("delivery WHERE state='collected'") == DOCUMENTS, "the sender knows", ENDED_S)

        ended = Counter({(code, state, reason): number for code, state, reason, number in hub.query(STATES)})
        assert ended == Counter(
            {**{(code, "refused", "recipient-closed"): DOCUMENTS for code in MERGED}, (HEIR, "collected", ""): DOCUMENTS}
        )
        async with connector(tree, "G22") as client:
            assert hub.count("mailbox WHERE kind='status'") == refused, "each end is told once"
            line = next(each for each in await client.sent() if each["toCode"] == MERGED[0])
            assert f"mã thay thế {HEIR}. [recipient-closed]" in line["sendStatusDesc"]
            late = await client.send(letter("G22", MERGED[0], number=DOCUMENTS, seed="late"))
            assert late["status"] == "FAIL"
            assert HEIR in late["ErrorDesc"]
        told = run("directory", "history", MERGED[0], "--json", "--config", str(province.config)).stdout.splitlines()
        assert [json.loads(line)["why"] for line in told] == ["QĐ thành lập", "QĐ gộp"], "its history still answers"
