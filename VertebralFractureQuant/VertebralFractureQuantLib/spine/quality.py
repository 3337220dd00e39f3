"""Quality flags: reasons to doubt a measurement, each with a code, a place and a message that says what to do.

A flag never changes a measurement. Flags of single vertebrae are kept with the vertebra; flags of the study are made
from them and name the vertebrae concerned. Which conditions raise a flag is decided in `analysis.quality`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Doubt(NamedTuple):
    """What a code means, what the reader should do, and if it suggests that the measurement has failed."""

    meaning: str
    remedy: str
    suspect: bool = True


# From the most to the least serious; flags are listed in this order.
CODES = {
    "orientation_doubtful": Doubt(
        "the body seems to lie otherwise than the header of the scan says",
        "Compare the image with the header: check that front, back, head and feet are where they are named. Convert "
        "the scan again from DICOM if not.",
    ),
    "spacing_doubtful": Doubt(
        "the header gives 1 x 1 x 1 mm and no position, as programs write that have lost the true values",
        "Check the voxel spacing against the DICOM files: if it is wrong, all heights are.",
    ),
    "curve_off_bone": Doubt(
        "the curve may have left the spine", "Press s and click the middle of the vertebral bodies there."
    ),
    "impossible_points": Doubt(
        "the points of a vertebra are not those of a vertebral body, so it is not counted",
        "Put its points right, or reject it.",
    ),
    "implausible_size": Doubt(
        "a vertebra has a size that is hardly possible at its level",
        "Check the voxel spacing of the scan, and that the points lie on a vertebral body; reject the vertebra if not.",
    ),
    "column_gap": Doubt(
        "a vertebra seems to be missing, or to be found twice",
        "Press a and click the missing vertebra, or reject the one that is too many.",
    ),
    "cut_by_border": Doubt(
        "the vertebra or the curve reaches the border of the scan",
        "Check the points at the border, and reject the vertebra if a part of its body is missing.",
        suspect=False,
    ),
    "metal": Doubt(
        "there is metal in or beside the vertebra", "Check the points: metal hides endplates.", suspect=False
    ),
    "low_score": Doubt(
        "the network is less certain of the vertebra or of its key points than usual",
        "Check the points, and reject the vertebra if there is none.",
    ),
    "clipped_intensities": Doubt(
        "bright or dark intensities are cut off, so endplates and levels are less certain",
        "Use the original CT instead of a windowed or 8-bit copy.",
        suspect=False,
    ),
    "thick_slices": Doubt(
        "the slices are thick, so heights are less exact",
        "Use a reconstruction with slices of 3 mm or less if there is one.",
        suspect=False,
    ),
}


@dataclass(frozen=True)
class Flag:
    """One reason to doubt.

    Attributes
    ----------
    code : a key of `CODES`, or the code of a newer program.
    message : what is wrong and what to do, one or two sentences.
    where : names of the vertebrae concerned, cranial first; empty for the whole study, and for a vertebra's own flag.
    """

    code: str
    message: str
    where: tuple[str, ...] = ()


def is_suspect(flag: Flag) -> bool:
    """True if a study's flag suggests a failure, such as a missed vertebra, and not just a difficult scan.

    An uncertain network suggests one where it is uncertain of more than one vertebra.
    """
    if flag.code == "low_score" and len(flag.where) == 1:
        return False
    return flag.code not in CODES or CODES[flag.code].suspect


def place(where: Sequence[str]) -> str:
    """Return names as text: "T6", "T6 and T7", "T6 to T9"; "" without names."""
    if len(where) < 3:
        return " and ".join(where)
    return f"{where[0]} to {where[-1]}"


def codes_text(flags: Iterable[Flag]) -> str:
    """Return the codes of flags, each once, most serious first, separated by spaces."""
    return " ".join(dict.fromkeys(flag.code for flag in sorted_flags(flags)))


def sorted_flags(flags: Iterable[Flag]) -> tuple[Flag, ...]:
    """Return flags with the most serious first; codes of a newer program come before all."""
    order = [*CODES]
    return tuple(sorted(flags, key=lambda flag: order.index(flag.code) if flag.code in CODES else -1))


def of_study(names: Sequence[str], own: Sequence[Iterable[Flag]], whole: Iterable[Flag] = ()) -> tuple[Flag, ...]:
    """Return the flags of a study from those of its vertebrae, cranial first: one for each stretch with the same code.

    Parameters
    ----------
    names, own : of each vertebra, its name and its flags; give no flags for one that a reader has settled.
    whole : flags of the whole study.
    """
    found = list(whole)
    for code in dict.fromkeys(flag.code for flags in own for flag in flags):
        concerned = [i for i, flags in enumerate(own) if code in (flag.code for flag in flags)]
        for stretch in np.split(np.array(concerned), np.flatnonzero(np.diff(concerned) > 1) + 1):
            first = next(flag for flag in own[stretch[0]] if flag.code == code)
            found.append(_of_stretch(first, tuple(names[i] for i in stretch)))
    return sorted_flags(found)


def _of_stretch(flag: Flag, where: tuple[str, ...]) -> Flag:
    if flag.code not in CODES:
        return Flag(flag.code, flag.message, where)
    doubt = CODES[flag.code]
    told = f"{doubt.meaning[0].upper()}{doubt.meaning[1:]}: {place(where)}. {doubt.remedy}"
    return Flag(flag.code, told, where)
