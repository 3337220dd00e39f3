"""The networks at work for a reader: six key points detected at a click, or a whole spine along clicked points.

Plain data in and out, no MRML, so it may run in any thread. Clicks are straight [R, A, S] or patient RAS mm.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from ..analysis import Models, analyze_along
from ..analysis.curve_finding import drawn_curve
from ..analysis.curve_repair import PresentCurve, repaired_curve
from ..analysis.detection import propose_vertebra, straightened_slab
from ..errors import VFQError
from ..imaging.ct import CTVolume
from ..spine.curve import SpineCurve
from ..spine.record import SpineAnalysis, Vertebra
from .merging import Merged, merged
from .state import State
from .straight import Reformat, reformat

MOST_KNOWN = 3  # straightened images that are kept, so that undo need not sample them again


@dataclass(frozen=True, eq=False)
class Rescued:
    """What a reader's clicks on the spine give: another curve, and what becomes of the vertebrae.

    Attributes
    ----------
    analysis, made : the analysis along the curve, and its straightened image.
    known : the vertebrae of the study by id, from which `merged` was computed.
    """

    analysis: SpineAnalysis
    made: Reformat
    known: Mapping[str, State]
    merged: Merged

    @classmethod
    def of(cls, known: Mapping[str, State], analysis: SpineAnalysis, made: Reformat) -> Rescued:
        """Return what becomes of the vertebrae `known`, by id, with this analysis."""
        detected = bool(analysis.vertebrae or analysis.models)
        return cls(analysis, made, known, merged(known, analysis.vertebrae, made.straightening, detected))


@dataclass(eq=False)
class Machine:
    """The networks on one CT; if they cannot be loaded, `models` is None and `why` is the reason."""

    ct: CTVolume
    models: Models | None
    why: VFQError | None = None
    _latest: tuple[SpineCurve, np.ndarray] | None = field(default=None, init=False)
    _known: deque[Reformat] = field(default_factory=lambda: deque(maxlen=MOST_KNOWN), init=False)

    @classmethod
    def of(cls, ct: CTVolume, models: Models | VFQError) -> Machine:
        """Return the machine with its networks, or with the reason why there are none."""
        return cls(ct, None, models) if isinstance(models, VFQError) else cls(ct, models)

    def use(self, models: Models | VFQError) -> None:
        """Use other networks from now on, or none for this reason."""
        self.models, self.why = (None, models) if isinstance(models, VFQError) else (models, None)

    def propose(self, curve: SpineCurve, straight: np.ndarray) -> Vertebra:
        """Return the vertebra at a click `(3,)` straight mm.

        VFQError `outside_reformat` if the click is outside the straightened image; without networks, the reason (such
        as `bad_weights`).
        """
        anterior, arc = float(straight[1]), -float(straight[2])
        found = propose_vertebra(self.ct, curve, self._models, anterior, arc, self._slab(curve))
        if found is None:
            raise VFQError("outside_reformat", "The click is outside the straightened image. Click on a vertebra.")
        return found

    def along(self, points: np.ndarray, present: PresentCurve | None = None) -> tuple[SpineAnalysis, Reformat]:
        """Return the analysis along points `(n, 3)` patient RAS mm, and its straightened image.

        The `present` curve is led through the points, of which one is enough; without one, three are needed. Without
        networks the analysis has the curve and no vertebrae. VFQError `too_few_points` and others.
        """
        if self.models:
            analysis = analyze_along(self.ct, self.models, points, present=present)
        else:
            analysis = self._drawn(repaired_curve(present.curve, points) if present else drawn_curve(points))
        return analysis, self.reformat(SpineCurve(analysis.curve))

    def rescued(self, points: np.ndarray, known: Mapping[str, State], present: PresentCurve | None = None) -> Rescued:
        """Return what `along` gives for a study with the vertebrae `known`, by id."""
        return Rescued.of(known, *self.along(points, present))

    def reformat(self, curve: SpineCurve) -> Reformat:
        """Return the straightened image along a curve, see `straight.reformat`; one of the latest is kept."""
        for known in list(self._known):
            if np.array_equal(known.straightening.curve.points, curve.points):
                return known
        made = reformat(self.ct, curve)
        self.keep(made)
        return made

    def keep(self, made: Reformat) -> None:
        """Keep a straightened image of this CT for `reformat`."""
        self._known.append(made)

    def warm_up(self, curve: SpineCurve) -> None:
        """Make ready what the first click needs: the slab along the curve, and the networks; for any thread."""
        with suppress(VFQError):
            self.propose(curve, np.array([0.0, 0.0, -curve.length / 2]))

    def _drawn(self, curve: SpineCurve) -> SpineAnalysis:
        ct = self.ct
        return SpineAnalysis(
            ct.name,
            shape=ct.voxels.shape,
            spacing_mm=ct.spacing_mm,
            ijk_to_ras=ct.ijk_to_ras,
            series=ct.series,
            curve=curve.points,
            limits_mm=(0.0, curve.length),
        )

    @property
    def _models(self) -> Models:
        if self.models is None:
            raise self.why or VFQError(
                "bad_weights", "The networks are not available. Place the six points by hand (b)."
            )
        return self.models

    def _slab(self, curve: SpineCurve) -> np.ndarray:
        if self._latest is None or self._latest[0] is not curve:
            self._latest = curve, straightened_slab(self.ct, curve)
        return self._latest[1]
