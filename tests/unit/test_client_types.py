"""Wrong calls of the client fail type checking: a comment `# error: CODE` says which line must, and no other may."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="the type checker is not installed")

CALLS = """
from collections.abc import AsyncIterator, Iterator
from typing import assert_type

from hal9.client import Answer, AnswerStatus, Ask, Client, SyncClient, shared_client


async def right(client: Client, sync: SyncClient) -> None:
    answer = await client.request("n", b"x", operation="learn", deadline_s=1, request_id="a", retries=2)
    assert_type(answer, Answer)
    assert_type(answer.status, AnswerStatus)
    assert_type(answer.raise_for_status(), Answer)
    assert_type(await client.request_many([("n", "learn", b""), Ask("n", "learn", b"", deadline_s=1)]), list[Answer])
    async for one in client.request_many([Ask("n", "learn", b"")], ordered=False):
        assert_type(one, Answer)
    assert_type(sync.request(b"n"), Answer)
    assert_type(sync.request_many([("n", "learn", b"")]), Iterator[Answer])
    async with shared_client() as shared:
        assert_type(shared, Client)


async def wrong(client: Client, sync: SyncClient, answer: Answer) -> None:
    await client.request()  # error: call-arg
    await client.request("n", "text")  # error: arg-type
    await client.request("n", b"", "learn")  # error: call-arg
    await client.request("n", deadline_ms=5)  # error: call-arg
    await client.request("n", deadline_s="5")  # error: arg-type
    await client.request("n", retries="often")  # error: arg-type
    await client.request(7)  # error: arg-type
    await client.request_many([("n", b"")])  # error: list-item
    await client.request_many([{"key": "n"}])  # error: list-item
    sync.request("n", "text")  # error: arg-type
    for one in client.request_many([]):  # error: attr-defined
        print(one)
    print(answer.status == "done")  # error: comparison-overlap
    answer.value = b""  # error: misc
    Ask("n", b"", "learn")  # error: arg-type arg-type
    Client(settings={"kafka": {}})  # error: arg-type
"""


def test_right_calls_pass_and_wrong_ones_fail(tmp_path: Path) -> None:
    module = tmp_path / "calls.py"
    module.write_text(CALLS)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "mypy", "--strict", "--hide-error-context", "--no-error-summary", str(module)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=False)
    found: dict[int, list[str]] = {}
    for line in done.stdout.splitlines():
        hit = re.match(r".*calls\.py:(\d+): error: .*\[([a-z-]+)\]$", line)
        if hit:
            found.setdefault(int(hit[1]), []).append(hit[2])
    wanted = {
        number: line.rpartition("# error: ")[2].split()
        for number, line in enumerate(CALLS.splitlines(), 1)
        if "# error: " in line
    }
    assert found == wanted, done.stdout + done.stderr
