"""Does the body contradict the header? What the cues of `orientation` and a second look at the mirrored scan conclude.

A contradiction that is certain refuses the study; one that is likely becomes the flag `orientation_doubtful`. Whether
left and right are exchanged cannot be seen on a spine. Nothing is corrected here: only the user knows the header.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import VFQError
from ..imaging.ct import CTVolume
from ..spine.quality import CODES, Flag
from ..spine.record import Vertebra
from .orientation import Cues, cues, mirrored

# HU, medians over a column. Behind the bodies of 16 real scans and 40 phantoms the ring of bone is 51 or more denser
# than what it encloses. Where front and back were exchanged it is 31 or less, unless vessels with contrast look like a
# ring: then the real one, in front, is clearer. The first are upright by 62 or more,
# turned upside down by -61 or less. Of 567 times three neighbours, none lies below -20.
CANAL_HU, CLEARER_HU = 40.0, 30.0
UPSIDE_DOWN_HU, HARDLY_UPRIGHT_HU = -40.0, -20.0
FEWEST_CERTAIN, FEWEST_DOUBTED = 3, 2
FRONT, HEAD = "front and back", "head and feet"
Again = Callable[[CTVolume], tuple[Vertebra, ...]]  # finds vertebrae in another scan; none if it fails


@dataclass(frozen=True)
class Contradiction:
    """What seems to be exchanged in the header, why, and if this is certain."""

    exchanged: tuple[str, ...]  # of FRONT, HEAD; empty if no canal is seen on either side
    reason: str
    certain: bool

    def flag(self) -> Flag:
        """Return the flag of the study."""
        return Flag("orientation_doubtful", f"{self._claim()} {CODES['orientation_doubtful'].remedy}")

    def error(self) -> VFQError:
        """Return the refusal `orientation_contradicts_anatomy`."""
        return VFQError(
            "orientation_contradicts_anatomy",
            f"{self._claim()} Convert the scan again from DICOM, or correct the orientation in its header. If the "
            "header is right, analyse the scan with --trust-header.",
        )

    def _claim(self) -> str:
        if not self.exchanged:
            return f"{self.reason[0].upper()}{self.reason[1:]}."
        axes = ", and ".join(self.exchanged)
        return f"The body contradicts the header of the scan: {axes} seem to be exchanged, because {self.reason}."


def contradiction(ct: CTVolume, vertebrae: tuple[Vertebra, ...], again: Again) -> Contradiction | None:
    """Return what the body says against the header of `ct`; None if the two agree or nothing can be said.

    vertebrae : what was found; none if the analysis failed.
    again : finds the vertebrae of a mirrored scan. It is called only if no canal is seen behind `vertebrae`, or none
        that is clearer than what lies in front of them.
    """
    seen = cues(ct, _points(vertebrae))
    in_front = cues(ct, _points(vertebrae), in_front=True)
    ahead = _median(seen.ring - in_front.ring, np.inf)  # unknown where the scan ends in front
    if _median(seen.ring) > CANAL_HU and ahead > CLEARER_HU:
        return _upside_down(seen)
    turned = mirrored(ct, 1)
    found = again(turned)
    other = cues(turned, _points(found))
    better = _median(other.ring) - _median(seen.ring, 0.0) > CLEARER_HU
    if len(found) >= FEWEST_CERTAIN and _median(other.ring) > CANAL_HU and better:
        return _exchanged(other)
    return _without_canal(seen, in_front)


def _without_canal(seen: Cues, in_front: Cues) -> Contradiction | None:
    """Return what vertebrae without a clear canal behind them tell, if the mirrored scan shows no better ones."""
    if len(seen.ring) < FEWEST_DOUBTED:
        return None
    if _median(in_front.ring) - max(_median(seen.ring), 0.0) > CANAL_HU:
        reason = "the spinal canal seems to lie in front of the vertebrae"
        return Contradiction((FRONT,), reason, certain=len(seen.ring) >= FEWEST_CERTAIN)
    if _median(seen.ring) > CANAL_HU:
        return None
    if np.isfinite(seen.ring).any():
        why = "no spinal canal is seen behind the vertebrae"
    else:
        why = "the scan ends behind the vertebrae, and no spinal canal is in view"
    reason = f"{why}, so what was found may be no spine, or turned"
    return Contradiction((), reason, certain=False)


def _exchanged(mirrored_cues: Cues) -> Contradiction:
    """Return the contradiction of a scan in which a spine is found once front and back are exchanged."""
    count = int((mirrored_cues.ring > CANAL_HU).sum())
    reason = (
        f"then the spinal canal lies behind {count} of {len(mirrored_cues.ring)} vertebrae, and now it does not "
        "(left and right may be exchanged as well, if the patient lay prone; this cannot be seen)"
    )
    head = _upside_down(mirrored_cues)
    exchanged = (FRONT, HEAD) if head and head.certain else (FRONT,)
    return Contradiction(exchanged, reason, certain=True)


def _upside_down(seen: Cues) -> Contradiction | None:
    known = seen.upright[seen.ring > CANAL_HU]
    if len(known) < FEWEST_DOUBTED or np.median(known) > HARDLY_UPRIGHT_HU:
        return None
    reason = f"pedicles and spinous processes of {int((known < 0).sum())} of {len(known)} vertebrae are upside down"
    return Contradiction((HEAD,), reason, len(known) >= FEWEST_CERTAIN and bool(np.median(known) < UPSIDE_DOWN_HU))


def _points(vertebrae: tuple[Vertebra, ...]) -> np.ndarray:
    return np.reshape([v.keypoints for v in vertebrae], (-1, 3, 2, 3))


def _median(values: np.ndarray, otherwise: float = -np.inf) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else otherwise
