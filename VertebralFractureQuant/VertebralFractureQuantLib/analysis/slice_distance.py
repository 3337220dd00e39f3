"""Is the body half or twice as long as the header says? A second look at a scan with doubtful vertebrae.

At a wrong slice distance the networks find structures of human size all the same: halves of bodies, or two bodies as
one. Many of them are doubtful, and at the true distance none is. Nothing is corrected: only the user knows the header.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..errors import VFQError
from ..imaging.ct import CTVolume
from ..spine.plausibility import column_flags, scale_flag
from ..spine.quality import Flag
from ..spine.record import Vertebra
from .quality import is_uncertain

# What the true length may be of the stated one, in words for the user. Of 16 scans at half and twice their length a
# fifth or more of the vertebrae are doubtful; at their true length none is.
LENGTHS = {0.5: "half", 2.0: "twice"}
LEAST_DOUBTED, FEWEST = 0.2, 4
Again = Callable[[CTVolume], tuple[Vertebra, ...]]  # finds vertebrae in another scan; none if it fails


def wrong_distance(ct: CTVolume, vertebrae: tuple[Vertebra, ...], again: Again) -> str:
    """Return a sentence if another slice distance explains doubtful vertebrae; "" if not, or if few are doubtful.

    again : finds the vertebrae of a lengthened scan. It is called only if many of `vertebrae` are doubtful.
    """
    doubted = int(_doubtful(vertebrae).sum())
    if doubted < LEAST_DOUBTED * len(vertebrae) or not doubted:
        return ""
    for factor, words in LENGTHS.items():
        found = again(lengthened(ct, factor))
        if len(found) >= FEWEST and not _doubtful(found).any() and not _scale(found):
            return (
                f"As the header says, {doubted} of {len(vertebrae)} vertebrae are doubtful, but {len(found)} of human "
                f"size, and no doubtful one, are found if slices are {words} as far apart."
            )
    return ""


def distance_error(claim: str) -> VFQError:
    """Return the refusal `implausible_size` with the sentence of `wrong_distance`."""
    return VFQError(
        "implausible_size",
        f"{claim} Check the slice distance in the header of the scan. If it is right, analyse the scan with "
        "--trust-header.",
    )


def distance_flag(claim: str) -> Flag:
    """Return the flag `implausible_size` of the study with the sentence of `wrong_distance`."""
    return Flag("implausible_size", f"{claim} Check the slice distance in the header: if it is wrong, all heights are.")


def lengthened(ct: CTVolume, factor: float) -> CTVolume:
    """Return a view of `ct` whose patient is longer by `factor`; voxels are not copied."""
    matrix = ct.ijk_to_ras.copy()
    matrix[2] *= factor
    return replace(ct, ijk_to_ras=matrix, widest_gap_mm=ct.widest_gap_mm * factor)


def _doubtful(vertebrae: tuple[Vertebra, ...]) -> np.ndarray:
    """Return booleans `(n,)`: vertebrae whose size, distance or score is doubtful."""
    flags = column_flags(_points(vertebrae), [v.level for v in vertebrae])
    return np.array([bool(own) or is_uncertain(v) for own, v in zip(flags, vertebrae, strict=True)], bool)


def _scale(vertebrae: tuple[Vertebra, ...]) -> Flag | None:
    likely = [v.level_probabilities for v in vertebrae]
    return scale_flag(_points(vertebrae), [v.level for v in vertebrae], likely)


def _points(vertebrae: tuple[Vertebra, ...]) -> np.ndarray:
    return np.reshape([v.keypoints for v in vertebrae], (-1, 3, 2, 3))
