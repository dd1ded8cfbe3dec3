"""`hal9 flags`: everything that is switched, in one version; seen, and set all at once."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hal9.cli.exits import perform
from hal9.cli.options import Config, DryRun, Format, Output, Timeout, settings_for

if TYPE_CHECKING:
    from hal9.control.reducer import ControlState, Epoch
    from hal9.settings import Settings
    from schemas.control import AnyControl

flags_app = typer.Typer(name="flags", help="What is switched: percentage, shadow, pins, layers.", no_args_is_help=True)


@flags_app.command("list", epilog="Example: hal9 flags list -o json")
def list_flags(config: Config = None, output: Format = Output.TABLE, timeout: Timeout = 30.0) -> None:
    """Show every flag: its value, since which epoch, by whom, what it means."""
    from hal9.cli.results import show_rows

    rows = _read(settings_for(config, timeout), timeout)
    show_rows(rows, output, ["flag", "value", "epoch", "by", "meaning"])


@flags_app.command("get", epilog="Example: hal9 flags get percentage")
def get_flag(
    name: Annotated[str, typer.Argument(help="Its name, as `hal9 flags list` gives it.")],
    config: Config = None,
    output: Format = Output.TABLE,
    timeout: Timeout = 30.0,
) -> None:
    """Print the value of one flag; - (null in JSON) where it is not set."""
    from hal9.cli.results import show_one
    from hal9.control.flags import entry_of, unknown
    from hal9.errors import ConfigError

    rows = _read(settings_for(config, timeout), timeout)
    found = next((row for row in rows if row["flag"] == name), None)
    if found is None and entry_of(name):
        found = {"flag": name, "value": None, "epoch": None, "by": None, "meaning": "not set"}
    if found is None:
        raise ConfigError(unknown(name))
    if output is Output.JSON:
        show_one(found, output)
    else:
        print(_shown(found["value"]))


@flags_app.command(
    "set", epilog='Example: hal9 flags set percentage=10 layers.intelligence=off pins.n1=flat --reason "as agreed"'
)
def set_flags(
    assignments: Annotated[
        list[str], typer.Argument(help="NAME=VALUE, one or more; all of them or none. An empty value takes one out.")
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit trail.")] = "",
    config: Config = None,
    output: Format = Output.TABLE,
    timeout: Timeout = 30.0,
    dry_run: DryRun = False,
) -> None:
    """Set flags, all at once, as one change of the route; exit 4 with the reason if they are refused."""
    from hal9.cli.migration import command
    from hal9.control.flags import changed
    from schemas.control import Flags, SetFlags

    settings = settings_for(config, timeout)
    changed(Flags(), assignments)  # wrong ones are told before Kafka is asked

    def record(state: "ControlState", who: dict[str, Any]) -> "AnyControl":
        flags = changed(state.flags, assignments)
        return SetFlags(expected_epoch=state.epoch, flags=flags, reason=reason or " ".join(assignments)[:1024], **who)

    command(settings, record, f"set {' '.join(assignments)}", output, timeout, dry_run)


def _read(settings: "Settings", timeout_s: float) -> list[dict[str, Any]]:
    from hal9.connection import reach_kafka
    from hal9.control.flags import listing
    from hal9.control.log import following
    from hal9.topics import Topics

    async def work() -> list[dict[str, Any]]:
        await reach_kafka(settings.kafka)
        async with following(settings.kafka, Topics.of(settings.topics), settings.migration.id) as follower:
            state = follower.state
            return [
                {"flag": name, "value": value, **_since(state.history, name, value), "meaning": meaning}
                for name, (value, meaning) in listing(state.flags).items()
            ]

    return perform(work(), timeout_s, settings.kafka.wait_s)


def _since(history: "list[Epoch]", name: str, value: object) -> dict[str, Any]:
    """The oldest epoch from which on a flag has had its present value, and who made that."""
    from hal9.control.flags import listing

    found = history[-1]
    for entry in reversed(history):
        if listing(entry.flags).get(name, (None, ""))[0] != value:
            break
        found = entry
    return {"epoch": found.epoch, "by": found.record.actor if found.record is not None else None}


def _shown(value: object) -> str:
    from hal9.cli.results import cell

    return cell(value)
