"""What the adjudication of a case begins with: a curve, the readers' points without their names, and what was decided.

Plain data without MRML, so any thread may prepare it. RAS mm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..analysis import Models
from ..errors import VFQError
from ..labels.consensus import ADJUDICATION, by_case
from ..labels.dataset import Dataset
from ..labels.disputes import Dispute, disputes_of
from ..labels.reading import Label
from ..labels.store import Slot, final_readings
from ..spine.record import Vertebra
from .annotation_start import Begun, first_reading, label_vertebra, load_case
from .merging import NEAR_MM
from .opening import Prepared
from .state import UNMEASURED


@dataclass(frozen=True, eq=False)
class Disputed:
    """An adjudication as it is opened.

    Attributes
    ----------
    begun : the reading: first the vertebrae that are decided, then the mean of the readers' points for the others.
    disputes : what the readers say of each vertebra, by its id.
    """

    begun: Begun
    disputes: dict[str, Dispute]


def load_adjudication(dataset: Dataset, slot: Slot, models: Models | VFQError) -> Prepared:
    """Read the CT of a case, and take the curve of one of its readers, or find one. VFQError as `load_case`."""
    readings = by_case(dataset, final_readings(dataset)).get(slot[1], [])
    return load_case(dataset, slot, models, ADJUDICATION, [(r.reader, r.case, r.session) for r in readings])


def begin_adjudication(dataset: Dataset, slot: Slot, prepared: Prepared) -> Disputed:
    """Return the adjudication of a case that was loaded.

    Raises
    ------
    VFQError
        `labels_exist` if the reader read the case as one of its readers; as `final_readings`.
    """
    reading = first_reading(dataset, slot, ADJUDICATION)
    if reading.mode != ADJUDICATION:
        raise VFQError("labels_exist", f"{slot[0]} is one of the readers of this case. A third reader decides.")
    case = dataset.case(slot[1])
    found = disputes_of(dataset, case, by_case(dataset, final_readings(dataset)).get(case.name, []))
    labels = {f"v{i}": label for i, label in enumerate(reading.measured, start=1)}
    disputes = {i: d for i, label in labels.items() if (d := _at(label, found))}
    dropped = [_at(v, found) for v in reading.labels if v.not_assessable]
    left = [d for d in found if d not in disputes.values() and d not in dropped]
    disputes |= {f"v{len(labels) + i}": d for i, d in enumerate(left, start=1)}
    means = [Vertebra(d.mean, UNMEASURED, level=d.level) for d in left]
    vertebrae = (*(label_vertebra(label) for label in reading.measured), *means)
    status = replace(prepared.analysis, status="ok", message="", vertebrae=vertebrae, quality=())
    return Disputed(Begun(replace(prepared, analysis=status), reading, labels), disputes)


def _at(label: Label, disputes: list[Dispute]) -> Dispute | None:
    """Return the vertebra that a label is about: the nearest within `NEAR_MM`; without a place that of its level."""
    middle = label.center if label.keypoints is None else label.keypoints.mean((0, 1))
    if middle is None:
        return next((d for d in disputes if d.level == label.level), None)
    near = min(disputes, key=lambda d: float(np.linalg.norm(d.mean.mean((0, 1)) - middle)), default=None)
    return near if near and np.linalg.norm(near.mean.mean((0, 1)) - middle) < NEAR_MM else None
