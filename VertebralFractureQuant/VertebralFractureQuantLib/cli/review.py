"""`vfq review`: the page in the browser on which a person checks, corrects and signs what the machine found.

Everything that it writes lies in the cases' folders; nothing leaves this machine.
"""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..errors import VFQError
from .common import NOTICE, coded_exit

if TYPE_CHECKING:
    from ..cohort.worklist import Case

ReaderOption = Annotated[
    str | None, typer.Option("--reader", help="Name that stands at every act; your login if not given.")
]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0: a free one.")]
BrowserOption = Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in your browser.")]


def review(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="CT_OR_FOLDER", help="NIfTI, NRRD or MHA files, DICOM folders, or a folder of scans."),
    ],
    analysis: Annotated[
        Path | None,
        typer.Option(help="analysis.json of the one CT; without it, or without an earlier one, it is made."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Holds one folder a case: the analysis, the review, its journal. [default: vfq-review]",
        ),
    ] = None,
    port: PortOption = 0,
    host: Annotated[
        str, typer.Option(help="Address to listen on; another than this machine's own needs --key-file.")
    ] = ("127.0.0.1"),
    key_file: Annotated[
        Path | None, typer.Option(help="File, yours alone, with a key of your own for the page.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where the networks run: auto, cpu, cuda, mps.")] = "auto",
    reader: ReaderOption = None,
    show_names: Annotated[
        bool, typer.Option("--show-names", help="Call cases by their files' names, which can be patients'.")
    ] = False,
    browser: BrowserOption = True,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")] = False,
) -> None:
    """Review scans in the browser: see, correct, confirm every vertebra. Ctrl+C ends it; every act is on disk."""
    from ..cohort.worklist import find_cases

    with coded_exit(debug):
        cases = find_cases(inputs, output or _beside(analysis) or Path("vfq-review"))
        _check(inputs, cases, analysis)
        if analysis and output is None and _beside(analysis):
            cases = [_in_folder(cases[0], analysis.parent)]
        analyses = {cases[0].name: analysis} if analysis and analysis != cases[0].folder / "analysis.json" else {}
        serve_review(cases, port, reader, browser, host, key_file, device, show_names, analyses)


def serve_review(
    cases: list[Case],
    port: int,
    reader: str | None,
    browser: bool,
    host: str = "127.0.0.1",
    key_file: Path | None = None,
    device: str = "auto",
    show_names: bool = False,
    analyses: dict[str, Path] | None = None,
) -> None:
    """Serve the page for these cases until Ctrl+C. VFQError as `browser.serve.serve` and `report.outputs`."""
    from ..browser.serve import Settings, serve

    def announce(url: str) -> None:
        console = Console(stderr=True)
        console.print(f"Open {url}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"Ctrl+C ends it; every act is on disk. {NOTICE}", markup=False, highlight=False)
        if browser:
            typer.launch(url)

    settings = Settings(reader or _login(), host, port, key_file, device, show_names, analyses or {}, announce)
    serve(cases, settings)


def _check(inputs: list[Path], cases: list[Case], analysis: Path | None) -> None:
    from ..report.outputs import check_writable

    for path in inputs:
        if not path.exists():
            raise VFQError("not_found", f"There is no file or folder {path.name!r}. Check the path.")
    if analysis and len(cases) != 1:
        raise typer.BadParameter("--analysis belongs to one CT; give one with it.")
    if analysis and not analysis.exists():
        raise VFQError("not_found", f"There is no file {analysis.name!r}. Check the path.")
    for case in cases:
        check_writable(case.folder.parent)


def _beside(analysis: Path | None) -> Path | None:
    """The outputs to which an analysis belongs that `vfq analyze` wrote; None for one that lies elsewhere."""
    return analysis.parent.parent if analysis and analysis.name == "analysis.json" else None


def _in_folder(case: Case, folder: Path) -> Case:
    from dataclasses import replace

    return replace(case, name=folder.name, folder=folder)


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name, as in containers
        return "reader"
