"""The client on a transport without Kafka: retries, cancellation, bounds, streams, typed failures."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from msgspec.structs import replace

import hal9.client
from hal9.client import (
    Ask,
    Client,
    ClientClosed,
    RequestFailed,
    RequestRefused,
    RequestRejected,
    RequestTimedOut,
)
from hal9.client.errors import NotSent, TooLarge
from hal9.errors import Transient
from hal9.settings import Client as ClientSettings
from hal9.settings import Settings
from hal9.testing.echoing import until
from hal9.testing.transport import Reply, ScriptedTransport, Sent, echo, silence

SETTINGS = Settings(client=ClientSettings(deadline_ms=30_000, grace_ms=0))


def bounded(**fields: int) -> Settings:
    return replace(SETTINGS, client=replace(SETTINGS.client, **fields))


def every_second_time() -> Callable[[Sent], list[Reply]]:
    """A script that hears each id only when it is sent again."""
    seen: set[bytes] = set()

    def script(sent: Sent) -> list[Reply]:
        first = sent.id not in seen
        seen.add(sent.id)
        return [] if first else echo(sent)

    return script


def test_these_are_the_public_names() -> None:
    assert sorted(hal9.client.__all__) == [
        "Answer",
        "AnswerStatus",
        "Answers",
        "Ask",
        "Client",
        "ClientClosed",
        "Counts",
        "RequestFailed",
        "RequestRefused",
        "RequestRejected",
        "RequestTimedOut",
        "SyncClient",
        "shared_client",
    ]
    assert all(hasattr(hal9.client, name) for name in hal9.client.__all__)


# ---------------------------------------------------------------------- retries
async def test_nothing_heard_it_is_sent_again_under_its_id_and_with_its_deadline() -> None:
    transport = ScriptedTransport(every_second_time())
    async with Client(settings=SETTINGS, transport=transport) as client:
        answer = await client.request("n", b"x", deadline_s=0.2, retries=3)
    first, second = transport.sent
    assert (answer.status, client.counts.resent, client.counts.sent) == ("ok", 1, 1)
    assert (first.id, first.headers, first.partition) == (second.id, second.headers, second.partition)


async def test_what_could_not_be_sent_is_sent_again() -> None:
    transport = ScriptedTransport(failures=[NotSent("connection lost"), Transient("no broker")])
    async with Client(settings=SETTINGS, transport=transport) as client:
        answer = await client.request("n", b"x", retries=2)
    assert (answer.status, answer.value, client.counts.resent, len(transport.sent)) == ("ok", b"x", 2, 1)


async def test_without_retries_it_says_that_it_was_not_sent() -> None:
    transport = ScriptedTransport(failures=[NotSent("connection lost")])
    async with Client(settings=SETTINGS, transport=transport) as client:
        answer = await client.request("n")
    assert (answer.status, answer.error, answer.local) == ("timeout", "not-sent", True)


async def test_a_retry_that_fails_leaves_the_first_attempt_its_time() -> None:
    transport = ScriptedTransport(silence)
    async with Client(settings=SETTINGS, transport=transport) as client:
        asking = asyncio.create_task(client.request("n", deadline_s=2, retries=1))
        await until(lambda: transport.sent)
        transport.failures.append(NotSent("connection lost"))
        await until(lambda: client.counts.resent == 1)
        transport.arrive(echo(transport.sent[0]))
        assert (await asking).status == "ok"


async def test_the_answer_to_the_first_attempt_ends_a_second_one_that_hangs() -> None:
    class Hanging(ScriptedTransport):
        async def send(self, *arguments: object, **named: object) -> "asyncio.Future[object]":
            if self.sent:
                await asyncio.Event().wait()
            return await super().send(*arguments, **named)  # type: ignore[arg-type]

    transport = Hanging(silence)
    async with Client(settings=SETTINGS, transport=transport) as client:
        asking = asyncio.create_task(client.request("n", deadline_s=1, retries=1))
        await until(lambda: client.counts.resent == 1)
        transport.arrive(echo(transport.sent[0]))
        assert (await asking).status == "ok"


async def test_an_answer_in_the_same_moment_as_a_retry_is_not_lost() -> None:
    transport = ScriptedTransport(silence)
    async with Client(settings=SETTINGS, transport=transport) as client:
        asking = asyncio.create_task(client.request("n", retries=1))
        await until(lambda: transport.sent)
        client._wake(client._open[transport.sent[0].id])
        transport.arrive(echo(transport.sent[0]))
        assert (await asking).status == "ok"


async def test_repeats_of_a_request_sent_twice_are_removed() -> None:
    transport = ScriptedTransport(every_second_time())
    async with Client(settings=SETTINGS, transport=transport) as client:
        await client.request("n", deadline_s=0.1, retries=1)
        transport.arrive(echo(transport.sent[0]) + echo(transport.sent[0], status=b"error"))
        assert (client.counts.answered, client.counts.repeated, client.counts.error) == (1, 2, 0)


@pytest.mark.parametrize("status", [b"error", b"rejected", b"timeout"])
async def test_an_answer_that_is_not_ok_is_an_answer_and_is_not_asked_again(status: bytes) -> None:
    transport = ScriptedTransport(lambda sent: echo(sent, status=status))
    async with Client(settings=SETTINGS, transport=transport) as client:
        assert (await client.request("n", retries=5)).status == status.decode()
    assert len(transport.sent) == 1


async def test_an_id_that_was_given_up_may_be_asked_again_and_one_that_was_answered_not() -> None:
    transport = ScriptedTransport(every_second_time())
    async with Client(settings=SETTINGS, transport=transport) as client:
        first = await client.request("n", request_id="mine", deadline_s=0.01)
        second = await client.request("n", request_id="mine")
        assert (first.error, second.status) == ("no-answer", "ok")
        with pytest.raises(ValueError, match="in use"):
            await client.request("n", request_id="mine")


async def test_what_the_broker_finds_too_large_is_rejected() -> None:
    transport = ScriptedTransport(failures=[TooLarge("3000000 bytes")])
    async with Client(settings=SETTINGS, transport=transport) as client:
        answer = await client.request("n", retries=3)
    assert (answer.status, answer.error, answer.local) == ("rejected", "too-large", True)


# ---------------------------------------------------------------------- cancellation and closing
async def test_a_cancelled_request_leaves_nothing_behind_and_its_late_answer_is_passed_over() -> None:
    transport = ScriptedTransport(silence)
    async with Client(settings=bounded(in_flight_max=1), transport=transport) as client:
        asking = asyncio.create_task(client.request("n", retries=1))
        waiting = asyncio.create_task(client.request("n"))
        await until(lambda: transport.sent)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        transport.arrive(echo(transport.sent[0]))
        await until(lambda: len(transport.sent) == 2)
        assert (client.counts.late, len(client._open)) == (1, 1)
        transport.arrive(echo(transport.sent[1]))
        assert (await waiting).ok
        assert (client._open, repr(client._room)) == ({}, "<Room: 0 requests, 0 bytes, 0 waiting>")


async def test_closing_ends_what_is_open_and_refuses_what_waits() -> None:
    transport = ScriptedTransport(silence)
    async with Client(settings=bounded(in_flight_max=1), transport=transport) as client:
        asking, waiting = (asyncio.create_task(client.request("n")) for _ in range(2))
        await until(lambda: transport.sent)
    assert ((await asking).error, transport.closed) == ("closed", 1)
    with pytest.raises(ClientClosed):
        await waiting


async def test_when_the_answers_are_lost_every_open_request_is_told() -> None:
    transport = ScriptedTransport(silence)
    async with Client(settings=SETTINGS, transport=transport) as client:
        asking = asyncio.create_task(client.request("n"))
        await until(lambda: transport.sent)
        transport.lose(RuntimeError("the log was replaced"))
        assert ((await asking).status, (await asking).error) == ("timeout", "unreadable")
        with pytest.raises(Transient, match="the log was replaced"):
            await client.request("n")


async def test_a_client_that_cannot_open_disconnects() -> None:
    class Down(ScriptedTransport):
        async def open(self, *_: object) -> None:
            raise Transient("no topics")

    transport = Down()
    with pytest.raises(Transient, match="no topics"):
        async with Client(settings=SETTINGS, transport=transport):
            pass
    assert transport.closed == 1


# ---------------------------------------------------------------------- bounds
async def test_bytes_in_flight_are_bounded() -> None:
    transport = ScriptedTransport(silence)
    async with Client(settings=bounded(in_flight_bytes=100), transport=transport) as client:
        asking = [asyncio.create_task(client.request("n", bytes(49))) for _ in range(4)]
        await until(lambda: len(transport.sent) == 2)
        assert client._room.size == 100
        for number in range(4):
            await until(lambda number=number: len(transport.sent) > number)
            assert len(transport.sent) <= number + 2
            transport.arrive(echo(transport.sent[number]))
        await asyncio.gather(*asking)


# ---------------------------------------------------------------------- many
def asks(count: int) -> Iterator[tuple[str, str, bytes]]:
    return ((f"n{number}", "learn", b"%d" % number) for number in range(count))


async def test_many_come_in_order_or_as_they_come() -> None:
    held: list[Sent] = []

    def backwards(sent: Sent) -> list[Reply]:
        held.append(sent)
        return [reply for one in reversed(held) for reply in echo(one)] if len(held) == 5 else []

    for ordered, wanted in ((True, [b"0", b"1", b"2", b"3", b"4"]), (False, [b"4", b"3", b"2", b"1", b"0"])):
        held.clear()
        async with Client(settings=SETTINGS, transport=ScriptedTransport(backwards)) as client:
            answers = [answer.value async for answer in client.request_many(asks(5), ordered=ordered)]
        assert answers == wanted


async def test_asks_are_drawn_no_faster_than_answers_are_taken() -> None:
    drawn = 0

    async def drawing() -> AsyncIterator[Ask]:
        nonlocal drawn
        for number in range(100):
            drawn += 1
            yield Ask(f"n{number}", "learn", b"", f"id-{number}")

    async with Client(settings=SETTINGS, transport=ScriptedTransport()) as client:
        taken = 0
        async for answer in client.request_many(drawing(), concurrency=3):
            assert answer.id == f"id-{taken}"
            taken += 1
            await asyncio.sleep(0)
            assert drawn <= taken + 4
    assert taken == 100


async def test_an_answer_comes_while_the_next_ask_is_still_awaited() -> None:
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[tuple[str, str, bytes]]:
        yield "a", "read", b"1"
        await go_on.wait()
        yield "b", "read", b"2"

    async with Client(settings=SETTINGS, transport=ScriptedTransport()) as client:
        values = []
        async for answer in client.request_many(slow()):
            values.append(answer.value)
            go_on.set()
    assert values == [b"1", b"2"]


async def test_who_leaves_early_cancels_what_is_under_way() -> None:
    def some(sent: Sent) -> list[Reply]:
        return echo(sent) if sent.value == b"0" else []

    async with Client(settings=SETTINGS, transport=ScriptedTransport(some)) as client:
        answers = aiter(client.request_many(asks(50), concurrency=10))
        assert (await anext(answers)).value == b"0"
        await answers.aclose()  # type: ignore[attr-defined]
        assert (client._open, client._room.requests) == ({}, 0)


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_failure_ends_many(ordered: bool) -> None:
    def failing() -> Iterator[tuple[str, str, bytes]]:
        yield "n", "learn", b""
        raise RuntimeError("no more asks")

    async with Client(settings=SETTINGS, transport=ScriptedTransport()) as client:
        with pytest.raises(RuntimeError, match="no more asks"):
            await client.request_many(failing(), ordered=ordered)
        with pytest.raises(ValueError, match="key"):
            await client.request_many([("n", "learn", b""), ("", "learn", b"")], ordered=ordered)
        assert client._open == {}


# ---------------------------------------------------------------------- answers
async def test_headers_of_an_answer_that_nobody_knows_yet_are_shown() -> None:
    more = {"fallback": b"1", "stale_ms": b"1500", "stale_versions": b"2", "traceparent": b"00-a-b-01", "new": b"\xff"}
    transport = ScriptedTransport(lambda sent: echo(sent, **more))
    async with Client(settings=SETTINGS, transport=transport) as client:
        answer = await client.request("n")
    assert (answer.fallback, answer.stale_ms, answer.stale_versions, answer.headers["new"]) == (True, 1500, 2, "\ufffd")
    assert set(answer.headers) == {"fallback", "stale-ms", "stale-versions", "traceparent", "new"}


async def test_an_answer_without_more_headers_has_none() -> None:
    async with Client(settings=SETTINGS, transport=ScriptedTransport()) as client:
        answer = await client.request("n")
    assert (dict(answer.headers), answer.fallback, answer.stale_ms, answer.ok) == ({}, False, None, True)
    assert answer.raise_for_status() is answer


@pytest.mark.parametrize(
    ("status", "failure"),
    [(b"error", RequestRefused), (b"rejected", RequestRejected), (b"timeout", RequestTimedOut)],
)
async def test_a_status_can_be_raised(status: bytes, failure: type[RequestFailed]) -> None:
    transport = ScriptedTransport(lambda sent: echo(sent, status=status, error=b"why"))
    async with Client(settings=SETTINGS, transport=transport) as client:
        answer = await client.request("n", request_id="mine")
    with pytest.raises(failure, match=r"mine.*why") as raised:
        answer.raise_for_status()
    assert raised.value.answer is answer
    assert isinstance(raised.value, TimeoutError) == (status == b"timeout")
