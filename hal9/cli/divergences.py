"""`hal9 divergences`: what differed between the systems."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from hal9.cli.exits import perform
from hal9.cli.options import Config, Format, Output, Timeout, settings_for
from hal9.cli.summary import summary
from hal9.errors import ConfigError
from schemas.reports import DivergenceKind

if TYPE_CHECKING:
    from hal9.cli.results import Row
    from hal9.compare.paths import Pattern
    from hal9.log.effects import Record
    from hal9.settings import Settings

divergences_app = typer.Typer(name="divergences", help="What differed between the systems.", no_args_is_help=True)

divergences_app.command(epilog="Example: hal9 divergences summary --since 1h")(summary)

KINDS: tuple[DivergenceKind, ...] = get_args(DivergenceKind)
_SHOWN = 3
"""Fields of one divergence in a line for people."""


@divergences_app.command(epilog="Example: hal9 divergences tail -n 5 --operation read --path 'outputs.*' --follow")
def tail(
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last ones.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    operation: Annotated[str, typer.Option("--operation", help="Only of this operation.")] = "",
    kind: Annotated[str, typer.Option("--kind", help="Only of this kind: value, state, status or missing.")] = "",
    path: Annotated[str, typer.Option("--path", help="Only with a field that this pattern covers.")] = "",
    config: Config = None,
    output: Format = Output.TABLE,
    timeout: Timeout = 30.0,
) -> None:
    """Print the last divergences, one a line."""
    settings, wanted = settings_for(config, timeout), Wanted.of(operation, kind, path)
    perform(_tail(settings, lines, follow, output, wanted), None if follow else timeout, settings.kafka.wait_s)


@dataclass(frozen=True)
class Wanted:
    """Which divergences are asked for; empty strings and None: all."""

    operation: str
    kind: str
    path: "Pattern | None"

    @staticmethod
    def of(operation: str, kind: str, path: str) -> "Wanted":
        """From options. Raises ConfigError."""
        from hal9.compare.paths import parse

        if kind and kind not in KINDS:
            near = get_close_matches(kind, KINDS, 1)
            hint = f"; nearest is {near[0]!r}" if near else ""
            raise ConfigError(f"--kind {kind!r}: expected {', '.join(KINDS)}{hint}")
        try:
            return Wanted(operation, kind, parse(path) if path else None)
        except ValueError as error:
            raise ConfigError(f"--path: {error}") from error

    @property
    def everything(self) -> bool:
        """Whether nothing was asked for."""
        return not (self.operation or self.kind or self.path)

    def __call__(self, row: "Row") -> bool:
        """Whether a divergence is one of them; an unreadable one is when nothing was asked for."""
        if self.everything:
            return True
        if row.get("operation") != self.operation and self.operation:
            return False
        if row.get("kind") != self.kind and self.kind:
            return False
        return self.path is None or any(self._covers(self.path, field["path"]) for field in row.get("fields", ()))

    def _covers(self, pattern: "Pattern", path: str) -> bool:
        from hal9.compare.paths import matches, parse

        try:
            return matches(pattern, parse(path))
        except ValueError:
            return False


async def _tail(settings: "Settings", lines: int, follow: bool, output: Output, wanted: Wanted) -> None:
    from aiokafka import TopicPartition

    from hal9.cli.results import show_line
    from hal9.connection import reach_kafka
    from hal9.log.effects import EARLIEST
    from hal9.log.reading import Reader

    def show(record: "Record", partition: int) -> None:
        row = _row(record, partition)
        if wanted(row):
            show_line(row, output, _line(row))

    await reach_kafka(settings.kafka)
    topic = settings.topics.names()["divergences"]
    partitions = [TopicPartition(topic, p) for p in range(settings.topics.partitions)]
    async with Reader(settings.kafka) as reader:
        ends = await reader.ends(partitions)
        found: list[tuple[int, Record]] = []
        for at, end in ends.items():
            first = max(end - lines, 0) if wanted.everything else 0
            first = first if lines else end
            chunks = reader.range(topic, at.partition, first or EARLIEST, end, deadline_s=settings.kafka.wait_s)
            async for chunk in chunks:
                found += [(at.partition, r) for r in chunk if wanted.everything or wanted(_row(r, at.partition))]
                found = sorted(found, key=lambda entry: entry[1].timestamp)[-lines:] if lines else []
        for partition, record in found:
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
