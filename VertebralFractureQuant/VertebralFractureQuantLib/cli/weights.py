"""`vfq weights`: the networks that can be used: those of the program, and those that the user trained and installed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..errors import VFQError
from .common import EXIT_CODED_FAILURE, DebugOption, OverwriteOption, coded_exit, output_console

weights_app = typer.Typer(
    name="weights", help="List, verify, install and choose the networks that measure.", no_args_is_help=True
)
HASH_DIGITS = 12


@weights_app.command("list")
def list_weights() -> None:
    """List the weights that can be used, with the networks in them; a star marks those in use."""
    from ..networks.installed import listed

    with coded_exit(debug=False):
        table = Table("", "name", "role", "network", "sha256")
        for one in listed():
            for i, stamp in enumerate(one.stamps):
                first = ("*" if one.in_use else "", one.name) if i == 0 else ("", "")
                table.add_row(*first, stamp.role, stamp.name, stamp.sha256[:HASH_DIGITS])
    output_console().print(table)


@weights_app.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="Name of installed weights; all of them if left out.")] = None,
    debug: DebugOption = False,
) -> None:
    """Check every file of the weights against its model card, and load it."""
    from ..networks.installed import folder_of, names
    from ..networks.installed import verify as check

    wrong = False
    with coded_exit(debug):
        for each in [name] if name else names():
            try:
                found = check(folder_of(each))
                typer.echo(f"{each}: {len(found)} networks are intact.")
            except VFQError as error:
                wrong = True
                typer.echo(f"{each}: {error.code}: {error.message}")
    if wrong:
        raise typer.Exit(EXIT_CODED_FAILURE)


@weights_app.command()
def install(
    source: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="ROLE.safetensors with its model card beside it, or a folder of them."),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the weights.", show_default="that of the folder of the file")
    ] = None,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Verify weights, and copy them into your settings folder. They are used after `vfq weights use NAME`."""
    from ..networks.installed import install as put

    with coded_exit(debug):
        done = put(source, name, overwrite)
    roles = ", ".join(stamp.role for stamp in done.stamps)
    typer.echo(f"Installed as {done.name} ({roles}). Use them with: vfq weights use {done.name}")


@weights_app.command()
def use(
    name: Annotated[str, typer.Argument(help="Name of installed weights, or shipped for those of the program.")],
    debug: DebugOption = False,
) -> None:
    """Use these weights from now on, wherever no --weights is given; Slicer and the review page use them too."""
    from ..networks.installed import use as choose

    with coded_exit(debug):
        choose(name)
    typer.echo(f"{name} is in use from now on.")
