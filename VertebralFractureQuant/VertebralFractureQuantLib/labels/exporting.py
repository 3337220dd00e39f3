"""Write the readings of a label set for other programs, into a new folder, with a list of what a form cannot say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..errors import VFQError
from . import annotation_schema, exchange
from .consensus import read_consensus
from .dataset import Case, Dataset, reader_folder
from .files import write_bytes
from .reading import LabelReading
from .store import final_readings

FORMS = ("annotations", "markups", "csv", "centroids", "reference")

Written = tuple[str, str, list[str]]  # file name, text, what it leaves out


def export(
    dataset: Dataset,
    folder: Path,
    form: str,
    readers: Sequence[str] = (),
    consensus: bool = False,
    session: int = 1,
) -> tuple[list[Path], list[str]]:
    """Write final readings, or the consensus, in one of `FORMS`; return the files and what they leave out.

    Parameters
    ----------
    readers : whose readings; all if empty.
    session : 2 for second readings.

    Raises
    ------
    VFQError
        `output_exists` if a file exists; `nothing_to_evaluate` if there is no reading; `unknown_reader`;
        `no_voxel_size`; as `final_readings`.
    """
    wanted = [dataset.reader(name) for name in readers] or list(dataset.readers)
    if consensus:
        readings = read_consensus(dataset)
    else:
        found = [r for r in final_readings(dataset).values() if r.session == session and r.reader in wanted]
        readings = sorted(found, key=lambda r: (r.case, wanted.index(r.reader)))
    if not readings:
        raise VFQError("nothing_to_evaluate", f"{dataset.name}: there is no final reading to export.")
    written = list(_files(dataset, readings, form))
    for name, _, _ in written:
        if (folder / name).exists():
            raise VFQError("output_exists", f"{name}: the file exists. Give another folder.")
    for name, text, _ in written:
        write_bytes(folder / name, text.encode())
    return [folder / name for name, _, _ in written], [each for _, _, left in written for each in left]


def _files(dataset: Dataset, readings: list[LabelReading], form: str) -> Iterator[Written]:
    if form == "csv":
        yield "labels.csv", exchange.table(readings), []
        return
    if form == "annotations":
        for case in dict.fromkeys(r.case for r in readings):
            document, left = annotation_schema.document(dataset.case(case), [r for r in readings if r.case == case])
            yield f"{case}.json", json.dumps(document, indent=2, ensure_ascii=False), left
        return
    one_reader = len({r.reader for r in readings}) == 1
    for reading in readings:
        text, left = _single(form)(dataset.case(reading.case), reading)
        suffix = ".mrk.json" if form == "markups" else ".json"
        place = "" if one_reader else f"{reader_folder(reading.reader)}/"
        yield f"{place}{reading.case}{suffix}", text, left


def _single(form: str) -> Callable[[Case, LabelReading], tuple[str, list[str]]]:
    if form == "centroids":
        return exchange.centroids
    if form == "reference":
        return lambda case, reading: (exchange.reference(reading, case), _without_points(reading, centers=True))
    return lambda case, reading: (exchange.markups(reading), _without_points(reading))


def _without_points(reading: LabelReading, centers: bool = False) -> list[str]:
    lost = [v for v in reading.labels if v.keypoints is None and not (centers and v.center is not None)]
    return [f"{reading.case}, {reading.reader}: {v.level or 'a vertebra'} has no key points." for v in lost]
