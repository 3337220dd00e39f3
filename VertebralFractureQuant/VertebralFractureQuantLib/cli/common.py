"""Parts that the commands of `vfq` share: options, exit status of a failure, safe writing of files, progress bar."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..errors import VFQError, as_coded
from ..whole import whole_file

EXIT_CODED_FAILURE = 3
WIDTH_OF_FILES = 160  # columns of tables that go to a file or a pipe
INCOMPLETE = "A part of the input was not evaluated. The problems above say which part, why, and what to do."
NOTICE = "For research use only. Not for diagnosis."


class Device(str, Enum):
    """The device that runs the networks."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


DeviceOption = Annotated[Device, typer.Option(help="Device that runs the networks; auto prefers a usable GPU.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace existing results, after the new ones are complete.")
]
TrustHeaderOption = Annotated[
    bool,
    typer.Option(
        "--trust-header",
        help="Analyse even if orientation or spacing in the header contradict the body; doubts become flags.",
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help="Networks: a name from `vfq weights list`, or a folder from `vfq train`.",
        show_default="the weights in use",
    ),
]
OURS = "anchor-free"
MethodOption = Annotated[str, typer.Option(help="How vertebrae are found: anchor-free (ours), anchor-boxes or m-scn.")]
ReaderOption = Annotated[
    str | None,
    typer.Option(
        "--reader",
        help="Name recorded with each action of the review.",
        show_default="the name used last on the page, else the login name",
    ),
]
PortOption = Annotated[
    int, typer.Option(min=0, max=65535, help="Port of the page; 0 chooses one for the output folder.")
]
HostOption = Annotated[
    str, typer.Option(help="Address to listen on; one that other computers can reach needs --key-file.")
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(help="File, readable only by you, with your own key for the page.", show_default="a random key"),
]
BrowserOption = Annotated[
    bool,
    typer.Option("--browser/--no-browser", help="Open the page in the default browser, or only print its address."),
]


def own_weights(wanted: str | None) -> Path | None:
    """Return the folder of the weights of `WeightsOption`; None for those in use."""
    from ..networks.installed import chosen

    return None if wanted is None else chosen(wanted)


def output_console() -> Console:
    """Return the console for standard output: as wide as the terminal, or wide enough for every table without one."""
    console = Console()
    known = console.is_terminal or "COLUMNS" in os.environ
    return console if known else Console(width=WIDTH_OF_FILES)


@contextmanager
def coded_exit(debug: bool) -> Iterator[None]:
    """End the command with status 3 and a one-line message if the block fails."""
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
            Console(stderr=True).print("Run the command again with --debug to see the traceback.")
        raise typer.Exit(EXIT_CODED_FAILURE) from None


def print_traceback(error: Exception) -> None:
    """Print the traceback on standard error."""
    import traceback

    typer.echo("".join(traceback.format_exception(error)), err=True)


def announcer(browser: bool) -> Callable[[str], None]:
    """Return the function that prints the address of a served page and, if `browser`, opens it there."""

    def announce(url: str) -> None:
        """Print the address of the page, and open it in the browser."""
        console = Console(stderr=True)
        console.print(f"Open {url}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"Press Ctrl+C to stop; every action is already saved. {NOTICE}", markup=False, highlight=False)
        if browser:
            typer.launch(url)

    return announce


def refuse_existing(paths: Sequence[Path], overwrite: bool) -> None:
    """Raise VFQError `output_exists` if one of `paths` exists and may not be overwritten."""
    for path in paths:
        if path.exists() and not overwrite:
            raise VFQError(
                "output_exists", f"{path.name}: the file exists. Use --overwrite, or give another name or folder."
            )


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write to a temporary file beside `path`, with the same suffix and a name of its own, then rename it.

    Raises
    ------
    VFQError
        `output_not_writable`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            write(partial)
    except OSError as error:
        message = (
            f"{path.name}: the file cannot be written ({error.strerror}). Check the folder's permissions and the free "
            "space, or choose another folder."
        )
        raise VFQError("output_not_writable", message) from error


def write_json(data: Any, path: Path) -> None:
    """Write `data` as an indented JSON file."""
    path.write_text(json.dumps(data, indent=1), encoding="utf-8")


@contextmanager
def progress_bar(console: Console) -> Iterator[Callable[[str, str, float], None]]:
    """Show a progress bar on `console`; yields the function (case, stage, share from 0 to 1) that updates it."""
    columns = (
        TextColumn("{task.fields[case]}", markup=False),
        BarColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=1.0, case="")
        shown = ""

        def show(case: str, stage: str, part: float) -> None:
            """Show the stage of a case, and the share of it that is done."""
            nonlocal shown
            if case != shown:
                progress.reset(task)
                shown = case
            progress.update(task, completed=part, description=stage, case=case)

        yield show


def numbers(text: str, count: int, kind: Callable[[str], Any], option: str | None = None) -> tuple[Any, ...]:
    """Parse "512x512x400" into `count` positive, finite numbers; a refusal names the `option`."""
    try:
        values = tuple(kind(part) for part in text.lower().split("x"))
    except ValueError:
        values = ()
    if len(values) != count or not all(0 < value < math.inf for value in values):  # false for NaN as well
        raise typer.BadParameter(f"{text!r}: give {count} positive numbers separated by x.", param_hint=option)
    return values
