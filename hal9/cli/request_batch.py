"""Many requests from one source of lines: checked as a whole, then sent, paced, and summed up."""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from uuid import uuid4

from msgspec.structs import replace

from hal9.cli.request_lines import BadLine
from hal9.cli.request_tally import Tally
from hal9.cli.results import opened, plain
from hal9.client import Answer, Ask, Client
from hal9.client.transport import Transport
from hal9.errors import ConfigError

if TYPE_CHECKING:
    from hal9.settings import Settings

_NAMED = 10
"""Bad lines that are named; of more only the number."""
_SPOOL_BYTES = 16 * 1024 * 1024
_DRAW_EVERY_S = 0.1


Asks = Callable[[], Iterator[tuple[int, Ask | BadLine]]]
"""All requests from the first on, as often as it is called, each with the number of its line."""


class FileSource:
    """A file of lines; standard input is read to its end first, for no line may be sent before all are checked."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._spool = path, None if path is not None else _spooled(sys.stdin.buffer)

    def close(self) -> None:
        """Give back what standard input was kept in."""
        if self._spool is not None:
            self._spool.close()

    def lines(self) -> Iterator[bytes]:
        """From the first one; raises ConfigError: the file cannot be read."""
        if self._spool is not None:
            self._spool.seek(0)
            yield from self._spool
            return
        assert self._path is not None
        try:
            with self._path.open("rb") as file:
                yield from file
        except OSError as error:
            raise ConfigError(f"{self._path} cannot be read: {error}") from error


def _spooled(source: IO[bytes]) -> IO[bytes]:
    spool = tempfile.SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115  lives as long as the command
    for piece in iter(lambda: source.read(1 << 16), b""):
        spool.write(piece)
    return spool


@dataclass
class Batch:
    """What to send and how. `rate` is requests per second, 0 as fast as answers come; `out` takes a line per answer."""

    asks: Asks
    rate: float = 0.0
    concurrency: int = 100
    repeat: int = 1
    deadline_s: float = 10.0
    retries: int = 0
    out: Path | None = None
    bar: bool = False
    total: int = 0
    skipped: int = 0
    tally: Tally = field(default_factory=Tally)
    repeated: int = 0
    seconds: float = 0.0

    def check(self, *, skip_bad: bool) -> None:
        """Read all of it once; raises ConfigError if a line is bad, or names it on stderr with `skip_bad`."""
        bad: list[BadLine] = []
        count = 0
        for _, one in self.asks():
            if isinstance(one, BadLine):
                self.skipped += 1
                bad += [one] if len(bad) < _NAMED else []
            else:
                count += 1
        self.total = count * self.repeat
        if not bad:
            return
        more = f"\n  and {self.skipped - _NAMED} more" if self.skipped > _NAMED else ""
        named = "".join(f"\n  {one}" for one in bad) + more
        if not skip_bad:
            raise ConfigError(f"nothing was sent, for these are no requests (--skip-bad passes them over):{named}")
        sys.stderr.write(f"passed over:{named}\n")

    async def send(self, settings: "Settings", transport: Transport | None = None) -> None:
        """Send all and take the answers, as they come; `tally`, `repeated` and `seconds` say what became of them."""
        most = max(self.concurrency, 1)
        settings = replace(settings, client=replace(settings.client, in_flight_max=most))
        under_way: dict[str, tuple[int, Ask]] = {}
        with ExitStack() as stack:
            write = stack.enter_context(_writing(self.out))
            advance = stack.enter_context(_progress(self.total)) if self.bar else _nothing
            async with Client(settings=settings, transport=transport) as client:
                began_s = time.monotonic()
                try:
                    answers = client.request_many(
                        self._paced(under_way),
                        concurrency=most,
                        deadline_s=self.deadline_s,
                        retries=self.retries,
                        ordered=False,
                    )
                    async for answer in answers:
                        self.tally.add(answer)
                        write(_row(*under_way.pop(answer.id), answer))
                        advance(self.tally)
                finally:
                    self.repeated, self.seconds = client.counts.repeated, time.monotonic() - began_s

    async def _paced(self, under_way: dict[str, tuple[int, Ask]]) -> AsyncIterator[Ask]:
        """The asks when their time has come; one that is late does not put off the next."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for _ in range(self.repeat):
            for number, one in self.asks():
                if isinstance(one, BadLine):
                    continue
                if self.rate > 0:
                    await asyncio.sleep(began_s + self.tally.sent / self.rate - loop.time())
                ask = one if one.id is not None else one._replace(id=uuid4().hex)
                under_way[ask.id or ""] = number, ask
                self.tally.sent += 1
                yield ask


def _row(line: int, ask: Ask, answer: Answer) -> dict[str, Any]:
    row = {
        "line": line,
        "key": ask.key,
        "operation": ask.operation,
        "id": answer.id,
        "status": answer.status,
        "error": answer.error,
        "served_by": answer.served_by,
        "epoch": answer.epoch,
        "elapsed_ms": round(answer.elapsed_ms, 3),
        "local": answer.local,
        "value": opened(answer.value),
    }
    return row | ({"headers": answer.headers} if answer.headers else {})


@contextmanager
def _writing(path: Path | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Writes a row as a line of JSON, if there is a file for it."""
    import json

    if path is None:
        yield lambda _: None
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from error
    with file:
        yield lambda row: print(json.dumps(plain(row), ensure_ascii=False), file=file)


def _nothing(_: Tally) -> None:
    """No progress is shown."""


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Tally], None]]:
    """A bar on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("", total=total, said="")
        drawn_s = 0.0

        def advance(tally: Tally) -> None:
            nonlocal drawn_s
            if (now_s := time.monotonic()) - drawn_s >= _DRAW_EVERY_S or tally.ended == total:
                drawn_s = now_s
                progress.update(task, completed=tally.ended, said=f"{tally.statuses['ok']} ok, {tally.not_ok} not")

        yield advance
