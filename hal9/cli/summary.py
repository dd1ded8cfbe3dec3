"""`hal9 divergences summary`: what differs, by class; what of it is noise; which rules could be written."""

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hal9.cli.exits import perform
from hal9.cli.options import Config, Format, Output, Timeout, actor, settings_for
from hal9.errors import ConfigError

if TYPE_CHECKING:
    from aiokafka import TopicPartition

    from hal9.compare.proposals import Proposal
    from hal9.compare.summary import DivergenceClass, Summary
    from hal9.log.reading import Reader
    from hal9.settings import Settings
    from hal9.stats.paired import Finding

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_COLUMNS = (
    "verdict",
    "operation",
    "kind",
    "path",
    "rule",
    "count",
    "written",
    "share",
    "p_value",
    "pairs",
    "first",
    "last",
)


def summary(
    since: Annotated[str, typer.Option("--since", help="How far back, like 90s, 15m, 1h, 2d; else all.")] = "",
    owner: Annotated[str, typer.Option("--owner", help="Who answers for a proposed rule; else you.")] = "",
    config: Config = None,
    output: Format = Output.TABLE,
    timeout: Timeout = 60.0,
) -> None:
    """Divergences by class, told from noise by flat's twins, and rules that could be written (none is applied)."""
    settings = settings_for(config, timeout)
    found = perform(_read(settings, _since_ms(since)), timeout, settings.kafka.wait_s)
    _show(found, owner or actor(), output)


def _since_ms(since: str) -> int | None:
    import time

    if not since:
        return None
    matched = re.fullmatch(r"(\d{1,9})([smhd])", since)
    if matched is None:
        raise ConfigError(f"--since {since!r}: expected a number and s, m, h or d, like 1h")
    return int(time.time() * 1000) - int(matched[1]) * _UNITS_S[matched[2]] * 1000


async def _read(settings: "Settings", since_ms: int | None) -> "Summary":
    from aiokafka import TopicPartition

    from hal9.compare.summary import Summary
    from hal9.connection import reach_kafka
    from hal9.errors import Poison
    from hal9.log.reading import Reader
    from schemas.base import decode
    from schemas.reports import divergence_decoder
    from schemas.telemetry import outcome_decoder

    await reach_kafka(settings.kafka)
    names, found = settings.topics.names(), Summary()
    counted = TopicPartition(names["outcomes"], 0)
    diverged = [TopicPartition(names["divergences"], p) for p in range(settings.topics.partitions)]
    migration = settings.migration.id.encode()
    async with Reader(settings.kafka) as reader:
        spans = await _spans(reader, [counted, *diverged], since_ms)
        for at, (start, end) in spans.items():
            chunks = reader.range(at.topic, at.partition, start, end, deadline_s=settings.kafka.wait_s)
            async for chunk in chunks:
                for record in chunk:
                    try:
                        if at != counted:
                            divergence = decode(divergence_decoder, record.value)
                            found.divergence((record.key or b"").decode("utf-8", "replace"), divergence)
                        elif record.key == migration:
                            found.outcome(decode(outcome_decoder, record.value))
                    except Poison:
                        found.unreadable += 1
    return found


async def _spans(
    reader: "Reader", partitions: "list[TopicPartition]", since_ms: int | None
) -> "dict[TopicPartition, tuple[int, int]]":
    """From where to where each partition is read."""
    from hal9.log.effects import EARLIEST

    ends = await reader.ends(partitions)
    starts = await reader.since(partitions, since_ms) if since_ms is not None else dict.fromkeys(partitions, EARLIEST)
    return {at: (min(starts[at], ends[at]), ends[at]) for at in partitions}


def _show(found: "Summary", owner: str, output: Output) -> None:
    from hal9.cli.results import show_one, show_rows
    from hal9.compare.proposals import as_yaml, proposals

    classes = [_row(found, one, finding) for one, finding in found.sorted()]
    proposed = proposals(found, owner)
    if output is Output.JSON:
        whole = {
            "comparisons": found.comparisons,
            "incomparable": found.incomparable,
            "divergences": found.divergences,
            "left_out": found.left_out,
            "not_listed": found.beyond,
            "unreadable": found.unreadable,
            "pairs": dict(found.pairs),
            "classes": classes,
            "proposals": [_proposed(one) for one in proposed],
            "proposed_rules": as_yaml(proposed),
        }
        show_one(whole, output)
        return
    beyond = f", {found.beyond} of classes that are not listed" if found.beyond else ""
    left_out = f" ({found.left_out} of them counted and not written)" if found.left_out else ""
    print(
        f"{found.divergences} divergences{left_out} in {found.comparisons} comparisons{beyond}; "
        f"{sum(found.pairs.values())} with a twin"
    )
    if classes:
        show_rows(classes, output, _COLUMNS)
    if proposed:
        print(
            f"\n# proposed rules, none is applied: put what you agree with into COMPARISON.RULES\n{as_yaml(proposed)}"
        )


def _row(summary: "Summary", one: "DivergenceClass", finding: "Finding") -> dict[str, Any]:
    from hal9.cli.results import plain, when

    pairs = finding.pairs
    return {
        "operation": one.operation,
        "kind": one.kind,
        "path": one.path or ".",
        "rule": one.rule,
        "count": one.count,
        "written": one.written,
        "share": one.count / summary.comparisons if summary.comparisons else None,
        "first": when(one.first_ms),
        "last": when(one.last_ms),
        "epochs": sorted(one.epochs),
        "verdict": finding.verdict,
        "p_value": finding.p_value,
        "pairs": {"both": pairs.both, "shadow": pairs.shadow, "twin": pairs.twin, "of": pairs.total},
        "samples": [
            {
                "id": s.found.id,
                "key": s.key,
                "position": s.found.position,
                "epoch": s.found.epoch,
                "at": when(s.found.at_ms),
                "fields": plain(list(s.fields)),
            }
            for s in one.samples
        ],
    }


def _proposed(one: "Proposal") -> dict[str, Any]:
    return {"rule": one.rule, "hides": one.hides, "hides_whole": one.whole}
