"""`vfq`: the command that puts the families of commands together.

Tables and JSON go to standard output, progress and messages to standard error. Exit status 0: everything was measured;
3: a failure with a code; 2: wrong usage. To add a command, write it in a separate file and register it here.
"""

from __future__ import annotations

import atexit
import gc
from typing import Annotated

import typer

from .. import __version__
from ..cohort.engine import Library
from .agreement import agreement
from .analyze import analyze
from .annotate import annotate
from .bench import bench
from .cohort import cohort_app
from .common import NOTICE
from .compare import compare
from .dataset import dataset_app
from .dicom import dicom
from .evaluate import evaluate_app
from .evaluate_methods import evaluate_methods
from .healthy import healthy
from .listen import listen
from .phantom import demo, phantom
from .report import report
from .review import review
from .train import mix, train
from .web import fetch, store
from .weights import weights_app

app = typer.Typer(
    name="vfq",
    help="Measure vertebral fractures on CT: six key points, heights, Genant ratio and grade of each vertebra. "
    + NOTICE,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
evaluate_app.command("methods")(evaluate_methods)
app.add_typer(evaluate_app)
app.add_typer(cohort_app)
app.add_typer(dataset_app)
app.add_typer(weights_app)
READING = (analyze, review, compare, annotate, report, healthy, dicom, listen, fetch, store, agreement)
for command in (*READING, demo, phantom, bench, train, mix):
    app.command()(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vfq {__version__}")
        raise typer.Exit


@app.callback()
def main(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Give the commands the library as `ctx.obj`; tests pass a fake: `CliRunner.invoke(app, args, obj=engine)`."""
    ctx.obj = ctx.obj or Library()
    # At its end Python would examine every object that there is, which takes 0.3 s; the system takes the memory back.
    atexit.register(gc.freeze)
