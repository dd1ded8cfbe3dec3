"""A handler behind HTTP, well-behaved and not: what it is told, and what comes of whatever it answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import jsonschema
import msgpack
import pytest
from aiohttp import web

from hal9.backend import remote as module
from hal9.backend.handler import Item, Missing, Outcome, Refused
from hal9.backend.measured import ENDS, Measured
from hal9.backend.remote import HttpHandler
from hal9.errors import ConfigError, Stalled, Unreachable
from hal9.log.effects import Call
from hal9.settings.sections import System
from hal9.telemetry.metrics import Metrics
from hal9.testing.echoing import until
from schemas.generate import handler_schemas
from tests.serving import serving

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]
SCHEMAS = handler_schemas()


class Server:
    """Counts what it is asked; `post` is what it does with a batch, `read_only` what it declares."""

    def __init__(self, form: str) -> None:
        self.form, self.read_only = form, ["get"]
        self.bodies: list[Any] = []
        self.peers: set[Any] = set()
        self.post: Reply = self.count
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/counter"

    def pack(self, tree: object) -> web.Response:
        if self.form == "json":
            return web.json_response(tree)
        return web.Response(body=msgpack.packb(tree), content_type="application/msgpack")

    async def get(self, _request: web.Request) -> web.StreamResponse:
        return self.pack({"name": "counter", "version": "1", "read_only": self.read_only})

    async def asked(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw) if self.form == "json" else msgpack.unpackb(raw)
        self.bodies.append(body)
        self.peers.add(request.transport.get_extra_info("peername") if request.transport else None)
        return await self.post(request)

    async def count(self, _request: web.Request) -> web.StreamResponse:
        results: list[Any] = []
        for item in self.bodies[-1]["items"]:
            count = (item["state"] or {"n": 0})["n"]
            if item["operation"] == "get":
                results.append({"answer": item["value"]})
            elif item["operation"] == "add":
                results.append({"state": {"n": count + 1}, "answer": item["value"]})
            else:
                results.append({"error": "unknown-operation", "detail": "what?"})
        return self.pack({"results": results})


@asynccontextmanager
async def counting(form: str = "msgpack") -> AsyncIterator[Server]:
    server = Server(form)
    app = web.Application(client_max_size=1 << 26)
    app.router.add_get("/counter", server.get)
    app.router.add_post("/counter", server.asked)
    async with serving(app) as server.port:
        yield server


def settings(**given: Any) -> System:
    return System(**{"handler_timeout_s": 30.0, "handler_wait_s": 30.0, **given})


async def ask(handler: HttpHandler, *items: Item) -> list[Outcome]:
    return list(await handler.call(Call(list(items), lambda _outcomes, _now: None)))


def code(outcome: Outcome) -> str:
    assert isinstance(outcome, Refused), outcome
    return outcome.code


@pytest.mark.parametrize("form", ["msgpack", "json"])
async def test_a_batch_is_one_post_in_the_form_that_the_handler_speaks(form: str) -> None:
    async with counting(form) as server, HttpHandler(server.url, settings()) as handler:
        await handler.reach()
        assert (handler.form, handler.read_only) == (form, {"get"})
        found = await ask(
            handler, (None, "add", b"\x00\xff"), ({"n": 4, "w": [0.5, -0.0]}, "get", b"x"), (None, "what", b"")
        )
        assert found[0] == ({"n": 1}, b"\x00\xff")
        assert found[1] == ({"n": 4, "w": [0.5, -0.0]}, b"x"), "a read-only one need not say the state"
        assert code(found[2]) == "unknown-operation"
        assert len(server.bodies) == 1
        if form == "json":
            assert server.bodies[0]["items"][0] == {"state": None, "operation": "add", "value": "AP8="}
            jsonschema.Draft202012Validator(SCHEMAS["batch"]).validate(server.bodies[0])
        await ask(handler, (None, "add", b""))
        assert len(server.peers) == 1, "connections are kept"


async def test_layers_that_are_off_are_told() -> None:
    async with counting() as server, HttpHandler(server.url, settings()) as handler:
        await handler.reach()
        await handler.call(Call([(None, "add", b"")], lambda _outcomes, _now: None, frozenset({"cognitive"})))
        assert server.bodies[0]["off"] == ["cognitive"]


@pytest.mark.parametrize(
    ("result", "wanted"),
    [
        ({"state": 7, "answer": b""}, "handler-failed"),
        ({"state": {"n": 1}, "answer": "text"}, "handler-failed"),
        ({"answer": b""}, "handler-failed"),
        ({"state": {}, "error": "no"}, "handler-failed"),
        ({"error": "Not A Code"}, "handler-failed"),
        ({}, "handler-failed"),
        (7, "handler-failed"),
        ({"error": "full"}, "full"),
    ],
)
async def test_a_result_that_is_wrong_fails_alone(result: object, wanted: str) -> None:
    async with counting() as server, HttpHandler(server.url, settings()) as handler:

        async def post(request: web.Request) -> web.StreamResponse:
            return server.pack({"results": [{"state": {"n": 1}}, result]})

        server.post = post
        await handler.reach()
        found = await ask(handler, (None, "add", b""), (None, "add", b""))
        assert found[0] == ({"n": 1}, b"")
        assert code(found[1]) == wanted
        assert len(server.bodies) == 1


BAD: dict[str, Callable[[], web.Response]] = {
    "another status": lambda: web.Response(status=500),
    "elsewhere": lambda: web.Response(status=302, headers={"Location": "/counter"}),
    "no type": lambda: web.Response(body=b"\x80", content_type="text/html"),
    "garbage": lambda: web.Response(body=b"\xc1\xc1", content_type="application/msgpack"),
    "no results": lambda: web.Response(body=msgpack.packb({}), content_type="application/msgpack"),
    "too few": lambda: web.Response(body=msgpack.packb({"results": []}), content_type="application/msgpack"),
    "too much": lambda: web.Response(body=b"\xc0" * 100_000, content_type="application/msgpack"),
    "a bomb": lambda: web.Response(body=b"\x91" * 20_000, content_type="application/msgpack"),
}


@pytest.mark.parametrize("how", BAD)
async def test_a_body_that_fails_is_asked_again_item_by_item(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_BYTES", 50_000)
    async with counting() as server, HttpHandler(server.url, settings()) as handler:

        async def post(request: web.Request) -> web.StreamResponse:
            poisoned = any(item["value"] == b"bad" for item in server.bodies[-1]["items"])
            return BAD[how]() if poisoned else await server.count(request)

        server.post = post
        await handler.reach()
        found = await ask(handler, (None, "add", b"good"), (None, "add", b"bad"), (None, "add", b"fine"))
        assert [outcome if isinstance(outcome, tuple) else code(outcome) for outcome in found] == [
            ({"n": 1}, b"good"),
            "handler-failed",
            ({"n": 1}, b"fine"),
        ]
        assert [len(body["items"]) for body in server.bodies] == [3, 1, 1, 1]
        assert handler.unreached is None


async def test_what_does_not_answer_in_time_is_slow_and_nothing_else_waits_for_it() -> None:
    async with counting() as server, HttpHandler(server.url, settings(handler_timeout_s=0.2)) as handler:
        await handler.reach()
        over = asyncio.Event()

        async def post(request: web.Request) -> web.StreamResponse:
            await over.wait()
            return server.pack({"results": []})

        server.post = post
        turns = 0
        asked = asyncio.create_task(ask(handler, (None, "add", b""), (None, "add", b"")))
        while not asked.done():
            await asyncio.sleep(0)
            turns += 1
        over.set()
        assert asked.result() == [Missing.SLOW, Missing.SLOW]
        assert turns > 10, "the loop went on"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_gateway_that_has_nobody_behind_it_is_not_an_answer(status: int) -> None:
    async with counting() as server, HttpHandler(server.url, settings()) as handler:

        async def post(request: web.Request) -> web.StreamResponse:
            return web.Response(status=status)

        await handler.reach()
        server.post = post
        assert await ask(handler, (None, "add", b""), (None, "add", b"")) == [Missing.UNREACHED] * 2
        assert handler.unreached is not None
        server.post = server.count
        assert await ask(handler, (None, "add", b"")) == [({"n": 1}, b"")]
        assert handler.unreached is None


async def test_nobody_there_and_a_connection_that_breaks_off_are_unreached() -> None:
    async with counting() as server, HttpHandler(server.url, settings()) as handler:
        await handler.reach()

        async def post(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            request.transport.close()
            return web.Response()

        server.post = post
        assert await ask(handler, (None, "add", b"")) == [Missing.UNREACHED]
        assert len(server.bodies) == 2, "tried once more: a kept connection may have gone stale"
        gone = server.port
    async with HttpHandler(f"http://127.0.0.1:{gone}/counter", settings(handler_wait_s=0.0)) as handler:
        assert await ask(handler, (None, "add", b"")) == [Missing.UNREACHED]
        with pytest.raises(Unreachable, match="within 0 s"):
            await handler.reach()


@pytest.mark.parametrize("state", [{"n": float("nan")}, {"n": b"bytes"}, {"n": {1: 2}}])
async def test_a_state_that_json_would_change_is_not_sent(state: dict[str, Any]) -> None:
    async with counting("json") as server, HttpHandler(server.url, settings()) as handler:
        await handler.reach()
        found = await ask(handler, (state, "add", b""), ({"n": 1}, "add", b""))
        assert code(found[0]) == "state-not-json"
        assert found[1] == ({"n": 2}, b"")
        assert [len(body["items"]) for body in server.bodies] == [1]


async def test_a_large_batch_goes_in_several_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    from hal9.backend import bodies  # noqa: PLC0415

    monkeypatch.setattr(bodies, "BODY_BYTES", 1_000)
    async with counting() as server, HttpHandler(server.url, settings()) as handler:
        await handler.reach()
        found = await ask(handler, *[(None, "add", bytes([number]) * 400) for number in range(5)])
        assert found == [({"n": 1}, bytes([number]) * 400) for number in range(5)]
        assert [len(body["items"]) for body in server.bodies] == [2, 2, 1]


async def test_an_address_that_is_no_handler_is_refused_at_the_start() -> None:
    async with counting() as server, HttpHandler(server.url + "/none", settings()) as handler:
        with pytest.raises(ConfigError, match="404"):
            await handler.reach()


async def test_a_handler_that_declares_other_read_only_operations_ends_the_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    async with counting() as server, HttpHandler(server.url, settings()) as handler:
        await handler.reach()
        server.read_only = ["get", "add"]
        async with asyncio.timeout(30):
            with pytest.raises(Stalled, match="started again"):
                await handler.watch()


async def test_calls_are_counted_by_the_worst_that_came_of_them_and_those_under_way_are_seen() -> None:
    metrics, answers = Metrics(), asyncio.Queue[list[Outcome]]()

    async def calling(_call: Call) -> list[Outcome]:
        return await answers.get()

    measured = Measured(calling, metrics)

    def now(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, labels)

    fine: Outcome = ({"n": 1}, b"")
    batches: list[tuple[str, list[Outcome]]] = [
        ("answered", [fine, Refused("full")]),
        ("failed", [fine, Refused("handler-failed")]),
        ("slow", [Refused("handler-failed"), Missing.SLOW, fine]),
        ("unreached", [Missing.SLOW, Missing.UNREACHED]),
    ]
    for end, outcomes in batches:
        assert now("hal9_handler_calls_total", outcome=end) == 0, "there from the first scrape"
        asked = asyncio.create_task(measured(Call([(None, "add", b"")], lambda _outcomes, _now: None)))
        await until(lambda: now("hal9_handler_calls_in_flight") == 1)
        answers.put_nowait(outcomes)
        assert await asked is outcomes
        assert now("hal9_handler_calls_in_flight") == 0
        assert now("hal9_handler_calls_total", outcome=end) == 1
        assert now("hal9_handler_call_duration_seconds_count", outcome=end) == 1
    cut_off = asyncio.create_task(measured(Call([(None, "add", b"")], lambda _outcomes, _now: None)))
    await until(lambda: now("hal9_handler_calls_in_flight") == 1)
    cut_off.cancel()
    await asyncio.wait([cut_off])
    assert now("hal9_handler_calls_in_flight") == 0
    assert sum(now("hal9_handler_calls_total", outcome=end) or 0 for end in ENDS) == len(batches)
