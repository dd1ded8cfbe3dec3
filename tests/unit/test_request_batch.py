"""Many requests from the command line: lines are checked before anything is sent, ends are summed up."""

import asyncio
import io
import json
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec import msgpack

from hal9.cli.request_batch import Batch, FileSource
from hal9.cli.request_lines import BadLine, RequestLines
from hal9.cli.request_tally import Tally
from hal9.client import Answer, Ask
from hal9.errors import ConfigError
from hal9.settings import Settings
from hal9.testing.transport import Reply, ScriptedTransport, Sent, echo


def read(*lines: str, repeated: bool = False) -> list[Ask | BadLine]:
    encoded = [line.encode() for line in lines]
    return [one for _, one in RequestLines("process", repeated=repeated).read(encoded)]


# ---------------------------------------------------------------------- lines
def test_a_line_says_key_operation_value_id_and_deadline() -> None:
    full = '{"key": "n1", "operation": "learn", "value": {"inputs": [1.0, 2]}, "id": "mine", "deadline_ms": 1500}'
    assert read(full) == [Ask("n1", "learn", msgpack.encode({"inputs": [1.0, 2]}), "mine", 1.5)]


def test_all_but_the_key_may_be_absent_and_bytes_come_as_base64() -> None:
    assert read('{"key": "n1"}', "", '{"key": "n2", "base64": "AP8="}', '{"key": "n3", "value": null}') == [
        Ask("n1", "process", b""),
        Ask("n2", "process", b"\0\xff"),
        Ask("n3", "process", msgpack.encode(None)),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "truncated"),
        ("[]", "object"),
        ('{"operation": "read"}', "key"),
        ('{"key": ""}', "empty"),
        ('{"key": 7}', "str"),
        ('{"key": "\\u0000claim/1"}', "NUL"),
        ('{"key": "n", "operaton": "read"}', "operaton"),
        ('{"key": "n", "operation": "No Such"}', "No Such"),
        ('{"key": "n", "value": 1, "base64": ""}', "one of them"),
        ('{"key": "n", "base64": "?"}', "base64"),
        ('{"key": "n", "value": 99999999999999999999999}', "ints"),
        ('{"key": "n", "deadline_ms": 60001}', "60000"),
        ('{"key": "n", "deadline_ms": 0}', "1"),
        ('{"key": "n", "id": ""}', "length"),
        (f'{{"key": "n", "id": "{"x" * 129}"}}', "128"),
        ('{"key": "\\ud800"}', ""),
    ],
)
def test_what_is_no_request_is_named_with_its_line(line: str, reason: str) -> None:
    first, bad = read('{"key": "n"}', line)
    assert isinstance(first, Ask)
    assert isinstance(bad, BadLine)
    assert bad.number == 2
    assert reason in bad.reason


def test_an_id_twice_or_an_id_sent_again_would_be_the_same_request() -> None:
    line = '{"key": "n", "id": "mine"}'
    assert str(read(line, "", line)[1]) == "line 3: the id of line 1 again"
    (bad,) = read(line, repeated=True)
    assert isinstance(bad, BadLine)


# ---------------------------------------------------------------------- the tally
def answer(
    status: str, ms: float, system: str | None = None, error: str | None = None, *, local: bool = False
) -> Answer:
    return Answer(status, b"", error, system, 1, "x", ms, local)  # type: ignore[arg-type]


def test_ends_are_counted_and_latencies_are_by_system() -> None:
    tally = Tally()
    tally.sent = 5
    for one in (
        answer("ok", 1.0, "flat"),
        answer("ok", 3.0, "hierarchical"),
        answer("error", 2.0, "flat", "exists"),
        answer("rejected", 1.0, None, "overload"),
        answer("timeout", 9_999.0, None, "no-answer", local=True),
    ):
        tally.add(one)
    totals = tally.totals(repeated=2, skipped=1, seconds=2.0)
    assert {name: totals[name] for name in ("sent", "ok", "error", "rejected", "timeout", "repeated", "skipped")} == {
        "sent": 5,
        "ok": 2,
        "error": 1,
        "rejected": 1,
        "timeout": 1,
        "repeated": 2,
        "skipped": 1,
    }
    assert totals["not_ok"] == {"error exists": 1, "rejected overload": 1, "timeout no-answer": 1}
    assert (totals["per_second"], tally.not_ok) == (2.5, 3)
    rows = {row["served_by"]: row for row in tally.latencies()}
    assert {name: row["answered"] for name, row in rows.items()} == {"all": 4, "flat": 2, "hierarchical": 1}
    assert rows["all"]["max_ms"] == pytest.approx(3.0, rel=0.01)
    assert rows["flat"]["p50_ms"] == pytest.approx(1.0, rel=0.01)


