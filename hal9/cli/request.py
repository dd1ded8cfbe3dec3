"""`hal9 request`: one request by hand, and its answer."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hal9.cli.exits import NOT_ACHIEVED, perform
from hal9.cli.options import Config, DryRun, Format, Output, actor, settings_for

request_app = typer.Typer(name="request", help="Requests to the service that is migrated.", no_args_is_help=True)


@request_app.command(epilog="""Example: hal9 request send neuron-1 '{"inputs": [[1.0]]}' --json --operation activate""")
def send(
    key: Annotated[str, typer.Argument(help="The neuron's id.")],
    value: Annotated[str, typer.Argument(help="The value, as it is; - reads stdin.")] = "",
    operation: Annotated[str, typer.Option("--operation", help="What to do.")] = "process",
    as_json: Annotated[bool, typer.Option("--json", help="The value is JSON: it is sent as msgpack.")] = False,
    file: Annotated[Path | None, typer.Option("--file", help="The value is what this file holds.")] = None,
    request_id: Annotated[
        str | None, typer.Option("--id", help="Its identity: repeated within 60 s it is the same request.")
    ] = None,
    config: Config = None,
    output: Format = Output.TABLE,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=60, help="Its deadline, in seconds.")] = 10.0,
    dry_run: DryRun = False,
) -> None:
    """Send one request and print its answer; exit 0 if it was ok, else 1."""
    from dataclasses import asdict

    from hal9.cli.results import opened, show_one
    from hal9.client import Answer, Client
    from hal9.control.reducer import ROUTE_SALT, salt
    from hal9.errors import ConfigError
    from hal9.keys import bucket_of, key_error, partition_of

    settings = settings_for(config, timeout)
    problem = key_error(key.encode())
    if problem is not None:
        raise ConfigError(problem)
    body = _body(value, file, as_json=as_json)
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
            return await client.request(key, body, operation=operation, deadline_s=timeout, request_id=request_id)

    answer = perform(work())
    show_one({**asdict(answer), "value": opened(answer.value)}, output)
    if answer.status != "ok":
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
