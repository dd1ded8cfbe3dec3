"""`hal9 run system --check URL`: is what answers there a handler?"""

from pathlib import Path

from msgspec.structs import replace

from hal9.cli.options import Output
from hal9.cli.results import show_rows
from hal9.errors import Hal9Error


def check(url: str, attempts: list[str], config: Path | None, output: Output, timeout_s: float | None) -> None:
    """Print each promise and what is wrong with it; Hal9Error (exit 1) if anything is."""
    from hal9.cli.exits import perform
    from hal9.cli.options import settings_for
    from hal9.testing import conformance

    settings = settings_for(config).system
    if timeout_s is not None:
        settings = replace(settings, handler_wait_s=timeout_s)
    trials = [(operation, value.encode()) for operation, _, value in (given.partition("=") for given in attempts)]
    findings = perform(conformance.check(url, trials, settings))
    show_rows([{"promise": f.promise, "ok": not f.wrong, "wrong": f.wrong} for f in findings], output)
    wrong = [finding for finding in findings if finding.wrong]
    if wrong:
        raise Hal9Error(f"{len(wrong)} of {len(findings)} promises are broken")