# ---------------------------------------------------------------------- the batch
def batch_of(tmp_path: Path, *lines: str, **fields: object) -> Batch:
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(lines))
    reading = RequestLines("process")
    return Batch(lambda: reading.read(FileSource(path).lines()), **fields)  # type: ignore[arg-type]


def test_a_batch_with_bad_lines_is_refused_as_a_whole(tmp_path: Path) -> None:
    batch = batch_of(tmp_path, '{"key": "n"}', "{", '{"key": ""}', *["["] * 20)
    with pytest.raises(
        ConfigError, match=r"line 2: .*\n  line 3: .*empty.*(\n  line \d+: .*)+\n  and 12 more"
    ) as raised:
        batch.check(skip_bad=False)
    assert "nothing was sent" in str(raised.value)


async def test_bad_lines_are_passed_over_if_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batch = batch_of(tmp_path, '{"key": "a"}', "{", '{"key": "b"}')
    batch.check(skip_bad=True)
    assert "line 2" in capsys.readouterr().err
    transport = ScriptedTransport()
    await batch.send(Settings(), transport)
    assert [sent.key for sent in transport.sent] == [b"a", b"b"]
    assert (batch.total, batch.skipped, batch.tally.sent, batch.tally.statuses["ok"]) == (2, 1, 2, 2)


async def test_answers_are_written_with_their_lines_as_they_come(tmp_path: Path) -> None:
    def refuse(sent: Sent) -> list[Reply]:
        return (
            echo(sent, b"error", error=b"exists", served_by=b"flat", stale_ms=b"5") if sent.key == b"b" else echo(sent)
        )

    out = tmp_path / "answers.jsonl"
    batch = batch_of(tmp_path, '{"key": "a", "value": {"x": 1}}', "", '{"key": "b", "id": "mine"}', out=out)
    await batch.send(Settings(), ScriptedTransport(refuse))
    rows = sorted((json.loads(line) for line in out.read_text().splitlines()), key=lambda row: row["line"])
    first, second = rows
    assert (first["line"], first["key"], first["status"], first["value"]) == (1, "a", "ok", {"x": 1})
    assert (second["line"], second["id"], second["error"], second["served_by"]) == (3, "mine", "exists", "flat")
    assert second["headers"] == {"stale-ms": "5"}
    assert batch.tally.not_ok == 1


async def test_a_batch_is_sent_as_often_as_asked_each_time_under_new_ids(tmp_path: Path) -> None:
    batch = batch_of(tmp_path, '{"key": "a"}', '{"key": "b"}', repeat=50, concurrency=7)
    batch.check(skip_bad=False)
    transport = ScriptedTransport()
    await batch.send(Settings(), transport)
    assert (batch.total, len(transport.sent), len({sent.id for sent in transport.sent})) == (100, 100, 100)


async def test_requests_leave_no_faster_than_the_rate(tmp_path: Path) -> None:
    at_s: list[float] = []

    def watch(sent: Sent) -> list[Reply]:
        at_s.append(asyncio.get_running_loop().time())
        return echo(sent)

    batch = batch_of(tmp_path, '{"key": "a"}', repeat=6, rate=100.0)
    begun_s = asyncio.get_running_loop().time()
    await batch.send(Settings(), ScriptedTransport(watch))
    # A busy machine may make each of them later, the first one too, but nothing makes one earlier than its turn.
    assert all(at >= begun_s + turn / 100.0 - 0.001 for turn, at in enumerate(at_s))


def test_standard_input_is_read_to_its_end_and_can_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"one\ntwo\n")))
    with closing(FileSource(None)) as source:
        assert list(source.lines()) == list(source.lines()) == [b"one\n", b"two\n"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        list(FileSource(tmp_path / "nowhere").lines())
