"""`hal9 request`: one request by hand and its answer, or many from lines of JSON."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hal9.cli.exits import NOT_ACHIEVED, perform
from hal9.cli.options import Config, DryRun, Format, Output, actor, settings_for

if TYPE_CHECKING:
    from hal9.cli.request_batch import Asks, Batch
    from hal9.cli.request_lines import BadLine
    from hal9.client import Ask
    from hal9.settings import Settings

request_app = typer.Typer(name="request", help="Requests to the service that is migrated.", no_args_is_help=True)

_EXAMPLES = """Example: hal9 request send neuron-1 '{"inputs": [[1.0]]}' --json --operation activate

hal9 request send --file requests.jsonl --rate 200 --out answers.jsonl

echo '{"key": "n1", "operation": "read"}' | hal9 request send -

hal9 request send n1 --operation read --repeat 10000 --concurrency 50

A line of requests.jsonl: {"key": "n1", "operation": "learn", "value": {"inputs": [1.0], "delta": 0.5}}
and, if wanted, "id" and "deadline_ms"; "value" travels as msgpack, "base64" instead of it holds bytes."""


@request_app.command(epilog=_EXAMPLES)
def send(
    context: typer.Context,
    key: Annotated[
        str | None, typer.Argument(help="The neuron's id; - alone reads requests from stdin, a line of JSON each.")
    ] = None,
    value: Annotated[str, typer.Argument(help="The value, as it is; - reads stdin.")] = "",
    operation: Annotated[str, typer.Option("--operation", help="What to do (where a line does not say).")] = "process",
    as_json: Annotated[bool, typer.Option("--json", help="The value is JSON: it is sent as msgpack.")] = False,
    file: Annotated[
        Path | None, typer.Option("--file", help="With a key: its value. Without: requests, a line of JSON each.")
    ] = None,
    request_id: Annotated[
        str | None, typer.Option("--id", help="Its identity: repeated within 60 s it is the same request.")
    ] = None,
    rate: Annotated[float, typer.Option("--rate", min=0, help="Requests per second; 0: as answers come.")] = 0,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Requests under way at most.")] = 100,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Send all of it so many times.")] = 1,
    retries: Annotated[
        int, typer.Option("--retries", min=0, max=100, help="Send again, under the same id, what nobody answers.")
    ] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Write each answer here, a line of JSON each.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Pass over lines that are no requests.")] = False,
    config: Config = None,
    output: Format = Output.TABLE,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, max=60, help="The deadline of a request, in seconds.")
    ] = 10.0,
    dry_run: DryRun = False,
) -> None:
    """Send one request and print its answer, or many and sum them up; exit 0 if all were ok, else 1.

    Of many, nothing is sent unless every line is a request (else exit 2, with the numbers of the lines).
    """
    from hal9.cli.request_batch import Batch
    from hal9.errors import ConfigError

    if key is None and file is None:
        raise ConfigError("give a key, or --file with requests, or - to read them from stdin")
    settings = settings_for(config, timeout)
    lines = _is_lines(key, value)
    if not lines and repeat == 1 and rate == 0 and out is None:
        _send_one(
            settings,
            _key(key),
            _body(value, file, as_json=as_json),
            operation,
            request_id=request_id,
            retries=retries,
            timeout=timeout,
            output=output,
            dry_run=dry_run,
        )
        return
    if request_id is not None and (lines or repeat > 1):
        raise ConfigError("--id is of one request: give it in the lines")
    if lines:
        asks = _line_asks(context, file, operation, repeated=repeat > 1)
    else:
        asks = _one_ask(_key(key), operation, _body(value, file, as_json=as_json), request_id)
    bar = output is Output.TABLE and sys.stderr.isatty()
    batch = Batch(asks, rate, concurrency, repeat, timeout, retries, out, bar)
    batch.check(skip_bad=skip_bad)
    _send_many(settings, batch, output, dry_run=dry_run)


def _is_lines(key: str | None, value: str) -> bool:
    """Whether requests come as lines: no key, or - alone."""
    return key is None or (key == "-" and not value)


def _key(key: str | None) -> str:
    from hal9.errors import ConfigError
    from hal9.keys import key_error

    problem = key_error((key or "").encode())
    if problem is not None:
        raise ConfigError(problem)
    return key or ""


def _line_asks(context: typer.Context, file: Path | None, operation: str, *, repeated: bool) -> "Asks":
    from hal9.cli.request_batch import FileSource
    from hal9.cli.request_lines import RequestLines

    source = FileSource(file if file is not None and str(file) != "-" else None)
    context.call_on_close(source.close)
    reading = RequestLines(operation, repeated=repeated)
    return lambda: reading.read(source.lines())


def _one_ask(key: str, operation: str, body: bytes, request_id: str | None) -> "Asks":
    from hal9.client import Ask

    def asks() -> "Iterator[tuple[int, Ask | BadLine]]":
        yield 1, Ask(key, operation, body, request_id)

    return asks


def _send_one(
    settings: "Settings",
    key: str,
    body: bytes,
    operation: str,
    *,
    request_id: str | None,
    retries: int,
    timeout: float,
    output: Output,
    dry_run: bool,
) -> None:
    from dataclasses import asdict

    from hal9.cli.results import opened, show_one
    from hal9.client import Answer, Client
    from hal9.control.reducer import ROUTE_SALT, salt
    from hal9.keys import bucket_of, partition_of

    if dry_run:
        row: dict[str, Any] = {
            "who": actor(),
            "what": f"{operation} to {key}, {len(body)} bytes",
            "partition": int(partition_of(key.encode(), settings.topics.partitions)),
            "bucket": int(bucket_of(salt(settings.migration.id, ROUTE_SALT), key.encode())),
            "epoch": "not changed by a request",
        }
        show_one(row, output)
        return

    async def work() -> Answer:
        async with Client(settings=settings) as client:
            return await client.request(
                key, body, operation=operation, deadline_s=timeout, request_id=request_id, retries=retries
            )

    answer = perform(work())
    fields = {**asdict(answer), "value": opened(answer.value)}
    if not answer.headers:
        del fields["headers"]
    show_one(fields, output)
    if answer.status != "ok":
        raise typer.Exit(NOT_ACHIEVED)


def _send_many(settings: "Settings", batch: "Batch", output: Output, *, dry_run: bool) -> None:
    from hal9.cli.results import show_one, show_rows

    if dry_run:
        show_one({"who": actor(), "what": f"{batch.total} requests", "epoch": "not changed by a request"}, output)
        return
    try:
        perform(batch.send(settings))
    finally:
        # Also of what was interrupted: the part that is known.
        if batch.tally.sent:
            totals = batch.tally.totals(repeated=batch.repeated, skipped=batch.skipped, seconds=batch.seconds)
            rows = batch.tally.latencies()
            if output is Output.JSON:
                show_one(totals | {"latencies": rows}, output)
            else:
                show_one(totals, output)
                show_rows(rows, output)
    if batch.tally.not_ok or batch.tally.ended < batch.tally.sent:
        raise typer.Exit(NOT_ACHIEVED)


def _body(value: str, file: Path | None, *, as_json: bool) -> bytes:
    import json

    from hal9.errors import ConfigError
    from schemas.base import encode

    if file is not None and value:
        raise ConfigError("give the value or --file, not both")
    try:
        raw = file.read_bytes() if file is not None else value.encode()
        if value == "-":
            raw = sys.stdin.buffer.read()
        return encode(json.loads(raw)) if as_json else raw
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"the value cannot be used: {error}") from error
