"""What the commands of `vfq` share: options, how a failure ends one, how a file is written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..errors import VFQError, as_coded

EXIT_CODED_FAILURE = 3
WIDTH_OF_FILES = 160  # columns of tables that are written into a file or a pipe
NOTICE = "Research use only - not for diagnosis."


class Device(str, Enum):
    """Where the networks run."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


DeviceOption = Annotated[Device, typer.Option(help="Where the networks run.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace earlier outputs, once the new are whole.")]


def output_console() -> Console:
    """For standard output: as wide as the terminal, or wide enough for every table where there is none."""
    console = Console()
    told = console.is_terminal or "COLUMNS" in os.environ
    return console if told else Console(width=WIDTH_OF_FILES)


@contextmanager
def coded_exit(debug: bool) -> Iterator[None]:
    """End the command with status 3 and one line where the block fails."""
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception as error:
        failure = as_coded(error)
        Console(stderr=True).print(f"{failure.code}: {failure.message}", markup=False, highlight=False, soft_wrap=True)
        if debug:
            print_traceback(error)
        elif failure.code == "internal_error":
            Console(stderr=True).print("Run again with --debug for the traceback.")
        raise typer.Exit(EXIT_CODED_FAILURE) from None


def print_traceback(error: Exception) -> None:
    """The traceback on standard error."""
    import traceback

    typer.echo("".join(traceback.format_exception(error)), err=True)


def refuse_existing(paths: Sequence[Path], overwrite: bool) -> None:
    """VFQError `output_exists` where one of `paths` is there, unless it may be overwritten."""
    for path in paths:
        if path.exists() and not overwrite:
            raise VFQError("output_exists", f"{path.name}: the file is there already; use --overwrite or another name.")


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write beside `path` under a temporary name with the same suffix, then rename. VFQError `output_not_writable`."""
    partial = path.with_name(f".partial-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        partial.replace(path)
    except OSError as error:
        raise VFQError("output_not_writable", f"{path.name}: cannot be written ({error.strerror}).") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def write_json(data: Any, path: Path) -> None:
    """`data` as an indented JSON file."""
    path.write_text(json.dumps(data, indent=1), encoding="utf-8")


@contextmanager
def progress_bar(console: Console) -> Iterator[Callable[[str, str, float], None]]:
    """A bar on `console`, and the function (case, stage, part of 1) that moves it."""
    columns = (
        TextColumn("{task.fields[case]}", markup=False),
        BarColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=1.0, case="")
        shown = ""

        def show(case: str, stage: str, part: float) -> None:
            nonlocal shown
            if case != shown:
                progress.reset(task)
                shown = case
            progress.update(task, completed=part, description=stage, case=case)

        yield show


def numbers(text: str, count: int, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    """ "512x512x400" as numbers; all must be positive."""
    try:
        values = tuple(kind(part) for part in text.lower().split("x"))
    except ValueError:
        values = ()
    if len(values) != count or min(values) <= 0:
        raise typer.BadParameter(f"{text!r}: expected {count} positive numbers with an x between them.")
    return values
