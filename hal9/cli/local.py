"""`hal9 up`, `down` and `logs`: everything on this machine, without demo traffic, for one's own clients."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hal9.cli.options import Config, DryRun, Format, Output, settings_for

if TYPE_CHECKING:
    from hal9.local.topology import Topology

Directory = Annotated[
    Path | None, typer.Option("--dir", help="Where data and logs are; default: the setting STACK.DIR.")
]
_LOOK_S = 0.3


def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Leave everything running; `hal9 down` ends it.")
    ] = False,
    directory: Directory = None,
    config: Config = None,
    output: Format = Output.TABLE,
    dry_run: DryRun = False,
) -> None:
    """Start Kafka, Redis, all services and both systems here; what runs already is found, not started again.

    Without --detach everything ends with this command. A Kafka or Redis that the settings name is used instead.
    """
    from contextlib import ExitStack

    from rich.console import Console

    from hal9.local.signals import terminated

    with terminated(), ExitStack() as undo:
        local = _topology(directory, config, detached=detach)
        if dry_run:
            _say_missing(local)
            return
        undo.push(local)
        console = Console(stderr=True, highlight=False)
        local.up(lambda text: console.print(text, markup=False))
        _show(local, output)
        if detach:
            undo.pop_all()
            return
        while True:
            local.refuse_ended()
            time.sleep(_LOOK_S)


def down(
    directory: Directory = None,
    purge: Annotated[bool, typer.Option("--purge", help="Also remove data and logs.")] = False,
    config: Config = None,
    dry_run: DryRun = False,
) -> None:
    """Stop the services, Kafka and Redis of a directory, whoever started them; data stays unless it is purged."""
    local = _topology(directory, config, detached=True)
    if dry_run:
        running = ", ".join(local.running()) or "nothing: nothing runs"
        typer.echo(f"would stop {running}{f', and remove data and logs in {local.directory}' if purge else ''}")
        return
    stopped = local.down(purge=purge)
    typer.echo(f"stopped {', '.join(stopped)}" if stopped else "nothing ran")


def logs(
    service: Annotated[str, typer.Argument(help="A service, kafka or redis.")],
    directory: Directory = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    config: Config = None,
) -> None:
    """Print the end of a service's log."""
    from difflib import get_close_matches

    from hal9.errors import ConfigError, Hal9Error
    from hal9.local.services import SERVICES
    from stack.process import tail

    known = (*SERVICES, "kafka", "redis")
    if service not in known:
        close = get_close_matches(service, known, n=1)
        raise ConfigError(f"unknown service {service!r}: {f'did you mean {close[0]}?' if close else ', '.join(known)}")
    log = _topology(directory, config, detached=True).services.log(service)
    if not log.is_file():
        raise Hal9Error(f"there is no {log}: {service} was never started there")
    position = log.stat().st_size
    typer.echo(tail(log, lines))
    while follow:
        with log.open("rb") as handle:
            handle.seek(position)
            typer.echo(handle.read().decode("utf-8", "replace"), nl=False)
            position = handle.tell()
        time.sleep(_LOOK_S)


def _topology(directory: Path | None, config: Path | None, *, detached: bool) -> "Topology":
    from hal9.local.topology import Topology
    from stack.settings import stack_dir

    settings = settings_for(config)
    return Topology(directory or stack_dir(settings.stack), settings, config=config, detached=detached)


def _say_missing(local: "Topology") -> None:
    missing = local.missing()
    typer.echo(f"would start {', '.join(missing)} in {local.directory}" if missing else "would do nothing: all runs")


def _show(local: "Topology", output: Output) -> None:
    from dataclasses import asdict

    from hal9.cli.results import show_one, show_rows
    from hal9.local.services import SERVICES

    found = (local.services.status(name) for name in SERVICES)
    services = [{**asdict(status), "log": str(status.log)} for status in found]
    addresses = {"kafka": local.settings.kafka.bootstrap, "redis": local.settings.redis.url}
    if output is Output.JSON:
        show_one({**addresses, "services": services}, output)
        return
    show_rows([{"service": s["name"], "pid": s["pid"], "http": f"127.0.0.1:{s['port']}"} for s in services], output)
    typer.echo("\n".join(("", *_what_next(addresses))))


def _what_next(addresses: dict[str, str]) -> list[str]:
    return [
        "In another terminal:",
        f"  export HAL9_KAFKA__BOOTSTRAP={addresses['kafka']} HAL9_REDIS__URL={addresses['redis']}",
        "  hal9 migration start canary    # begin to move neurons",
        "  hal9 migration status --watch         # see how far it is",
        "  hal9 migration rollback               # go back, at any moment",
        "  hal9 logs router --follow             # what a service says",
        "`hal9 down` ends everything.",
    ]
