"""Which CT series of a folder to read: the fittest first, with words for those that are passed over.

A series is fit if it covers much of the body's length with thin slices, and is neither a time series nor a map of
another quantity. The limits were chosen by hand. Positions are DICOM's: LPS mm.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from .checks import MIN_SLICES
from .dicom_parts import Part, places
from .dicom_slices import Slice

# A thinner slice is no fitter; a thicker one loses, beyond `THICK_MM` quickly.
THIN_MM, THICK_MM = 1.0, 3.0
REFORMATTED = 0.5  # fitness of a reformat beside that of an axial series of the same length and slices
AS_FIT = 1.05  # two series are equally fit if their fitness differs by less than about this factor
PASSES = 1.5  # a series with this many slices at each place repeats them over time
TIMES = r"PERF\w*|DYNAMIC|CINE|4D|MONITORING|PREMONITORING|SMART ?PREP"
MAPS = (
    r"CBF|CBV|MTT|TTP|TMAX|IODINE|VNC|VIRTUAL NON.?CONTRAST|Z.?EFF\w*|EFFECTIVE.?Z|MIP|MINIP|VRT|PROJECTION IMAGE|"
    r"TOPOGRAM|SCOUT|LOCALIZER|SURVIEW"
)
REFORMATS = r"MPR|CSA MPR|REFORMATTED|CURVED|SAG|SAGITTAL|COR|CORONAL"
LUNG = r"LUNG"


@dataclass(frozen=True)
class Series:
    """Slices that are one series: by their UID or, `joined`, by everything else (the UIDs are sorted)."""

    uids: tuple[str, ...]
    slices: list[Slice]

    @property
    def joined(self) -> bool:
        """True if each slice has a series UID of its own."""
        return len(self.uids) > 1

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of its UIDs, by which a record knows the series; None if it has no UID."""
        return fingerprint_of(self.uids) if all(self.uids) else None

    def note(self) -> tuple[str, ...]:
        """Say that series of one slice each were stacked; () for an ordinary series."""
        sentence = (
            f"{len(self.uids)} series of one slice each were stacked as one: they have the same study and geometry, "
            "as after anonymisation with a series UID for each slice."
        )
        return (sentence,) if self.joined else ()


def fingerprint_of(uids: Iterable[str]) -> str:
    """Return "sha256:" and the first 8 hexadecimal digits of the hash of series UIDs, sorted.

    It finds a series again in its folder. About one in four thousand million shares it, so it does not name a patient.
    """
    return f"sha256:{sha256(chr(92).join(sorted(uids)).encode()).hexdigest()[:8]}"


def all_series(ct: dict[str, list[Slice]]) -> list[Series]:
    """Return every series, the fittest first; series of one slice each that fit together count as one."""
    alike: defaultdict[tuple[object, ...], list[str]] = defaultdict(list)
    for uid, slices in ct.items():
        if len(slices) == 1:
            alike[_likeness(slices[0])].append(uid)
    joined = [Series(tuple(sorted(uids)), [ct[uid][0] for uid in uids]) for uids in alike.values()]
    joined = [one for one in joined if _n_places(one.slices) >= MIN_SLICES]
    taken = {uid for one in joined for uid in one.uids}
    return sorted(
        [*joined, *(Series((uid,), slices) for uid, slices in ct.items() if uid not in taken)], key=_unfitness
    )


def _likeness(one: Slice) -> tuple[object, ...]:
    text = one.header.text
    same = ("StudyInstanceUID", "FrameOfReferenceUID", "SeriesDescription", "ConvolutionKernel", "SliceThickness")
    return (*(text[key] for key in same), one.size, *np.round(one.axes.ravel(), 3) + 0.0, *one.pixel_spacing)


def _unfitness(series: Series) -> tuple[object, ...]:
    fitness = _fitness(series.slices)
    return (
        _n_places(series.slices) < MIN_SLICES,
        kind(series.slices) != "",
        -round(np.log(max(fitness, 1e-9)) / np.log(AS_FIT)),
        _says(series.slices, LUNG),
        series.slices[0].header.text["ImageType"].upper().startswith("DERIVED"),
        -len(series.slices),
        series.uids,
    )


def fittest(parts: Iterable[Part]) -> list[Part]:
    """Return parts of one series with the fittest first; equal ones keep their order."""
    return sorted(parts, key=lambda part: -round(np.log(max(_fitness(part.slices), 1e-9)) / np.log(AS_FIT)))


def _fitness(slices: list[Slice]) -> float:
    """Return the length in mm, lessened for thick slices and for reformats."""
    apart = max(_apart(slices), THIN_MM)
    reformat = abs(slices[0].normal[2]) < np.sqrt(0.5) or _says(slices, REFORMATS)
    return _length(slices) / np.sqrt(apart) * min(1.0, THICK_MM / apart) ** 2 * (REFORMATTED if reformat else 1.0)


def _length(slices: list[Slice]) -> float:
    """Return how much of the body's length a series covers, mm: along its slices or across them."""
    one = slices[0]
    across = np.ptp([s.position for s in slices], axis=0)[2]
    within = np.abs(one.axes[:, 2]) * np.array(one.size) * one.pixel_spacing
    return float(max(across, *within))


def _n_places(slices: list[Slice]) -> int:
    return len(set(places(slices).tolist()))


def _apart(slices: list[Slice]) -> float:
    """Return the usual distance of slices, mm."""
    heights = np.array([s.position for s in slices]) @ slices[0].normal
    where = places(slices)
    steps = np.diff([heights[where == n][0] for n in range(where.max() + 1)]) if where.max() else np.array([0.0])
    return float(np.median(np.abs(steps)))


def kind(slices: list[Slice]) -> str:
    """Name what makes a series unfit whatever its length: a time series or a map; "" for neither."""
    if _says(slices, TIMES) or len(slices) >= PASSES * _n_places(slices) > 1:
        return "perfusion, cine or another time series"
    return "map, projection or scout" if _says(slices, MAPS) else ""


def _says(slices: list[Slice], words: str) -> bool:
    """True if the image type, kernel or description of a series contains one of `words`."""
    text = slices[len(slices) // 2].header.text
    said = " ".join(text[key] for key in ("ImageType", "ConvolutionKernel", "SeriesDescription"))
    return re.search(rf"(?<![A-Z0-9])({words})(?![A-Z])", re.sub(r"[\\_]", " ", said.upper())) is not None


def described(series: Series) -> str:
    """Describe a series for a user who is to choose one; its free text is left out, as it may name a patient."""
    slices = series.slices
    text = slices[0].header.text
    number = f"series {text['SeriesNumber']}: " if text["SeriesNumber"].isdigit() else ""
    apart = f" {_apart(slices):.3g} mm apart" if _n_places(slices) > 1 else ""
    kernel = (
        f", kernel {text['ConvolutionKernel']}" if re.fullmatch(r"[\w. \\+-]{1,20}", text["ConvolutionKernel"]) else ""
    )
    return f"{number}{len(slices)} slices{apart}{kernel}"


def with_uid(series: Series) -> str:
    """Describe a series with its UID, as --series takes it; such a sentence belongs in no record."""
    return f"{described(series)}, UID {series.uids[0] or 'absent'}"
