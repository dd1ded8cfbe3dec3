"""`hal9 migration`: start one, see how it stands, roll it back, read its history."""

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hal9.cli.exits import perform
from hal9.cli.options import Config, DryRun, Format, Output, Timeout, actor, settings_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from hal9.control.progress import Progress
    from hal9.control.reducer import ControlState
    from hal9.settings import Settings
    from schemas.control import AnyControl, Phase

migration_app = typer.Typer(name="migration", help="The migration itself.", no_args_is_help=True)

_LISTEN_S = 1.2
"""Heartbeats come every 500 ms: after so long every living service was heard."""
_REFRESH_S = 1.0
_SHOWN = 3
"""Partitions under way named in a line of `--watch`; the table and JSON have all."""


@migration_app.command(epilog="Example: hal9 migration start canary --dry-run")
def start(
    plan: Annotated[str, typer.Argument(help="A packaged plan (canary, demo) or a YAML file.")] = "canary",
    config: Config = None,
    output: Format = Output.TABLE,
    timeout: Timeout = 30.0,
    dry_run: DryRun = False,
) -> None:
    """Begin to walk a plan; after a rollback or a freeze, begin again."""
    from hal9.plans import load
    from schemas.control import Start

    settings = settings_for(config, timeout)
    chosen = load(plan)
    chosen.refuse_unsupported()

    def record(state: "ControlState", who: dict[str, Any]) -> "AnyControl":
        return Start(expected_epoch=state.epoch, partitions=settings.topics.partitions, plan=chosen.tree(), **who)

    command(settings, record, f"start plan {chosen.name}", output, timeout, dry_run)


@migration_app.command(epilog='Example: hal9 migration rollback --reason "answers look wrong"')
def rollback(
    phase: Annotated[
        str | None,
        typer.Option("--phase", help="Go back to the route from before this phase (its id, or 1 to 6); else to 0 %."),
    ] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", help="Only the units of this cognitive layer, which then stay at flat.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit trail.")] = "",
    plan: Annotated[bool, typer.Option("--plan", help="Show what would happen, and do nothing.")] = False,
    config: Config = None,
    output: Format = Output.TABLE,
    timeout: Timeout = 30.0,
    dry_run: DryRun = False,
) -> None:
    """Route back to flat; legal in every state, and never restores old data over newer."""
    from hal9.errors import ConfigError
    from schemas.control import Rollback

    settings = settings_for(config, timeout)
    chosen, scope = _phase(phase), _scope(layer)
    if chosen and scope:
        raise ConfigError("--phase and --layer: one of them")

    def record(state: "ControlState", who: dict[str, Any]) -> "AnyControl":
        return Rollback(expected_epoch=state.epoch, scope=scope, phase=chosen, trigger="manual", reason=reason, **who)

    what = f"roll back to before phase {chosen}" if chosen else "roll back to 0 %"
    what = f"roll back the units of layer {layer}" if scope else what
    command(settings, record, what, output, timeout, dry_run or plan)


