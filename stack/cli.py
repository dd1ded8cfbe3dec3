"""`hal9 stack`: Kafka and Redis alone, left running for one's own services and clients."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hal9.errors import ConfigError, Hal9Error, Unreachable
from stack.local import Endpoints, LocalStack, ServerStatus
from stack.process import followed
from stack.settings import from_environment, stack_dir

stack_app = typer.Typer(name="stack", help="A local Kafka and Redis, without Docker.", no_args_is_help=True)

_NOT_ACHIEVED, _WRONG_USAGE, _UNREACHABLE = 1, 2, 3
_LOOK_S = 0.3


class Output(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


class Name(StrEnum):
    """The servers of the stack."""

    KAFKA = "kafka"
    REDIS = "redis"


Directory = Annotated[
    Path | None, typer.Option("--dir", help="Where data and logs are; default: the setting STACK.DIR.")
]
Format = Annotated[Output, typer.Option("--output", "-o", help="table, or json on stdout alone.")]
Patience = Annotated[
    float, typer.Option("--timeout", min=0, help="Seconds to wait until all of it runs; 0: look once.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


@stack_app.command(epilog="Example: hal9 stack up && eval $(hal9 stack env)")
def up(
    directory: Directory = None,
    output: Format = Output.TABLE,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for each server to answer.")] = 90.0,
    dry_run: DryRun = False,
) -> None:
    """Start Kafka and Redis and leave them running; what runs already is found, not started again."""
    with _exit_codes():
        local = _stack(directory, timeout)
        if dry_run:
            waiting = [status.name for status in local.status() if status.pid is None]
            if output is Output.JSON:
                print(json.dumps({"would_start": waiting, "directory": str(local.directory)}, indent=1))
            else:
                print(f"would start {', '.join(waiting) or 'nothing: all runs already'} in {local.directory}")
            return
        local.up(Console(stderr=True, highlight=False).print)
        _print(local.status(), output)


@stack_app.command(epilog="Example: hal9 stack down --purge")
def down(
    directory: Directory = None,
    purge: Annotated[bool, typer.Option("--purge", help="Also remove data and logs.")] = False,
    output: Format = Output.TABLE,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds after which a server is killed.")] = 15.0,
    dry_run: DryRun = False,
) -> None:
    """Stop Kafka and Redis; their data stays unless it is purged."""
    with _exit_codes():
        local = _stack(directory, timeout)
        running = {status.name: status.pid for status in local.status() if status.pid}
        if not dry_run:
            local.down(purge=purge)
        done = "would stop" if dry_run else "stopped"
        if output is Output.JSON:
            found = {done.replace(" ", "_"): list(running), "purged": purge, "directory": str(local.directory)}
            print(json.dumps(found, indent=1))
            return
        named = ", ".join(f"{name} (pid {pid})" for name, pid in running.items())
        print(f"{done} {named}" if running else "nothing runs")
        if purge:
            print(f"{'would remove' if dry_run else 'removed'} data and logs in {local.directory}")


@stack_app.command(epilog="Example: hal9 stack status -o json")
def status(directory: Directory = None, output: Format = Output.TABLE, timeout: Patience = 0.0) -> None:
    """Show what runs and where; exit 0 only if all of it answers."""
    with _exit_codes():
        local, until = _stack(directory), time.monotonic() + timeout
        found = local.status()
        while any(server.state != "up" for server in found) and time.monotonic() < until:
            time.sleep(_LOOK_S)
            found = local.status()
        _print(found, output)
        if any(server.state != "up" for server in found):
            raise typer.Exit(_NOT_ACHIEVED)


@stack_app.command(epilog="Example: hal9 stack logs kafka --lines 50 --follow")
def logs(
    name: Name,
    directory: Directory = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="table: as it is; json: an object a line.")
    ] = Output.TABLE,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0, help="With --follow: end after so many seconds.")
    ] = None,
) -> None:
    """Print the end of a server's log."""
    with _exit_codes():
        log = _stack(directory).log(name)
        if not log.is_file():
            raise Hal9Error(f"there is no {log}: {name} was never started there")
        following_s = math.inf if timeout is None else timeout
        for text in followed(log, lines, following_s if follow else 0.0):
            _print_lines(text, output)


@stack_app.command(epilog="Example: eval $(hal9 stack env)")
def env(directory: Directory = None, output: Format = Output.TABLE, timeout: Patience = 0.0) -> None:
    """Print the addresses as shell exports; exit 1 if the stack does not run."""
    with _exit_codes():
        local, until = _stack(directory), time.monotonic() + timeout
        while (found := local.endpoints()) is None and time.monotonic() < until:
            time.sleep(_LOOK_S)
        if found is None:
            raise Hal9Error(f"no stack runs in {local.directory}; `hal9 stack up` starts one")
        variables = _variables(found)
        if output is Output.JSON:
            print(json.dumps(variables))
        else:
            print("\n".join(f"export {name}={value}" for name, value in variables.items()))


def _print_lines(text: str, output: Output) -> None:
    for line in text.splitlines():
        print(json.dumps({"line": line}, ensure_ascii=False) if output is Output.JSON else line, flush=True)


def _variables(endpoints: Endpoints) -> dict[str, str]:
    return {"HAL9_KAFKA__BOOTSTRAP": endpoints.bootstrap, "HAL9_REDIS__URL": endpoints.redis_url}


def _stack(directory: Path | None, timeout: float | None = None) -> LocalStack:
    settings = from_environment()
    return LocalStack(directory or stack_dir(settings), detached=True, settings=settings, timeout_s=timeout)


@contextmanager
def _exit_codes() -> Iterator[None]:
    try:
        yield
    except Hal9Error as error:
        typer.echo(f"error: {error}", err=True)
        code = _NOT_ACHIEVED
        if isinstance(error, ConfigError):
            code = _WRONG_USAGE
        elif isinstance(error, Unreachable):
            code = _UNREACHABLE
        raise typer.Exit(code) from error


def _print(found: list[ServerStatus], output: Output) -> None:
    rows = [
        {
            "name": server.name,
            "state": server.state,
            "address": server.address,
            "pid": server.pid,
            "log": str(server.log),
        }
        for server in found
    ]
    if output is Output.JSON:
        print(json.dumps(rows, indent=1))
        return
    table = Table(*(heading.upper() for heading in rows[0]), box=None)
    for row in rows:
        table.add_row(*("-" if cell is None else str(cell) for cell in row.values()))
    Console(highlight=False, soft_wrap=True).print(table)
