"""The example handlers in Python, Node and Go are handlers, and equal; one that is none is found out."""

import asyncio
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hal9.backend.remote import HttpHandler
from hal9.log.effects import Call
from hal9.settings.sections import System
from hal9.testing.conformance import check
from tests.serving import serving

HANDLERS = Path(__file__).parents[2] / "examples" / "handlers"
BUILT = Path("~/.cache/hal9/examples").expanduser()
SETTINGS = System(handler_timeout_s=30.0, handler_wait_s=30.0)
TRIALS = [("add", b"2"), ("get", b""), ("process", b""), ("add", b"-5"), ("add", b"x"), ("get", b"")]


def command(language: str) -> list[str]:
    """How the handler of a language is started; skips where its tools are missing."""
    if language == "python":
        return [sys.executable, str(HANDLERS / "counter.py"), "0"]
    if language == "node":
        if shutil.which("node") is None:
            pytest.skip("no node on PATH")
        return ["node", str(HANDLERS / "counter.mjs"), "0"]
    if shutil.which("go") is None:
        pytest.skip("no go on PATH")
    BUILT.mkdir(parents=True, exist_ok=True)
    built = subprocess.run(
        ["go", "build", "-o", str(BUILT / "counter"), "."],
        cwd=HANDLERS / "counter-go",
        env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return [str(BUILT / "counter"), "0"]


@contextmanager
def running(language: str) -> Iterator[str]:
    """The handler of a language in a process of its own; its address."""
    with subprocess.Popen(command(language), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize("language", ["python", "node", "go"])
async def test_an_example_is_a_handler(language: str) -> None:
    with running(language) as url:
        findings = await check(url, TRIALS, SETTINGS)
        assert [finding for finding in findings if finding.wrong] == []
        assert len(findings) > 15
        async with HttpHandler(url, SETTINGS) as handler:
            await handler.reach()
            state: Any = None
            answers = []
            for operation, value in TRIALS:
                (outcome,) = await handler.call(Call([(state, operation, value)], lambda _outcomes, _now: None))
                if isinstance(outcome, tuple):
                    state = outcome[0]
                answers.append(outcome[1] if isinstance(outcome, tuple) else str(outcome))
            assert answers == [b"2", b"2", b"3", b"-2", "bad-value", b"-2"]
            assert state == {"count": -2}


@asynccontextmanager
async def served(results: Any) -> AsyncIterator[str]:
    """A handler that answers each batch with `results(items)`."""

    async def get(_request: web.Request) -> web.Response:
        return web.json_response({"read_only": ["get"]})

    async def post(request: web.Request) -> web.Response:
        return web.json_response({"results": results(json.loads(await request.read())["items"])})

    app = web.Application(client_max_size=1 << 24)
    app.router.add_get("/", get)
    app.router.add_post("/", post)
    async with serving(app) as port:
        yield f"http://127.0.0.1:{port}/"


async def test_what_draws_changes_what_it_only_reads_or_knows_everything_is_found_out() -> None:
    numbers = itertools.count()
    counts = {
        "draws": lambda items: [{"state": {"drawn": next(numbers)}} for _ in items],
        "changes": lambda items: [{"state": {"did": item["operation"]}} for item in items],
        "looks around": lambda items: [{"state": {"beside": len(items)}} for _ in items],
    }
    wanted = {
        "draws": {"add b'' gives the same each time"},
        "changes": {"get leaves the state alone", "an operation that it does not know is refused"},
        "looks around": {"a batch gives what its items give alone"},
    }
    for name, results in counts.items():
        async with served(results) as url:
            findings = await check(url, [("add", b""), ("get", b"")], SETTINGS)
            assert wanted[name] <= {finding.promise for finding in findings if finding.wrong}, name


async def test_the_check_is_a_verb_and_its_exit_code_says_what_came_of_it() -> None:
    async def verb(url: str) -> tuple[int | None, str]:
        verb = [sys.executable, "-m", "hal9", "run", "system", "--check", url, "--try", "add=1", "-o", "json"]
        process = await asyncio.create_subprocess_exec(
            *verb, stdout=-1, env={**os.environ, "HAL9_SYSTEM__HANDLER_WAIT_S": "0"}
        )
        out, _ = await process.communicate()
        return process.returncode, out.decode()

    async with served(lambda items: [{"error": "none"} for _ in items]) as url:
        code, out = await verb(url)
        assert code == 0
        assert {finding["ok"] for finding in json.loads(out)} == {True}
    async with served(lambda items: [{"answer": ""} for _ in items]) as url:
        assert (await verb(url))[0] == 1
    assert (await verb(url))[0] == 3
