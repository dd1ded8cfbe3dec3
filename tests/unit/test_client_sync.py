"""The sync facade: from several threads, interrupted, closed."""

import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from hal9.client import ClientClosed, SyncClient
from hal9.errors import Transient
from hal9.settings import Client as ClientSettings
from hal9.settings import Settings
from hal9.testing.transport import Reply, ScriptedTransport, Sent, echo, silence

SETTINGS = Settings(client=ClientSettings(deadline_ms=30_000, grace_ms=0))


def test_requests_are_answered_in_plain_calls_from_many_threads() -> None:
    with SyncClient(settings=SETTINGS, transport=ScriptedTransport()) as client, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: client.request("n", b"%d" % number), range(200)))
        assert [answer.value for answer in answers] == [b"%d" % number for number in range(200)]
        assert client.counts.ok == 200


def test_many_are_streamed_in_order_or_as_they_come() -> None:
    held: list[Sent] = []
    waited_for = threading.Event()

    def backwards(sent: Sent) -> list[Reply]:
        held.append(sent)
        if len(held) < 5:
            return []
        # An answer that comes before the facade waits for it comes when it does, whatever came meanwhile.
        assert waited_for.wait(30)
        return [reply for one in reversed(held) for reply in echo(one)]

    def asks() -> Iterator[tuple[str, str, bytes]]:
        held.clear()
        waited_for.clear()
        yield from (("n", "learn", b"%d" % number) for number in range(5))
        waited_for.set()

    with SyncClient(settings=SETTINGS, transport=ScriptedTransport(backwards)) as client:
        assert [answer.value for answer in client.request_many(asks())] == [b"0", b"1", b"2", b"3", b"4"]
        found = [answer.value for answer in client.request_many(asks(), ordered=False, concurrency=5)]
        assert found == [b"4", b"3", b"2", b"1", b"0"]


def test_who_leaves_early_cancels_what_is_under_way() -> None:
    def some(sent: Sent) -> list[Reply]:
        return echo(sent) if sent.value == b"0" else []

    with SyncClient(settings=SETTINGS, transport=ScriptedTransport(some)) as client:
        answers = client.request_many([("n", "learn", b"%d" % number) for number in range(10)], concurrency=5)
        assert next(answers).value == b"0"
        answers.close()  # type: ignore[attr-defined]
        assert client.request("n", b"0").ok
        assert client.counts.timeout == 4


def test_closing_ends_what_other_threads_wait_for() -> None:
    sent = threading.Event()

    def script(one: Sent) -> list[Reply]:
        sent.set()
        return silence(one)

    client = SyncClient(settings=SETTINGS, transport=ScriptedTransport(script))
    with ThreadPoolExecutor(1) as threads:
        with client:
            waiting = threads.submit(client.request, "n")
            assert sent.wait(30)
        assert waiting.result(30).error == "closed"
    with pytest.raises(ClientClosed):
        client.request("n")


def test_one_that_cannot_open_leaves_no_thread() -> None:
    class Down(ScriptedTransport):
        async def open(self, *_: object) -> None:
            raise Transient("no topics")

    before = threading.active_count()
    with pytest.raises(Transient, match="no topics"), SyncClient(settings=SETTINGS, transport=Down()):
        pass
    assert threading.active_count() == before


def test_ctrl_c_interrupts_a_call_and_closes_the_client() -> None:
    program = textwrap.dedent("""
        from hal9.client import SyncClient
        from hal9.testing.transport import ScriptedTransport

        def script(sent):
            print("sent", flush=True)
            return []

        transport = ScriptedTransport(script)
        try:
            with SyncClient(transport=transport) as client:
                client.request("n", deadline_s=60)
        except KeyboardInterrupt:
            print("interrupted", transport.closed, flush=True)
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "sent\n"
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=60)[0] == "interrupted 1\n"
    assert child.returncode == 0
