"""The audit at the end of a run: stores and logs are read when they have come to rest, and judged."""

from collections.abc import Mapping, Sequence

from hal9.control.reducer import ControlState
from hal9.demo.audit import Taught, learning, listed
from hal9.demo.evidence import gather, owned
from hal9.demo.verdict import Audited
from hal9.errors import Poison
from hal9.settings import Settings
from schemas.base import Tree
from services.migrator.stores import Report
from services.migrator.verify import verify
from systems.digits.replay import differing, effects, replayed

REST_S = 20.0
"""How long the last copies may be on their way."""


async def inspect(
    settings: Settings, taught: Sequence[Taught], initial: Mapping[str, Tree], state: ControlState
) -> Audited:
    """Everything that must add up. Raises Transient if logs or stores cannot be read."""
    compared = await verify(settings, patience_s=REST_S)
    evidence = await gather(settings)
    learnt = learning(taught, evidence.trail)
    final, findings = owned(evidence, state), [*learnt.findings, *_differences(compared)]
    try:
        wrong = differing(replayed(initial, learnt.due), final)
    except Poison as error:
        wrong = [f"the replay itself ({error})"]
    if wrong:
        findings.append(f"{len(wrong)} neurons are not what the replay makes of them: {listed(wrong)}")
    return Audited(
        expected=len(learnt.due),
        found=effects(final.values()),
        weights_equal=not wrong,
        stores_equal=compared.stores_equal,
        findings=findings,
        divergences=evidence.divergences,
        comparisons=evidence.comparisons,
        trail=evidence.trail,
    )


def _differences(compared: Report) -> list[str]:
    """What differs between the stores; and what nobody compared, for here every neuron must have been copied."""
    differences = [f"{one.key}, {one.kind}: {one.detail}" for one in compared.differences]
    findings = [f"{len(differences)} differences of the stores: {listed(differences)}"] if differences else []
    if compared.not_copied or compared.pinned:
        findings.append(f"{compared.not_copied} neurons were not copied, {compared.pinned} are pinned")
    return findings
