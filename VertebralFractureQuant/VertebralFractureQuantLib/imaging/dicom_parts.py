"""What a DICOM series holds besides one stack of slices: odd images, slices sent twice, several phases.

Odd images and second copies are left out; phases are told apart by what their headers say. Everything that is left out
is named in a note. Positions are DICOM's: LPS mm.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import VFQError
from .checks import MIN_SLICES
from .dicom_slices import Slice
from .dicom_stack import SAME_AXES, SAME_PLACE_MM, VARYING

SAME_PIXELS = 1e-3  # relative difference of pixel spacings
MOST_ODD = 0.1  # up to this share of a series may be odd images, such as scouts
# Attributes that tell the phases and reconstructions of a series apart, the most telling first.
APART = (
    "AcquisitionNumber", "TemporalPositionIdentifier", "NominalPercentageOfCardiacPhase",
    "NominalPercentageOfRespiratoryPhase", "TriggerTime", "ConvolutionKernel", "EchoNumbers", "KVP", "ImageType",
    "ContrastBolusAgent", "SliceThickness", "AcquisitionTime", "ContentTime",
)  # fmt: skip
# Their values are not shown: they may tell who and when, or are no text.
NUMBERED = (
    "ImageType", "ContrastBolusAgent", "AcquisitionTime", "ContentTime", "NominalPercentageOfCardiacPhase",
    "NominalPercentageOfRespiratoryPhase",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Slices that may make one volume; `label` says which phase of a series they are, "" if it has one."""

    slices: list[Slice]
    label: str = ""
    notes: tuple[str, ...] = field(default=())


def without_odd(slices: list[Slice]) -> Part:
    """Return the slices without the few images whose size, orientation or pixel spacing is not that of most.

    VFQError `mixed_series` if they are more than a few.
    """
    norm = _usual(slices)
    odd = {
        "size": np.array([s.size != norm.size for s in slices]),
        "orientation": np.abs(np.array([s.axes for s in slices]) - norm.axes).max((1, 2)) > SAME_AXES,
        "pixel spacing": _differs(np.array([s.pixel_spacing for s in slices]), np.array(norm.pixel_spacing)),
    }
    left = np.logical_or.reduce(list(odd.values()))
    mixed = [f"{name} ({n.sum()} of {len(slices)} slices differ from the others)" for name, n in odd.items() if n.any()]
    if left.mean() > MOST_ODD:
        raise VFQError(
            "mixed_series",
            f"The series mixes images of different {', '.join(mixed)}. Export its parts as separate series.",
        )
    note = (f"Left out of the series as no slices of its stack: images of different {', '.join(mixed)}.",)
    return Part([s for s, out in zip(slices, left, strict=True) if not out], "", note if mixed else ())


def _usual(slices: list[Slice]) -> Slice:
    """Return a slice whose geometry is that of most slices."""
    keys = [(s.size, tuple(np.round(s.axes.ravel(), 2) + 0.0), tuple(np.round(s.pixel_spacing, 3))) for s in slices]
    most = Counter(keys).most_common(1)[0][0]
    return slices[keys.index(most)]


def _differs(values: np.ndarray, norm: np.ndarray) -> np.ndarray:
    differs: np.ndarray = (np.abs(values - norm) > SAME_PIXELS * np.abs(norm)).any(1)
    return differs


def places(slices: list[Slice]) -> np.ndarray:
    """Return the number of each slice's place along the normal, `(n,)` int: slices at one place share it.

    Two slices lie at one place if they are nearer than rounding, or than a twentieth of the usual distance.
    """
    heights = np.array([s.position for s in slices]) @ slices[0].normal
    order = np.argsort(heights, kind="stable")
    steps = np.diff(heights[order])
    apart = steps[steps > SAME_PLACE_MM]
    same = max(SAME_PLACE_MM, VARYING * float(np.median(apart))) if len(apart) else SAME_PLACE_MM
    found = np.empty(len(slices), int)
    found[order] = np.concatenate([[0], np.cumsum(steps > same)])
    return found


def without_copies(part: Part) -> Part:
    """Return the part with each slice once: the first file of those with one place and the same voxels."""
    where = places(part.slices)
    repeated = np.bincount(where)[where] > 1
    seen: set[tuple[int, bytes]] = set()
    kept = []
    for one, place, again in zip(part.slices, where, repeated, strict=True):
        key = (int(place), hashlib.sha256(one.voxels().tobytes()).digest()) if again else None
        if key is None or key not in seen:
            kept.append(one)
            seen |= {key} if key else set()
    left = len(part.slices) - len(kept)
    note = (f"{left} files that repeat a slice of the series were left out.",) if left else ()
    return replace(part, slices=kept, notes=part.notes + note)


def phases(part: Part) -> list[Part]:
    """Split a part with several slices at one place into its phases, by what their headers say.

    VFQError `mixed_series` if the headers say nothing.
    """
    open_parts, done = [part], []
    for attribute in APART:
        split = [finer for one in open_parts for finer in _split(one, attribute)]
        done += [one for one in split if not repeats(one)]
        open_parts = [one for one in split if repeats(one)]
    if done:
        return done
    raise VFQError(
        "mixed_series",
        f"{repeats(part)} of {len(part.slices)} slices have the same position as another but other voxels (several "
        "phases or reconstructions in one series), and their headers do not tell them apart. Put the files of one "
        "phase into a folder, or export each phase as a separate series.",
    )


def divided(part: Part, code: str) -> list[Part]:
    """Split a part that is no stack, which failed with `code`, by the first attribute whose values differ.

    Where slices seem to be missing, only another kernel is a reason: phases may follow each other along the table.
    [] if no attribute divides the part.
    """
    attributes = {"mixed_series": APART, "missing_slices": ("ConvolutionKernel",)}
    for attribute in attributes.get(code, ()):
        split = _split(part, attribute)
        if len(split) > 1:
            return split
    return []


def repeats(part: Part) -> int:
    """Return how many slices lie at the place of another one."""
    return len(part.slices) - len(set(places(part.slices).tolist()))


def _split(part: Part, attribute: str) -> list[Part]:
    values = [s.header.text[attribute] for s in part.slices]
    different = sorted(set(values), key=lambda text: (len(text), text))
    if not 1 < len(different) <= len(part.slices) / MIN_SLICES:
        return [part]
    return [
        replace(
            part,
            slices=[s for s, own in zip(part.slices, values, strict=True) if own == value],
            label=", ".join(filter(None, [part.label, _named(attribute, value, n)])),
        )
        for n, value in enumerate(different, 1)
    ]


def _named(attribute: str, value: str, n: int) -> str:
    """Name a phase; values that may identify a patient are replaced by a number."""
    return f"{attribute} {f'no. {n}' if attribute in NUMBERED else value or 'absent'}"
