"""`hal9 up`, `down` and `logs`: everything on this machine, without demo traffic, for one's own clients."""

import math
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
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds to wait for each part to be ready.")
    ] = 90.0,
    dry_run: DryRun = False,
) -> None:
    """Start Kafka, Redis, all services and both systems here; what runs already is found, not started again.

    Without --detach everything ends with this command. A Kafka or Redis that the settings name is used instead.
    """
    from contextlib import ExitStack

    from rich.console import Console

    from hal9.local.signals import terminated

    with terminated(), ExitStack() as undo:
        local = _topology(directory, config, detach, timeout)
        if dry_run:
            _say_missing(local, output)
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
    output: Format = Output.TABLE,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds after which a part is killed.")] = 15.0,
    dry_run: DryRun = False,
) -> None:
    """Stop the services, Kafka and Redis of a directory, whoever started them; data stays unless it is purged."""
    from hal9.cli.results import show_one
    from hal9.local import topology

    place = _directory(directory, config)
    stopped = topology.running_in(place) if dry_run else topology.down(place, purge=purge, grace_s=timeout)
    done = "would stop" if dry_run else "stopped"
    if output is Output.JSON:
        show_one({done.replace(" ", "_"): stopped, "purged": purge, "directory": str(place)}, output)
        return
    typer.echo(f"{done} {', '.join(stopped)}" if stopped else "nothing runs")
    if purge and dry_run:
        typer.echo(f"would remove data and logs in {place}")


def logs(
    service: Annotated[str, typer.Argument(help="A service, kafka or redis.")],
    directory: Directory = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    config: Config = None,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="table: as it is; json: an object a line.")
    ] = Output.TABLE,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0, help="With --follow: end after so many seconds.")
    ] = None,
) -> None:
    """Print the end of a service's log."""
    from difflib import get_close_matches

    from hal9.errors import ConfigError, Hal9Error
    from hal9.local.services import SERVICES, Services
    from stack.process import followed

    known = (*SERVICES, "kafka", "redis")
    if service not in known:
        close = get_close_matches(service, known, n=1)
        raise ConfigError(f"unknown service {service!r}: {f'did you mean {close[0]}?' if close else ', '.join(known)}")
    log = Services(_directory(directory, config), {}).log(service)
    if not log.is_file():
        raise Hal9Error(f"there is no {log}: {service} was never started there")
    following_s = math.inf if timeout is None else timeout
    for text in followed(log, lines, following_s if follow else 0.0):
        _print_lines(text, output)


def _print_lines(text: str, output: Output) -> None:
    from hal9.cli.results import show_line

    for line in text.splitlines():
        show_line({"line": line}, output, line)


def _directory(directory: Path | None, config: Path | None) -> Path:
    from stack.settings import stack_dir

    return (directory or stack_dir(settings_for(config).stack)).absolute()


def _topology(directory: Path | None, config: Path | None, detached: bool, ready_s: float) -> "Topology":
    from hal9.local.topology import Topology

    place, settings = _directory(directory, config), settings_for(config)
    return Topology(place, settings, config=config, detached=detached, ready_s=ready_s)


def _say_missing(local: "Topology", output: Output) -> None:
    from hal9.cli.results import show_one

    missing = local.missing()
    if output is Output.JSON:
        show_one({"would_start": missing, "directory": str(local.directory)}, output)
        return
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
        "  hal9 migration start canary           # begin to move neurons",
        "  hal9 migration status --watch         # see how far it is",
        "  hal9 migration rollback               # go back, at any moment",
        "  hal9 logs router --follow             # what a service says",
        "`hal9 down` ends everything.",
    ]
