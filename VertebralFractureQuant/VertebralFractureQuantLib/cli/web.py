"""`vfq fetch` and `vfq store`: CT studies from an archive by DICOMweb, and DICOM objects to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..errors import VFQError
from .common import EXIT_CODED_FAILURE, DebugOption, coded_exit, progress_bar

URL_HELP = "Address of the DICOMweb service, such as https://pacs/dicom-web; credentials come from the environment."
OF_ONE_STUDY = ("output_exists", "fetch_in_progress")  # the other studies are fetched


def fetch(
    url: Annotated[str, typer.Argument(metavar="URL", help=URL_HELP)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder; each study gets its own subfolder.")],
    study: Annotated[str | None, typer.Option(help="UID of the study.")] = None,
    patient: Annotated[str | None, typer.Option(help="ID of the patient: all CT studies are fetched.")] = None,
    accession: Annotated[str | None, typer.Option(help="Accession number of the study.")] = None,
    debug: DebugOption = False,
) -> None:
    """Fetch CT studies from an archive by DICOMweb.

    Credentials: VFQ_DICOMWEB_USER and VFQ_DICOMWEB_PASSWORD, or VFQ_DICOMWEB_TOKEN, in the environment.

    Each study gets a folder that is named by a hash of its UID, complete or not at all; `vfq analyze` reads it.
    A study that is there already, or that another command is fetching right now, is named and left alone.
    """
    from ..archive.web import connect, fetch_study, find_studies

    if not (study or patient or accession):
        raise typer.BadParameter("Give --study, --patient or --accession.")
    console = Console(stderr=True)
    with coded_exit(debug):
        client = connect(url)
        found = find_studies(client, study, patient, accession)
        with progress_bar(console) as show:
            refused = 0
            for number, uid in enumerate(found, 1):
                label = f"study {number} of {len(found)}"
                try:
                    folder = fetch_study(client, uid, output, lambda n, at=label: show(at, f"{n} images", 0.0))  # type: ignore[misc]
                    said = f"{folder} fetched."
                except VFQError as error:
                    if error.code not in OF_ONE_STUDY:
                        raise
                    refused, said = refused + 1, f"{error.code}: {error.message}"
                console.print(said, markup=False, highlight=False, soft_wrap=True)
        if refused:
            raise typer.Exit(EXIT_CODED_FAILURE)


def store(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="FILE_OR_FOLDER", help="DICOM files, as vfq dicom writes them.")
    ],
    url: Annotated[str, typer.Option(help=URL_HELP)],
    debug: DebugOption = False,
) -> None:
    """Store DICOM objects in an archive by DICOMweb.

    Credentials: VFQ_DICOMWEB_USER and VFQ_DICOMWEB_PASSWORD, or VFQ_DICOMWEB_TOKEN, in the environment.

    Storing the same object again changes nothing, so an interrupted command can be repeated.
    """
    from ..archive.web import connect, store_files

    console = Console(stderr=True)
    with coded_exit(debug):
        files = [path for given in inputs for path in (sorted(given.glob("*.dcm")) if given.is_dir() else [given])]
        for path in files:
            if not path.exists():
                raise VFQError("not_found", f"There is no file {path.name!r}. Check the path.")
        if not files:
            raise VFQError("not_found", "The folder has no .dcm files. Give a folder that vfq dicom wrote.")
        store_files(
            connect(url), files, lambda path: console.print(f"{path.name} stored.", markup=False, highlight=False)
        )
