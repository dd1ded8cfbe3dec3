"""The board on a terminal, live; and as plain lines where there is none."""

from datetime import datetime
from math import isnan

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hal9.demo.board import Board, Line
from hal9.demo.words import share
from hal9.log.clock import Clock
from schemas.base import SYSTEMS

STATS_EVERY_MS = 5_000
_LOG_LINES = 14
_OTHER_LINES = 18
"""What the rest of the picture takes: the log has what is left of a small terminal."""


class Screen:
    """Where the run shows itself: `say` before and after the traffic, `show` again and again during it."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(text, markup=False, soft_wrap=True)

    def begin(self) -> None:
        """The traffic begins."""

    def show(self, board: Board, now_ms: int) -> None:
        """The board has changed, perhaps."""
        raise NotImplementedError

    def end(self) -> None:
        """The traffic is over; repeats are harmless."""


class LiveScreen(Screen):
    """Repaints the whole board in its place."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live: Live | None = None

    def begin(self) -> None:
        """Take the terminal."""
        self._live = Live(console=self._console, auto_refresh=False, transient=False, redirect_stderr=False)
        self._live.start()

    def show(self, board: Board, now_ms: int) -> None:
        """Paint the board."""
        if self._live is not None:
            room = self._console.size.height - _OTHER_LINES
            self._live.update(picture(board, now_ms, min(max(room, 3), _LOG_LINES)), refresh=True)

    def end(self) -> None:
        """Give the terminal back; the last picture stays."""
        if self._live is not None:
            self._live.stop()
            self._live = None


class PlainScreen(Screen):
    """Each decision as a line, and the figures every five seconds."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._told = 0
        self._figures_ms = 0
        self._clock = Clock()

    def say(self, text: str) -> None:
        """One line, with the time of day."""
        self._print(text, self._clock.now_ms())

    def show(self, board: Board, now_ms: int) -> None:
        """Print what is new."""
        for line in board.since(self._told):
            self._print(line.text, line.at_ms)
        self._told = board.said
        if now_ms - self._figures_ms >= STATS_EVERY_MS:
            self._figures_ms = now_ms
            self._print(figures(board, now_ms), now_ms)

    def _print(self, text: str, at_ms: int) -> None:
        super().say(f"{clock(at_ms)}  {text}")


def clock(at_ms: int) -> str:
    """Local time of day."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().strftime("%H:%M:%S.%f")[:-5]


def figures(board: Board, now_ms: int) -> str:
    """The board in one line."""
    sides = ", ".join(
        f"{system} {side.requests_s:.0f}/s p50 {_ms(side.p50_ms)} p99 {_ms(side.p99_ms)} failed {side.failed}"
        for system in SYSTEMS
        for side in [board.side(system, now_ms)]
    )
    return (
        f"[{board.stage}] {share(board.intended)} intended, {board.effective:.3g} % effective; {sides}; "
        f"accuracy {_share(board.during.share)}, divergences {board.divergences}"
    )


def picture(board: Board, now_ms: int, log_lines: int = _LOG_LINES) -> RenderableType:
    """The whole board, with so many lines of the decision log."""
    heading = f"HAL9 migration demo, fault: {board.fault}"
    return Panel(
        Group(_progress(board), Text(), _sides(board, now_ms), Text(), _counts(board), Text(), _log(board, log_lines)),
        title=heading,
        subtitle=board.stage,
        border_style="red" if any(line.grave for line in board.lines) else "cyan",
    )


def _progress(board: Board) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_row("phase", Text(board.position, style="bold"))
    for name, percentage in (("intended", board.intended), ("effective", board.effective)):
        bar = ProgressBar(total=100, completed=percentage, width=50)
        table.add_row(name, Group(bar), f"{percentage:6.2f} % at hierarchical")
    return table


def _sides(board: Board, now_ms: int) -> RenderableType:
    table = Table("system", box=None, header_style="bold", padding=(0, 2))
    for heading in ("requests/s", "p50", "p99", "failed/s", "failed in all"):
        table.add_column(heading, justify="right")
    for system in SYSTEMS:
        side = board.side(system, now_ms)
        failing = "red" if side.failed_s > 0 else ""
        table.add_row(
            system,
            f"{side.requests_s:.0f}",
            _ms(side.p50_ms),
            _ms(side.p99_ms),
            Text(f"{side.failed_s:.1f}", style=failing),
            Text(str(side.failed), style=failing),
        )
    return table


def _counts(board: Board) -> RenderableType:
    compared, traffic, reading = board.comparisons(), board.traffic, board.during
    table = Table.grid(padding=(0, 2))
    failed = f"{compared.one_sided} one side failed, {compared.incomparable} incomparable"
    table.add_row("comparisons", f"{compared.equal} equal, {compared.divergent} divergent, {failed}")
    ends = f"{traffic.ok} ok, {traffic.error} error, {traffic.rejected} rejected, {traffic.timeout} timeout"
    table.add_row("requests", f"{traffic.sent} sent, {traffic.answered} answered: {ends}")
    table.add_row("network", f"{board.neurons} neurons, {traffic.learned} times learnt")
    now = f"{_share(reading.share)} now ({reading.missing} images not read)"
    table.add_row("accuracy", f"{_share(board.before)} before, {now}, {_share(board.after)} after")
    return table


def _log(board: Board, lines: int) -> RenderableType:
    shown = board.newest(lines)
    return Group(*(_line(line) for line in shown), *(Text() for _ in range(lines - len(shown))))


def _line(line: Line) -> Text:
    """One line each, but for what is grave: that is read whole."""
    text = Text(overflow="fold" if line.grave else "ellipsis", no_wrap=not line.grave)
    text.append(f"{clock(line.at_ms)}  ", style="dim")
    return text.append(line.text, style="bold red" if line.grave else "")


def _ms(value: float) -> str:
    return "-" if isnan(value) else f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"  # noqa: PLR2004  three digits


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
