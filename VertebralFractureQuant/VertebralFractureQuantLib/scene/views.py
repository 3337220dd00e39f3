"""Which views show what of a study: the IDs of MRML view nodes, grouped by what they show."""

from __future__ import annotations

from dataclasses import dataclass

NOWHERE = ("nowhere",)  # the ID of no view; MRML shows a node that names no view in all of them


@dataclass(frozen=True)
class Views:
    """The IDs of view nodes.

    Attributes
    ----------
    straightened : slice views that show the straightened image.
    sagittal : the patient's sagittal slice views, which show all vertebrae.
    across : the patient's other slice views, which show the selected vertebra only.
    volume : 3D views, which show the spine.
    """

    straightened: tuple[str, ...] = ()
    sagittal: tuple[str, ...] = ()
    across: tuple[str, ...] = ()
    volume: tuple[str, ...] = ()

    @property
    def patient(self) -> tuple[str, ...]:
        """All slice views that show the patient."""
        return self.sagittal + self.across

    @property
    def whole(self) -> tuple[str, ...]:
        """All views that show every vertebra in the patient."""
        return self.sagittal + self.volume
