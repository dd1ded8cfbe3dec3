"""`hal9 topics`: make the topics, or say how they differ from what is declared."""

import typer

from hal9.cli.exits import NOT_ACHIEVED, perform
from hal9.cli.options import Config, DryRun, Format, Output, Timeout, settings_for

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
