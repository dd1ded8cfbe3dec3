"""`hal9 demo`: a live migration on this machine, with a fault, a rollback and an audit."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hal9.cli.exits import NOT_ACHIEVED
from hal9.cli.options import Config, Output

if TYPE_CHECKING:
    from hal9.demo.options import Options

_PLANS, _LATER_PLANS = ("canary",), ("full",)
_LATER_FAULTS = ("latency", "wrong-answers")


def demo(
    plan: Annotated[str, typer.Option("--plan", help="canary: 1, 5, 10 and 25 % of the neurons.")] = "canary",
    fault: Annotated[
        str,
        typer.Option(
            "--fault",
            help="errors: the handler of hierarchical begins to fail; crash: it is killed and stays dead; none.",
        ),
    ] = "errors",
    seconds: Annotated[float, typer.Option("--seconds", min=20, max=3600, help="About how long traffic flows.")] = 40.0,
    rate: Annotated[float, typer.Option("--rate", min=50, max=5000, help="Requests per second.")] = 400.0,
    headless: Annotated[bool, typer.Option("--headless", help="No screen: plain lines on stderr.")] = False,
    report: Annotated[Path | None, typer.Option("--report", help="Write the report as JSON to this file.")] = None,
    config: Config = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds to wait for each part to be ready.")
    ] = 90.0,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="table: a summary; json: the report on stdout alone.")
    ] = Output.TABLE,
) -> None:
    """Run everything here: move a learning network to the hierarchical system under load, let a fault strike.

    Exit 0 only if what should happen happened (with a fault: a rollback by itself) and the audit at the end holds.
    """
    from hal9.cli.options import settings_for
    from hal9.demo.options import Options
    from hal9.demo.report import FAULTS
    from hal9.errors import ConfigError

    _choose("--plan", plan, _PLANS, _LATER_PLANS)
    _choose("--fault", fault, FAULTS, _LATER_FAULTS)
    chosen = next(name for name in FAULTS if name == fault)
    if report is not None and not report.absolute().parent.is_dir():
        raise ConfigError(f"--report {report}: there is no directory {report.absolute().parent}")
    if report is not None and (report.is_dir() or not os.access(report if report.exists() else report.parent, os.W_OK)):
        raise ConfigError(f"--report {report}: it cannot be written")
    settings_for(config)  # wrong ones are told before anything starts
    _perform(Options(chosen, seconds, rate, config, timeout), headless, report, output)


def _perform(options: "Options", headless: bool, report: Path | None, output: Output) -> None:
    import msgspec
    from rich.console import Console

    from hal9.demo.run import run
    from hal9.demo.screen import LiveScreen, PlainScreen
    from hal9.demo.summary import summary

    quiet = headless or output is Output.JSON
    console = Console(stderr=quiet, highlight=False)
    screen = LiveScreen(console) if console.is_terminal and not quiet else PlainScreen(console)
    result = run(options, screen)
    body = msgspec.json.format(msgspec.json.encode(result), indent=1)
    if report is not None:
        report.write_bytes(body + b"\n")
    if output is Output.JSON:
        typer.echo(body)
    else:
        typer.echo("\n".join(["", *summary(result)]))
    if result.problems:
        raise typer.Exit(NOT_ACHIEVED)


def _choose(option: str, value: str, known: tuple[str, ...], later: tuple[str, ...]) -> None:
    from difflib import get_close_matches

    from hal9.errors import ConfigError

    if value in later:
        raise ConfigError(f"{option} {value}: not built yet; there is {', '.join(known)}")
    if value not in known:
        close = get_close_matches(value, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"{option} {value}: unknown, there is {', '.join(known)}{hint}")
