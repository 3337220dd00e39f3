"""What an annotation of a case begins with: the CT, a curve along the spine, and the labels that are there already.

Plain data without MRML, so any thread may prepare it. A blinded reading uses the networks for the curve alone. Curve
and automatic vertebrae that wait for the reader are kept in a working folder of case and reader. RAS mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..analysis import Models, analyze
from ..analysis.curve_finding import coarse_curves, refined_spine
from ..errors import VFQError
from ..imaging.ct import CTVolume, without_padding
from ..imaging.files import read_ct
from ..labels.dataset import Dataset, check_ct
from ..labels.reading import Label, LabelReading, correction, now
from ..labels.store import Slot, newest, readings_by, work_folder
from ..report.outputs import write_record, writing
from ..spine.curve import SpineCurve
from ..spine.levels import NAMES
from ..spine.record import SpineAnalysis, Vertebra
from ..spine.record_json import read_analysis
from ..whole import whole_file
from .merging import NEAR_MM
from .opening import RESCUABLE, Prepared, middle_line
from .state import UNMEASURED
from .straight import reformat

ASSISTED = "assisted"
RECORD = "spine.json"


@dataclass(frozen=True, eq=False)
class Begun:
    """A reading as it is opened.

    Attributes
    ----------
    prepared : the study: first the vertebrae of the labels, then automatic ones that wait for the reader.
    reading : the draft, a new one, or a correction of a final reading; not saved before the first act.
    labels : the labels with key points, by the id of their vertebra.
    last_level : the highest level of the reader's last reading of another case; None without one.
    """

    prepared: Prepared
    reading: LabelReading
    labels: dict[str, Label]
    last_level: str | None = None


def load_case(
    dataset: Dataset, slot: Slot, models: Models | VFQError, mode: str | None = None, others: Sequence[Slot] = ()
) -> Prepared:
    """Read the CT of a case, and find its spine, unless that was done before.

    mode : of the reading; that of the protocol if None. others : readings whose curve may be taken, without vertebrae.

    VFQError `not_found` without its CT, `other_ct`, or as `read_ct`. Without networks, or if they find no spine, a
    straight line stands in for the curve until the reader clicks the spine.
    """
    case = dataset.case(slot[1])
    path = dataset.ct_path(case)
    if path is None or not path.exists():
        told = "was imported without a CT" if path is None else f"has its CT at {case.ct}, which is missing"
        raise VFQError("not_found", f"{case.name} {told}. Put the CT there, or add it with vfq dataset add.")
    ct = read_ct(path, trust_header=True)  # whoever made the label set vouched for it
    check_ct(case, ct)
    folder = work_folder(dataset, slot)
    record = _kept(folder) or _of_others(dataset, others)
    record = record or _found(ct, models, (mode or dataset.protocol["mode"]) == ASSISTED)
    if record.status == "ok" or record.status in RESCUABLE:
        keep_record(folder, record)
    curve = SpineCurve(record.curve) if len(record.curve) else middle_line(ct)
    analysis = replace(record, case=case.name, curve=curve.points)
    return Prepared(ct, analysis, reformat(ct, curve))


def keep_record(folder: Path, record: SpineAnalysis) -> None:
    """Keep the curve, and the automatic vertebrae that wait for the reader. VFQError `output_not_writable`."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / RECORD) as partial:
            write_record(record, partial)


def _of_others(dataset: Dataset, others: Sequence[Slot]) -> SpineAnalysis | None:
    """Return the first curve that was kept for one of these readings."""
    found = (_kept(work_folder(dataset, slot)) for slot in others)
    return next((replace(record, vertebrae=()) for record in found if record and len(record.curve)), None)


def _kept(folder: Path) -> SpineAnalysis | None:
    return read_analysis(folder / RECORD) if (folder / RECORD).exists() else None


def _found(ct: CTVolume, models: Models | VFQError, assisted: bool) -> SpineAnalysis:
    """Return the spine of a CT: its curve, and in an assisted reading its vertebrae; else the reason why not."""
    frame = SpineAnalysis(
        ct.name, shape=ct.voxels.shape, spacing_mm=ct.spacing_mm, ijk_to_ras=ct.ijk_to_ras, series=ct.series
    )
    try:
        if isinstance(models, VFQError):
            raise models
        if assisted:
            return replace(analyze(ct, models), quality=())
        inside = without_padding(ct)
        first, *_ = coarse_curves(inside, models)
        spine = refined_spine(inside, *first, models)
        return replace(frame, models=models.stamps, curve=spine.curve.points, limits_mm=spine.limits_mm)
    except VFQError as error:
        return replace(frame, status=error.code, message=error.message)


def first_reading(dataset: Dataset, slot: Slot, mode: str | None = None) -> LabelReading:
    """Return the reading to go on with: the draft, a correction of the final one, or a new one. Nothing is saved.

    mode : of a new reading; that of the protocol if None.
    """
    reader, case, session = slot
    found = newest(dataset, slot)
    if found is None:
        mode = mode or str(dataset.protocol["mode"])
        digest = dataset.case(case).sha256
        return LabelReading(case, reader, session, mode=mode, started_at=now(), ct_sha256=digest)
    return correction(found) if found.state == "final" else found


def begin(dataset: Dataset, slot: Slot, prepared: Prepared) -> Begun:
    """Return a reading of a case that was loaded. VFQError as `read_reading` and `read_analysis`."""
    reading = first_reading(dataset, slot)
    known = _kept(work_folder(dataset, slot)) or prepared.analysis
    curve = known.curve if len(known.curve) else prepared.analysis.curve
    own = [label_vertebra(label) for label in reading.measured]
    waiting = [v for v in known.vertebrae if not _is_near(v, own)] if reading.mode == ASSISTED else []
    vertebrae = (*own, *waiting)
    status, message = ("ok", "") if vertebrae else (known.status, known.message)
    analysis = replace(
        prepared.analysis,
        status=status,
        message=message,
        curve=curve,
        limits_mm=known.limits_mm,
        vertebrae=vertebrae,
    )
    labels = {f"v{i}": label for i, label in enumerate(reading.measured, start=1)}
    return Begun(replace(prepared, analysis=analysis), reading, labels, _last_level(dataset, slot))


def _last_level(dataset: Dataset, slot: Slot) -> str | None:
    reader, case, _ = slot
    own = [r for r in readings_by(dataset, reader) if r.case != case and r.saved_at]
    latest = max(own, key=lambda r: str(r.saved_at), default=None)
    levels = [v.level for v in latest.measured if v.level] if latest else []
    return min(levels, key=NAMES.index, default=None)


def label_vertebra(label: Label) -> Vertebra:
    """Return the vertebra of a label with key points, not measured."""
    assert label.keypoints is not None
    origin = "reader" if label.source == "reader" else "model"
    return Vertebra(label.keypoints, UNMEASURED, level=label.level, origin=origin)


def _is_near(vertebra: Vertebra, others: Sequence[Vertebra]) -> bool:
    middle = vertebra.keypoints.mean((0, 1))
    return any(np.linalg.norm(v.keypoints.mean((0, 1)) - middle) < NEAR_MM for v in others)