def _scope(layer: str | None) -> dict[str, Any]:
    from difflib import get_close_matches
    from typing import get_args

    from hal9.errors import ConfigError
    from schemas.state import Layer

    if layer is None:
        return {}
    layers = get_args(Layer)
    if layer in layers:
        return {"layer": layer}
    close = get_close_matches(layer, layers, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ConfigError(f"--layer {layer!r}: there are {', '.join(layers)}{hint}")


def _phase(given: str | None) -> "Phase | None":
    from difflib import get_close_matches

    from hal9.errors import ConfigError
    from schemas.control import PHASES

    if given is None:
        return None
    for number, phase in enumerate(PHASES, 1):
        if given in (phase, str(number)):
            return phase
    close = get_close_matches(given, PHASES, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ConfigError(f"--phase {given!r}: there are {', '.join(PHASES)}, or 1 to {len(PHASES)}{hint}")


def command(
    settings: "Settings",
    make: "Callable[[ControlState, dict[str, Any]], AnyControl]",
    what: str,
    output: Output,
    timeout_s: float,
    dry_run: bool,
) -> None:
    """Append one record, or preview it, and print who, what and the new epoch."""
    import time
    import uuid

    from hal9.cli.results import show_one
    from hal9.connection import reach_kafka
    from hal9.control.log import ControlWriter, following
    from hal9.control.progress import preview
    from hal9.errors import Refused
    from hal9.topics import Topics

    who = {
        "id": uuid.uuid4().hex,
        "migration": settings.migration.id,
        "actor": actor(),
        "at_ms": time.time_ns() // 10**6,
    }
    topics = Topics.of(settings.topics)

    async def work() -> dict[str, Any]:
        await reach_kafka(settings.kafka)
        async with following(settings.kafka, topics, settings.migration.id) as follower:
            before = follower.state.route.percentage
            record = make(follower.state, who)
            if dry_run:
                outcome, after = preview(follower.state, record)
            else:
                writer = ControlWriter(settings.kafka, topics, follower)
                try:
                    outcome, after = await writer.append(record, timeout_s), follower.state
                finally:
                    await writer.close()
        if outcome.verdict != "accepted":
            raise Refused(f"{what}: {outcome.verdict}: {outcome.reason}")
        return {
            "who": record.actor,
            "what": what,
            "done": "nothing: a dry run" if dry_run else "accepted",
            "epoch": outcome.epoch,
            "percentage_before": before,
            "percentage": after.route.percentage,
            "pinned_to_hierarchical": sorted(k for k, s in after.route.pins.items() if s == "hierarchical"),
            "id": record.id,
        }

    show_one(perform(work(), timeout_s, settings.kafka.wait_s), output)


@migration_app.command(epilog="Example: hal9 migration status --watch")
def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C, a line for each change.")] = False,
    config: Config = None,
    output: Format = Output.TABLE,
    timeout: Timeout = 30.0,
) -> None:
    """Show phase, step, percentages, hand-over, services."""
    import asyncio
    from dataclasses import asdict, replace

    from hal9.cli.results import show_line, show_one

    settings = settings_for(config, timeout)

    async def work() -> None:
        async with AsyncExitStack() as open_until_done:
            look = await _looking(settings, open_until_done)
            await asyncio.sleep(_LISTEN_S)
            found = look()
            if not watch:
                show_one(asdict(found), output)
                return
            show_line(asdict(found), output, _line(found))
            while True:
                await asyncio.sleep(_REFRESH_S)
                before, found = found, look()
                # Why it holds has figures that change all the time.
                if replace(found, holding=[]) != replace(before, holding=[]):
                    show_line(asdict(found), output, _line(found))

    perform(work(), None if watch else timeout, settings.kafka.wait_s)


async def _looking(settings: "Settings", stack: AsyncExitStack) -> "Callable[[], Progress]":
    """Follow control and the heartbeats; returns what gives the present Progress."""
    from hal9.connection import reach_kafka
    from hal9.control.log import following
    from hal9.control.progress import progress
    from hal9.heartbeat import StatusFollower
    from hal9.log.clock import Clock
    from hal9.topics import Topics

    await reach_kafka(settings.kafka)
    topics, clock = Topics.of(settings.topics), Clock()
    follower = await stack.enter_async_context(following(settings.kafka, topics, settings.migration.id))
    heard = StatusFollower(settings.kafka, topics.name("status"), settings.migrator.dead_after_ms, clock)
    await stack.enter_async_context(heard)

    def look() -> "Progress":
        partitions = follower.state.partitions or settings.topics.partitions
        return progress(follower.state, heard.liveness.living(clock.now_ms()), partitions)

    return look


def _line(found: "Progress") -> str:
    """One line for people."""
    parts = [
        f"{found.standing}{': ' + found.reason if found.reason else ''}",
        f"epoch {found.epoch}",
        f"{found.step or 'no step yet'}{''.join(f' ({why})' for why in found.holding)}",
        f"{found.intended:g} % intended, {found.effective:g} % effective",
        f"marked {found.acknowledged}/{found.partitions}, settled {found.settled}/{found.partitions}",
        *(f"partition {partition} {what}" for partition, what in list(found.hand_over.items())[:_SHOWN]),
        f"in flight {found.in_flight}, waiting {found.waiting}",
        "services " + (" ".join(f"{name}:{count}" for name, count in found.services.items()) or "none"),
    ]
    return " | ".join(parts)


def _said(record: "AnyControl", state: "ControlState") -> str | None:
    from hal9.demo.words import said
    from schemas.control import Settled

    if isinstance(record, Settled):
        forced = f", seals forced: {', '.join(record.forced)}" if record.forced else ""
        took = ", ".join(f"{stage} {ms} ms" for stage, ms in sorted(record.took_ms.items(), key=lambda item: item[1]))
        stages = f" ({took})" if took else ""
        return f"epoch {record.epoch}: partition {record.partition} has handed over{stages}{forced}"
    return said(record, state)


@migration_app.command(epilog="Example: hal9 migration history -o json")
def history(config: Config = None, output: Format = Output.TABLE, timeout: Timeout = 30.0) -> None:
    """List every command and decision of the migration, refused ones too."""
    from hal9.cli.results import plain, show_rows, when
    from hal9.connection import reach_kafka
    from hal9.control.log import ControlFollower
    from hal9.control.reducer import Outcome
    from hal9.topics import Topics

    settings = settings_for(config, timeout)
    rows: list[dict[str, Any]] = []

    async def work() -> None:
        await reach_kafka(settings.kafka)
        follower = ControlFollower(settings.kafka, Topics.of(settings.topics), settings.migration.id)

        def heard(offset: int, outcome: Outcome) -> None:
            record = outcome.record
            row: dict[str, Any] = {
                "offset": offset,
                "verdict": outcome.verdict,
                "epoch": outcome.epoch,
                "reason": outcome.reason,
            }
            if record is not None:
                row |= {
                    "at": when(record.at_ms),
                    "actor": record.actor,
                    "type": record.__struct_config__.tag,
                    "what": _said(record, follower.state) if outcome.verdict == "accepted" else None,
                    "record": plain(record),
                }
            rows.append(row)

        follower.listen(heard)
        async with follower.running():
            pass

    perform(work(), timeout, settings.kafka.wait_s)
    if output is Output.TABLE:
        rows = [{**row, "what": row.get("what") or row["reason"] or row.get("type")} for row in rows]
    show_rows(rows, output, ["offset", "at", "epoch", "verdict", "actor", "what"])
