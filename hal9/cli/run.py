"""`hal9 run`: one service in the foreground."""

from difflib import get_close_matches
from typing import Annotated

import typer

from hal9.cli.options import Config, Format, Output
from hal9.errors import ConfigError

MODULES = {
    "router": "services.router.app",
    "migrator": "services.migrator.app",
    "guardian": "services.guardian.app",
    "orchestrator": "services.orchestrator.app",
    "flat": "systems.flat.app",
    "hierarchical": "systems.hierarchical.app",
    "system": "hal9.backend.app",
}


def run(
    service: Annotated[str, typer.Argument(help=f"One of {', '.join(MODULES)}.")],
    config: Config = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings, secrets masked, and exit.")
    ] = False,
    name: Annotated[
        str | None, typer.Option("--name", help="With `system`: which system it is, flat or hierarchical.")
    ] = None,
    handler: Annotated[
        str | None,
        typer.Option(
            "--handler", help="With `system`: the handler, as module:attribute or as http(s)://HOST:PORT/PATH."
        ),
    ] = None,
    checked: Annotated[
        str | None,
        typer.Option("--check", metavar="URL", help="With `system`: only see whether a handler answers there."),
    ] = None,
    attempts: Annotated[
        list[str] | None,
        typer.Option("--try", metavar="OPERATION[=VALUE]", help="With --check: what to ask it, in this order."),
    ] = None,
    output: Format = Output.TABLE,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0.1, help="Seconds to wait for Kafka, and for the handler; else 30."),
    ] = None,
) -> None:
    """Run one service until SIGTERM or Ctrl-C."""
    import os
    import sys
    from importlib import import_module
    from pathlib import Path

    from hal9.settings import load, render

    if service not in MODULES:
        close = get_close_matches(service, MODULES, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"unknown service {service!r}: there are {', '.join(MODULES)}{hint}")
    if (name or handler or checked) and service != "system":
        raise ConfigError(f"--name, --handler and --check go with `hal9 run system`, not with {service}")
    if checked:
        from hal9.cli.conformance import check

        check(checked, attempts or [], config, output, timeout)
        return
    waiting = None if timeout is None else str(timeout)
    given = {
        "HAL9_SYSTEM__NAME": name,
        "HAL9_SYSTEM__HANDLER": handler,
        "HAL9_KAFKA__WAIT_S": waiting,
        "HAL9_SYSTEM__HANDLER_WAIT_S": waiting,
    }
    settings = load(config, {**os.environ, **{key: value for key, value in given.items() if value is not None}})
    if print_config:
        typer.echo(render(settings, service), nl=False)
        return
    if service == "system":
        # A handler is mostly a file in the present directory, where an installed command does not look.
        sys.path.insert(0, str(Path.cwd()))
    import_module(MODULES[service]).main(settings)
