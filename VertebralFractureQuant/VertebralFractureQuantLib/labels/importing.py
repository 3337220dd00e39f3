"""Take labels of other programs into a label set: the form of a file is recognised, everything is checked, then saved.

What was imported before is known and not saved again. What differs becomes a correction only if that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import VFQError
from ..report.names import case_name
from . import annotation_schema, exchange
from .dataset import Case, Dataset, changing, put, with_cases, with_readers
from .incoming import Incoming, read_data, unreadable
from .masks import NUMBERS, from_mask
from .reading import SCHEMA, LabelReading, correction, same_labels
from .store import Slot, check, newest, read_reading, write_reading

READERS: dict[str, Callable[[Path, Case], list[Incoming]]] = {
    "annotations": annotation_schema.incoming,
    "markups": exchange.from_markups,
    "csv": exchange.from_csv,
    "centroids": exchange.from_centroids,
    "reference": exchange.from_reference,
    "analysis": exchange.from_analysis,
}
FORMS = (*READERS, "reading", "mask")
MASKS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")


@dataclass(frozen=True)
class Settings:
    """How files are imported.

    Attributes
    ----------
    form : of `FORMS`; None to recognise it.
    reader, case : names for files that give none.
    numbers : of a mask, a key of `masks.NUMBERS`.
    pixel_mm, slice_mm : voxel size of annotations without their CT; None recovers the size of a pixel.
    correct : save labels that differ from a final reading as the next version of it.
    """

    form: str | None = None
    reader: str | None = None
    case: str | None = None
    numbers: str | None = None
    pixel_mm: float | None = None
    slice_mm: float = annotation_schema.SLICE_STEP_MM
    correct: bool = False


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes
    ----------
    saved : (case, reader) of each saved reading.
    known : the number of readings that the label set had already.
    left_out : a sentence for each vertebra that could not be taken over.
    drafts : the number of saved readings that are drafts.
    """

    saved: tuple[tuple[str, str], ...]
    known: int
    left_out: tuple[str, ...]
    drafts: int = 0


def import_files(folder: Path, files: Sequence[Path], settings: Settings) -> Imported:
    """Import files into the label set in `folder`: all of them, or none if one is refused.

    Raises
    ------
    VFQError
        `bad_import`, `bad_labels`, `other_ct`, `no_voxel_size` for a file; `unknown_case`, `no_reader` if it is not
        known whose labels of which case they are; `labels_exist` if they differ from a final reading; as `load`.
    """
    planned: dict[Slot, LabelReading] = {}
    left_out: list[str] = []
    known = 0
    with changing(folder) as held:
        dataset = held[0]
        for file in files:
            dataset, readings, left = _of_file(dataset, file, settings)
            left_out += left
            for reading in readings:
                fresh = _against_known(dataset, reading, settings.correct)
                known += fresh is None
                if fresh and planned.setdefault((fresh.reader, fresh.case, fresh.session), fresh) is not fresh:
                    message = (
                        f"{file.name}: labels of {fresh.case} by {fresh.reader} are in two files. Import one of them."
                    )
                    raise VFQError("labels_exist", message)
        put(dataset)  # before its readings, which would belong to nobody
        for reading in planned.values():
            write_reading(dataset, reading)
    drafts = sum(r.state == "draft" for r in planned.values())
    return Imported(tuple((r.case, r.reader) for r in planned.values()), known, tuple(left_out), drafts)


def _of_file(dataset: Dataset, path: Path, settings: Settings) -> tuple[Dataset, list[LabelReading], list[str]]:
    """Return the label set with the file's cases and readers, its readings that were checked, and what is left out."""
    form = settings.form or form_of(path)
    if form == "reading":
        own = read_reading(path)
        dataset = with_readers(dataset, [own.reader])
        check(dataset, own)
        return dataset, [replace(own, version=1, revision=0)], []
    if form == "annotations":
        dataset = _with_annotated_case(dataset, path, settings)
    found = _incoming(dataset, path, form, settings)
    readings: list[LabelReading] = []
    left_out: list[str] = []
    for each in found:
        reader = settings.reader if form != "annotations" and settings.reader else each.reader or settings.reader
        if reader is None:
            raise VFQError("no_reader", f"{path.name} does not say whose labels these are. Use --reader.")
        dataset = with_readers(dataset, [reader])
        case = dataset.case(_case_name(dataset, path, each, settings))
        state = "draft" if any(v.keypoints is None and not v.not_assessable for v in each.labels) else "final"
        source, digest = path.name, case.sha256
        reading = LabelReading(
            case.name, reader.strip(), each.session, state=state, labels=each.labels, comment=each.comment,
            imported_from=source, ct_sha256=digest, mode="assisted" if form == "analysis" else "unknown",
        )  # fmt: skip
        check(dataset, reading)
        readings.append(replace(reading, state="draft") if form == "mask" or each.unreviewed else reading)
        left_out += each.left_out
    return dataset, readings, left_out


