"""`hal9 divergences`: what differed between the systems."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hal9.cli.exits import perform
from hal9.cli.options import Config, Format, Output, Timeout, settings_for

if TYPE_CHECKING:
    from hal9.log.effects import Record
    from hal9.settings import Settings

divergences_app = typer.Typer(name="divergences", help="What differed between the systems.", no_args_is_help=True)

_SHOWN = 3
"""Fields of one divergence in a line for people."""


@divergences_app.command(epilog="Example: hal9 divergences tail -n 5 --follow")
def tail(
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last ones.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    config: Config = None,
    output: Format = Output.TABLE,
    timeout: Timeout = 30.0,
) -> None:
    """Print the last divergences, one a line."""
    settings = settings_for(config, timeout)
    perform(_tail(settings, lines, follow, output), None if follow else timeout + settings.kafka.wait_s)


async def _tail(settings: "Settings", lines: int, follow: bool, output: Output) -> None:
    from aiokafka import TopicPartition

    from hal9.cli.results import show_line
    from hal9.connection import reach_kafka
    from hal9.log.effects import EARLIEST
    from hal9.log.reading import Reader

    def show(record: "Record", partition: int) -> None:
        row = _row(record, partition)
        show_line(row, output, _line(row))

    await reach_kafka(settings.kafka)
    topic = settings.topics.names()["divergences"]
    partitions = [TopicPartition(topic, p) for p in range(settings.topics.partitions)]
    async with Reader(settings.kafka) as reader:
        ends = await reader.ends(partitions)
        found: list[tuple[int, Record]] = []
        for at, end in ends.items():
            first = max(end - lines, 0) if lines else end
            chunks = reader.range(topic, at.partition, first or EARLIEST, end, deadline_s=settings.kafka.wait_s)
            found += [(at.partition, record) async for chunk in chunks for record in chunk]
        found.sort(key=lambda entry: entry[1].timestamp)
        for partition, record in found[len(found) - lines :] if lines else []:
            show(record, partition)
        if follow:
            async for followed in reader.follow(ends):
                for record in followed.records:
                    show(record, followed.at.partition)


def _row(record: "Record", partition: int) -> dict[str, Any]:
    from hal9.cli.results import plain, readable
    from hal9.errors import Poison
    from schemas.base import decode
    from schemas.reports import divergence_decoder

    where: dict[str, Any] = {"key": readable(record.key or b""), "partition": partition, "offset": record.offset}
    try:
        found: dict[str, Any] = plain(decode(divergence_decoder, record.value))
        return where | found
    except Poison as error:
        return where | {"unreadable": error.detail}


def _line(row: dict[str, Any]) -> str:
    from hal9.cli.results import when

    if "unreadable" in row:
        return f"partition {row['partition']} offset {row['offset']}: unreadable: {row['unreadable']}"
    fields = [f"{f['path'] or '.'}: flat {f['flat']}, hierarchical {f['hierarchical']}" for f in row["fields"]]
    more = f" and {len(fields) - _SHOWN} more" if len(fields) > _SHOWN else ""
    return (
        f"{when(row['at_ms'])} epoch {row['epoch']} {row['kind']} {row['operation']} {row['key']} "
        f"(primary {row['primary']}, id {row['id']}): {'; '.join(fields[:_SHOWN])}{more}"
    )
