"""Results on stdout: a table for people, JSON for programs."""

import base64
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from hal9.cli.options import Output

Row = Mapping[str, Any]

_ENDLESS = 10_000


def show_rows(rows: Sequence[Row], output: Output, columns: Sequence[str] | None = None) -> None:
    """A list of results; `columns` are those of the table (the first row's, if None)."""
    if output is Output.JSON:
        print(json.dumps([plain(row) for row in rows], indent=1, ensure_ascii=False))
        return
    headings = columns if columns is not None else list(rows[0]) if rows else []
    table = Table(*(heading.upper().replace("_", " ") for heading in headings), box=None)
    for row in rows:
        table.add_row(*(cell(row.get(heading)) for heading in headings))
    _print(table)


def show_one(row: Row, output: Output) -> None:
    """One result, a line per field."""
    if output is Output.JSON:
        print(json.dumps(plain(row), indent=1, ensure_ascii=False))
        return
    table = Table(box=None, show_header=False)
    for name, value in row.items():
        table.add_row(name.replace("_", " "), cell(value))
    _print(table)


def show_line(row: Row, output: Output, text: str) -> None:
    """One of a stream of results: `text`, or a JSON object on a line of its own."""
    print(json.dumps(plain(row), ensure_ascii=False) if output is Output.JSON else text, flush=True)


def _print(table: Table) -> None:
    """A table; without a terminal nothing is folded, and no line ends in blanks."""
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _ENDLESS)
    with console.capture() as capture:
        console.print(table)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def plain(value: object) -> Any:
    """JSON's types; bytes as text where they are, else as base64."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, bytes):
        return readable(value)
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, Iterable):
        return [plain(inner) for inner in value]
    return plain(msgspec.to_builtins(value))


def readable(value: bytes) -> str:
    """Bytes as a person may read them."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def opened(value: bytes) -> Any:
    """An opaque value as msgpack says, if it is msgpack; else as text or base64."""
    try:
        return msgspec.msgpack.decode(value) if value else None
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError):
        return readable(value)


def when(at_ms: int) -> str:
    """A time for people, UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")


def cell(value: object) -> str:
    """A value as a table shows it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(plain(value), ensure_ascii=False) if value else "-"
    return plain(value) if isinstance(value, bytes) else str(value)
