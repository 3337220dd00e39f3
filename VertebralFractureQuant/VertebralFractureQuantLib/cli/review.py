"""`vfq review`: serve the page in the browser on which a reader checks, corrects and confirms the analyses.

Everything is written into the folders of the cases; nothing leaves this computer.
"""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zlib import crc32

import typer
from rich.console import Console

from ..errors import VFQError
from .common import (
    BrowserOption,
    DebugOption,
    Device,
    DeviceOption,
    HostOption,
    KeyFileOption,
    PortOption,
    ReaderOption,
    TrustHeaderOption,
    WeightsOption,
    announcer,
    coded_exit,
    own_weights,
)

if TYPE_CHECKING:
    from ..cohort.worklist import Case

FIRST_PORT, PORTS = 20000, 12000  # below the ports that systems hand out by themselves


PriorOption = Annotated[
    Path | None,
    typer.Option(
        metavar="CT_OR_FOLDER",
        help="An earlier scan of the patient of a single CT: shown beside it, vertebra by vertebra.",
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Output folder; each case gets its own subfolder for analysis and review.",
        show_default="vfq-review",
    ),
]


def review(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="CT_OR_FOLDER", help="NIfTI, NRRD or MHA files, DICOM folders, or folders of such files."
        ),
    ],
    analysis: Annotated[
        Path | None,
        typer.Option(
            help="Analysis of a single CT: analysis.json, or a structured report from vfq dicom.",
            show_default="existing results, else a new analysis",
        ),
    ] = None,
    output: OutputOption = None,
    prior: PriorOption = None,
    port: PortOption = 0,
    host: HostOption = "127.0.0.1",
    key_file: KeyFileOption = None,
    device: DeviceOption = Device.AUTO,
    reader: ReaderOption = None,
    show_names: Annotated[
        bool,
        typer.Option("--show-names", help="Show the file names of the cases, which may contain the names of patients."),
    ] = False,
    browser: BrowserOption = True,
    trust_header: TrustHeaderOption = False,
    weights: WeightsOption = None,
    debug: DebugOption = False,
) -> None:
    """Review scans in the browser: check, correct and confirm each vertebra.

    Scans without results are analysed first. Ctrl+C ends the command; every action is saved at once.
    """
    from ..cohort.worklist import find_cases, passed_over_sentences

    with coded_exit(debug):
        inputs, output = of_a_listener(inputs, output)
        for sentence in passed_over_sentences(inputs):
            Console(stderr=True).print(sentence, markup=False, highlight=False, soft_wrap=True)
        given = [*inputs, *filter(None, [prior])]
        cases = find_cases(given, output or _beside(analysis) or Path("vfq-review"))
        _check(given, cases, analysis, prior)
        if analysis and output is None and _beside(analysis):
            cases[0] = _in_folder(cases[0], analysis.parent)
        analyses = {cases[0].name: analysis} if analysis and analysis != cases[0].folder / "analysis.json" else {}
        own = own_weights(weights)
        page = (host, key_file, device.value, show_names, analyses, trust_header, bool(prior), own)
        serve_review(cases, port, reader, browser, *page)


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
    trust_header: bool = False,
    prior: bool = False,
    weights: Path | None = None,
) -> None:
    """Serve the page for these cases until Ctrl+C; with `prior`, the second of two is shown beside the first one.

    Raises VFQError as `browser.serve.serve` and `report.outputs` do.
    """
    from ..browser.kept import Kept
    from ..browser.serve import Settings, serve

    settings = Settings(
        who=reader or Kept().reader or _login(),
        host=host,
        port=port,
        usual_port=usual_port(cases[0].folder.parent),
        key_file=key_file,
        device=device,
        show_names=show_names,
        analyses=analyses or {},
        announce=announcer(browser),
        trust_header=trust_header,
        prior=prior,
        weights=weights,
    )
    serve(cases, settings)


def usual_port(output: Path) -> int:
    """Return the port of an output folder, so that an open tab finds the page again after a restart."""
    return FIRST_PORT + crc32(str(output.resolve()).encode()) % PORTS


def _check(inputs: list[Path], cases: list[Case], analysis: Path | None, prior: Path | None) -> None:
    from ..report.outputs import check_writable

    for path in inputs:
        if not path.exists():
            raise VFQError("not_found", f"There is no file or folder {path.name!r}. Check the path.")
    if prior and len(cases) != 2:
        raise typer.BadParameter("--prior needs a single CT, and is itself a single CT.")
    if analysis and len(cases) != 1 + bool(prior):
        raise typer.BadParameter("--analysis needs a single CT.")
    if analysis and not analysis.exists():
        raise VFQError("not_found", f"There is no file {analysis.name!r}. Check the path.")
    for folder in {case.folder.parent for case in cases}:
        check_writable(folder)


def of_a_listener(inputs: list[Path], output: Path | None) -> tuple[list[Path], Path | None]:
    """Replace the folder of a vfq listen by the studies in it that are analysed, and the folder of their results."""
    from ..archive.folders import Folders
    from ..archive.queue import read_queue

    folders = Folders(inputs[0])
    if len(inputs) > 1 or not folders.queue.exists():
        return inputs, output
    done = [one.name for one in read_queue(folders.queue) if (folders.cases / one.name / "analysis.json").exists()]
    if not done:
        raise VFQError("not_found", "No study of this vfq listen is analysed yet. Wait until the first one is.")
    return [folders.studies / name for name in done], output or folders.cases


def _beside(analysis: Path | None) -> Path | None:
    """The output folder of an analysis that `vfq analyze` wrote; None for any other file."""
    return analysis.parent.parent if analysis and analysis.name == "analysis.json" else None


def _in_folder(case: Case, folder: Path) -> Case:
    from dataclasses import replace

    return replace(case, name=folder.name, folder=folder)


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name, as in containers
        return "reader"
