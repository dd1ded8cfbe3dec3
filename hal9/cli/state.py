"""`hal9 state`: the state of a neuron in both systems, and a full comparison of both stores and Redis."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hal9.cli.exits import NOT_ACHIEVED, perform
from hal9.cli.options import Config, DryRun, Format, Output, Timeout, actor, settings_for

state_app = typer.Typer(name="state", help="The state of the neurons.", no_args_is_help=True)

_SHOWN = 50
"""Differing keys listed for people; JSON has them all."""


@state_app.command(epilog="Example: hal9 state get digits/0/hidden/4")
def get(
    key: Annotated[str, typer.Argument(help="The neuron's id.")],
    config: Config = None,
    output: Format = Output.TABLE,
    timeout: Timeout = 60.0,
) -> None:
    """Show what each system and Redis hold of one neuron, and who owns it; exit 1 if nobody holds it."""
    from hal9.cli.results import show_one
    from hal9.connection import reach_kafka
    from hal9.errors import ConfigError
    from hal9.keys import key_error

    problem = key_error(key.encode())
    if problem is not None:
        raise ConfigError(problem)
    settings = settings_for(config, timeout)

    async def work() -> dict[str, Any]:
        from services.migrator.verify import holdings

        await reach_kafka(settings.kafka)
        return await holdings(settings, key)

    found = perform(work(), timeout, settings.kafka.wait_s)
    show_one(found, output)
    if not any(found[side] for side in ("flat", "hierarchical", "redis")):
        raise typer.Exit(NOT_ACHIEVED)


@state_app.command(epilog="Example: hal9 state verify --patience 10 -o json")
def verify(
    config: Config = None,
    output: Format = Output.TABLE,
    timeout: Timeout = 300.0,
    patience: Annotated[
        float, typer.Option("--patience", min=0, help="Seconds for which a key must differ, traffic being on.")
    ] = 5.0,
    redis: Annotated[bool, typer.Option(help="Compare the units in Redis too.")] = True,
) -> None:
    """Compare every neuron in both stores, and in Redis; name those that differ, and exit 1 if any does."""
    from dataclasses import asdict

    from hal9.cli.results import show_one, show_rows
    from hal9.connection import reach_kafka, reach_redis
    from services.migrator.stores import Report

    settings = settings_for(config, timeout)

    async def work() -> Report:
        from services.migrator import verify as comparison

        await reach_kafka(settings.kafka)
        if redis:
            await reach_redis(settings.redis, settings.kafka.wait_s)
        return await comparison.verify(settings, with_redis=redis, patience_s=patience)

    report = perform(work(), timeout, 2 * settings.kafka.wait_s)
    row = {"stores_equal": report.stores_equal, **asdict(report)}
    if output is Output.TABLE:
        show_one({**row, "differences": len(report.differences)}, output)
        if report.differences:
            show_rows([asdict(difference) for difference in report.differences[:_SHOWN]], output)
        if len(report.differences) > _SHOWN:
            typer.echo(f"... and {len(report.differences) - _SHOWN} more: -o json has them all", err=True)
    else:
        show_one(row, output)
    if not report.stores_equal:
        raise typer.Exit(NOT_ACHIEVED)


@state_app.command(epilog="Example: hal9 state load states.jsonl --dry-run")
def load(
    file: Annotated[Path, typer.Argument(help='Lines of JSON: {"key": ..., "state": {...}}.')],
    system: Annotated[str, typer.Option("--system", help="Whose state it becomes: flat, or hierarchical.")] = "flat",
    config: Config = None,
    output: Format = Output.TABLE,
    timeout: Timeout = 300.0,
    dry_run: DryRun = False,
) -> None:
    """Load states into a system that does not run yet; refused (4) if it runs, or holds one of the keys."""
    from dataclasses import asdict

    from hal9.backend.loading import Loaded, Loader
    from hal9.cli.results import show_one
    from hal9.cli.state_lines import read_states
    from hal9.connection import reach_kafka
    from hal9.errors import ConfigError
    from schemas.base import FLAT, HIERARCHICAL

    name = {str(one): one for one in (FLAT, HIERARCHICAL)}.get(system)
    if name is None:
        raise ConfigError(f"there is no system {system!r}: it is flat or hierarchical")
    settings = settings_for(config, timeout)
    try:
        with file.open("rb") as lines:
            states = read_states(lines)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error

    async def work() -> Loaded:
        await reach_kafka(settings.kafka)
        return await Loader(settings, name, deadline_s=timeout).load(states, dry_run=dry_run)

    done = perform(work(), timeout, settings.kafka.wait_s)
    what = "would be loaded" if dry_run else "loaded"
    show_one({"who": actor(), "what": f"{what} into {system}", "epoch": "not changed by it", **asdict(done)}, output)
