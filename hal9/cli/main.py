"""The `hal9` command: its verbs, put together."""

from typing import Annotated

import typer

from hal9.cli.demo import demo
from hal9.cli.divergences import divergences_app
from hal9.cli.exits import guarded
from hal9.cli.flags import flags_app
from hal9.cli.local import down, logs, up
from hal9.cli.migration import migration_app
from hal9.cli.request import request_app
from hal9.cli.run import run
from hal9.cli.state import state_app
from hal9.cli.topics import topics_app
from stack.cli import stack_app

app = typer.Typer(
    name="hal9",
    help="Moves a live, stateful service from one architecture to another over Kafka, with a way back at any moment.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog="Example: hal9 demo --headless --report report.json --fault crash")(demo)
app.command(epilog="Example: hal9 up --detach")(up)
app.command(epilog="Example: hal9 down --purge")(down)
app.command(epilog="Example: hal9 logs router --follow")(logs)
app.command(epilog="Example: hal9 run router --config hal9.toml")(run)
app.add_typer(stack_app)
app.add_typer(topics_app)
app.add_typer(migration_app)
app.add_typer(flags_app)
app.add_typer(state_app)
app.add_typer(divergences_app)
app.add_typer(request_app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("hal9-migration"))
        raise typer.Exit


@app.callback()
def _options(
    _version_wanted: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before any verb."""


def main() -> None:
    """Run the command line; exit codes are those of `hal9.cli.exits`."""
    guarded(app)