def _incoming(dataset: Dataset, path: Path, form: str, settings: Settings) -> list[Incoming]:
    if form == "csv":
        return exchange.from_csv(path, Case("", ""))
    if form in ("analysis", "reference"):  # they name their case, and are in mm
        return READERS[form](path, Case("", ""))
    case = dataset.case(_case_name(dataset, path, Incoming(()), settings))
    if form != "mask":
        return READERS[form](path, case)
    if settings.numbers not in NUMBERS:
        message = f"{path.name} is a mask, and its numbers may mean different vertebrae. Use --numbers."
        raise VFQError("bad_import", message)
    return from_mask(path, case, settings.numbers)


def _with_annotated_case(dataset: Dataset, path: Path, settings: Settings) -> Dataset:
    """Return the label set with the case of an annotations file, which needs no CT."""
    name = settings.case or case_name(path.with_suffix(""))
    if name in dataset.cases:
        return dataset
    matrix = annotation_schema.matrix_of(path, settings.pixel_mm, settings.slice_mm)
    return with_cases(dataset, [Case(name, name, ijk_to_ras=matrix, imported=annotation_schema.read_file(path)[0])])


def _case_name(dataset: Dataset, path: Path, found: Incoming, settings: Settings) -> str:
    """Return the case that the user, or the file, or its name tells; also "X" for a file of the case "X_ct"."""
    given = settings.case or found.case
    name = given or case_name(Path(path.name.removesuffix(".json").removesuffix(".mrk").removesuffix(".csv")))
    starting = [case for case in dataset.cases if case == name or case.startswith(f"{name}_")]
    if name not in dataset.cases and len(starting) == 1:
        return starting[0]
    if name not in dataset.cases and given is None:
        message = f"{path.name} belongs to no case of the label set by its name. Use --case."
        raise VFQError("unknown_case", message)
    return name


def form_of(path: Path) -> str:
    """Return the form of a file, one of `FORMS`. VFQError `not_found` or `bad_import`."""
    if not path.is_file():
        raise VFQError("not_found", f"There is no file {path.name!r}. Check the path.")
    name = path.name.lower()
    if name.endswith(".csv"):
        return "csv"
    if name.endswith(MASKS):
        return "mask"
    data = read_data(path) if name.endswith(".json") else None
    if isinstance(data, list):
        return "centroids"
    data = data if isinstance(data, dict) else {}
    keys = {"Annotation": "annotations", "markups": "markups"}
    form = next((form for key, form in keys.items() if key in data), None)
    schema = str(data.get("schema"))
    form = form or {SCHEMA: "reading", "vfq-analysis/1": "analysis"}.get(schema)
    if form is None and data.get("schema") is None and {"space", "vertebrae"} <= set(data):
        form = "reference"
    if form is None:
        raise unreadable(path, "it is of no known form")
    return form


def _against_known(dataset: Dataset, reading: LabelReading, correct: bool) -> LabelReading | None:
    """Return the reading as it is to be saved; None if the label set has it already."""
    before = newest(dataset, (reading.reader, reading.case, reading.session))
    if before is None:
        return reading
    if same_labels(before, reading):
        return None
    if not correct:
        message = f"{reading.case}: the label set has other labels by {reading.reader}. Use --correct to add a version."
        raise VFQError("labels_exist", message)
    if before.state == "draft":
        message = f"{reading.case}: {reading.reader} has a draft that is not finished. Finish it before you correct it."
        raise VFQError("labels_exist", message)
    return replace(reading, version=correction(before).version)
