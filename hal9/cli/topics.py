"""`hal9 topics`: make them, say how they differ from what is declared, take the requests over, give them back."""

from typing import TYPE_CHECKING, Annotated

import typer

from hal9.cli.exits import NOT_ACHIEVED, perform
from hal9.cli.options import Config, DryRun, Format, Output, Timeout, actor, settings_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from hal9.log.positions import HandingOver, Position

topics_app = typer.Typer(name="topics", help="The Kafka topics.", no_args_is_help=True)


@topics_app.command(epilog="Example: hal9 topics create --dry-run")
def create(
    config: Config = None, output: Format = Output.TABLE, timeout: Timeout = 30.0, dry_run: DryRun = False
) -> None:
    """Make the topics that are missing; what exists is left as it is."""
    from hal9 import topics as declared
    from hal9.cli.results import show_rows
    from hal9.connection import reach_kafka
    from hal9.log.administration import administering

    settings = settings_for(config, timeout)
    all_topics = declared.Topics.of(settings.topics)

    async def work() -> list[str]:
        await reach_kafka(settings.kafka)
        if dry_run:
            async with administering(settings.kafka, timeout) as admin:
                existing = set(await admin.list_topics())
            return [name for log in declared.LOGS if (name := all_topics.name(log)) not in existing]
        return await declared.create(settings.kafka, all_topics, deadline_s=timeout)

    made = perform(work())
    rows = [
        {
            "topic": name,
            "partitions": all_topics.partitions_of(all_topics.log(name)),
            "done": "would be created" if dry_run else "created",
        }
        for name in made
    ]
    if rows or output is Output.JSON:
        show_rows(rows, output)
    else:
        typer.echo("nothing to do: every topic exists")


@topics_app.command(epilog="Example: hal9 topics check -o json")
def check(config: Config = None, output: Format = Output.TABLE, timeout: Timeout = 30.0) -> None:
    """Say which topics are missing or differ from what is declared; exit 1 if any does."""
    from hal9 import topics as declared
    from hal9.cli.results import show_rows
    from hal9.connection import reach_kafka

    settings = settings_for(config, timeout)

    async def work() -> list[str]:
        await reach_kafka(settings.kafka)
        return await declared.check(settings.kafka, declared.Topics.of(settings.topics), deadline_s=timeout)

    problems = perform(work())
    if problems or output is Output.JSON:
        show_rows([{"problem": problem} for problem in problems], output)
    else:
        typer.echo("every topic is as declared")
    if problems:
        raise typer.Exit(NOT_ACHIEVED)


@topics_app.command(epilog="Example: hal9 topics adopt --from-group orders --dry-run")
def adopt(
    from_group: Annotated[str, typer.Option("--from-group", help="Consumer group of who reads the requests today.")],
    config: Config = None,
    output: Format = Output.TABLE,
    timeout: Timeout = 60.0,
    dry_run: DryRun = False,
) -> None:
    """Have the router begin where a consumer group ended; refused (4) while either has members."""
    import time

    now_ms = time.time_ns() // 1_000_000
    found = _handed_over(config, timeout, lambda handing: handing.adopt(from_group, now_ms, dry_run=dry_run))
    _show_positions(found, output, dry_run=dry_run)


@topics_app.command(epilog="Example: hal9 topics release --to-group orders")
def release(
    to_group: Annotated[str, typer.Option("--to-group", help="Consumer group of who reads the requests from now on.")],
    config: Config = None,
    output: Format = Output.TABLE,
    timeout: Timeout = 60.0,
    dry_run: DryRun = False,
) -> None:
    """Have a consumer group begin where the router ended; refused (4) while either has members or work is under way."""
    found = _handed_over(config, timeout, lambda handing: handing.release(to_group, dry_run=dry_run))
    _show_positions(found, output, dry_run=dry_run)


def _handed_over(
    config: Config, timeout_s: float, act: "Callable[[HandingOver], Awaitable[list[Position]]]"
) -> "list[Position]":
    """The positions that `act` carries from one consumer group to the other."""
    from hal9.connection import reach_kafka
    from hal9.log.positions import HandingOver
    from hal9.topics import Topics

    settings = settings_for(config, timeout_s)

    async def work() -> "list[Position]":
        await reach_kafka(settings.kafka)
        return await act(HandingOver(settings.kafka, Topics.of(settings.topics), deadline_s=timeout_s))

    return perform(work(), timeout_s, settings.kafka.wait_s)


def _show_positions(found: "Sequence[Position]", output: Output, *, dry_run: bool) -> None:
    from dataclasses import asdict

    from hal9.cli.results import show_one, show_rows

    if dry_run and output is Output.TABLE:
        show_one({"who": actor(), "what": "nothing yet: this would be done", "epoch": "not changed by it"}, output)
    show_rows([asdict(one) for one in found], output)
