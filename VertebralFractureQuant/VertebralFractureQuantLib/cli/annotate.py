"""`vfq annotate`: serve the page on which a reader labels the cases of a label set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    BrowserOption,
    DebugOption,
    Device,
    DeviceOption,
    HostOption,
    KeyFileOption,
    PortOption,
    announcer,
    coded_exit,
)
from .dataset import AnalysesOption, FirstOption
from .review import usual_port

if TYPE_CHECKING:
    from ..cohort.worklist import Case
    from ..labels.dataset import Dataset
    from ..labels.store import Slot


def annotate(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder of the label set.")],
    reader: Annotated[str, typer.Option("--reader", help="Name of the reader, as in the label set.")],
    case: Annotated[
        str | None, typer.Option(help="Name of a case to be read.", show_default="those assigned to the reader")
    ] = None,
    adjudicate: Annotated[
        bool,
        typer.Option(
            "--adjudicate", help="Decide where other readers disagree, the worst case first; they are called A, B, ..."
        ),
    ] = False,
    first: FirstOption = None,
    analyses: AnalysesOption = None,
    port: PortOption = 0,
    host: HostOption = "127.0.0.1",
    key_file: KeyFileOption = None,
    device: DeviceOption = Device.AUTO,
    show_names: Annotated[
        bool,
        typer.Option("--show-names", help="Show the names of the cases, which may contain the names of patients."),
    ] = False,
    browser: BrowserOption = True,
    debug: DebugOption = False,
) -> None:
    """Label the cases of a label set in the browser: six points and a level for each vertebra.

    The protocol of the label set says whether the reading is blinded or begins with automatic points. Grades are
    never shown, other readers' labels only with --adjudicate. Each act is saved as a draft; Ctrl+C ends the command.
    """
    from ..labels.dataset import load
    from ..labels.disputes import adjudications_to_do
    from ..labels.status import readings_to_do

    with coded_exit(debug):
        found = load(dataset)
        name = found.reader(reader)
        slots = adjudications_to_do(found, name, case) if adjudicate else readings_to_do(found, name, case)
        slots = in_order(found, slots, first.value, analyses) if first else slots
        _serve(found, slots, adjudicate, host, port, key_file, device.value, show_names, browser)


def in_order(dataset: Dataset, slots: list[Slot], first: str, analyses: Path | None) -> list[Slot]:
    """Return the readings in the order of `first`, see `labels.ordering`."""
    from ..labels.ordering import sorted_cases

    names = sorted_cases(dataset, dict.fromkeys(case for _, case, _ in slots), first, analyses)
    return sorted(slots, key=lambda slot: names.index(slot[1]))


def _serve(
    dataset: Dataset,
    slots: list[Slot],
    adjudicate: bool,
    host: str,
    port: int,
    key_file: Path | None,
    device: str,
    show_names: bool,
    browser: bool,
) -> None:
    from ..browser.serve import Settings, serve

    def build(*arguments: object) -> object:
        """Build the page; its modules need the packages that `serve` checks for."""
        from ..browser.adjudication_page import AdjudicationPage
        from ..browser.annotation_page import AnnotationPage, build_page

        page = AdjudicationPage if adjudicate else AnnotationPage
        return build_page(dataset, {case.name: slot for case, slot in zip(cases, slots, strict=True)}, page)(*arguments)

    cases = _cases(dataset, slots)
    settings = Settings(
        who=slots[0][0],
        host=host,
        port=port,
        usual_port=usual_port(cases[0].folder.parent),
        key_file=key_file,
        device=device,
        show_names=show_names,
        announce=announcer(browser),
    )
    serve(cases, settings, build)


def _cases(dataset: Dataset, slots: list[Slot]) -> list[Case]:
    from ..cohort.worklist import Case
    from ..labels.store import work_folder

    folders = [work_folder(dataset, slot) for slot in slots]
    scans = [dataset.ct_path(dataset.case(case)) or Path(case) for _, case, _ in slots]
    return [Case(folder.name, scan, folder) for folder, scan in zip(folders, scans, strict=True)]
