"""What a review needs of the program that shows it: 3D Slicer's panel, or the page in a browser.

MRML belongs to one thread, in which the face calls the review and the review calls the face.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Face(Protocol):
    """The program that shows a review."""

    @property
    def straightened(self) -> Any:
        """The slice node of the view that shows the straightened image."""

    @property
    def patient(self) -> Sequence[Any]:
        """The slice nodes of the patient's views: sagittal, coronal, axial."""

    @property
    def cameras(self) -> Sequence[Any]:
        """The camera nodes of 3D views."""

    @property
    def renderer(self) -> Any:
        """The vtkRenderer of the view that shows the straightened image, or None if there is none."""

    def opened(self) -> None:
        """Put the volumes of the study that was opened into the views."""

    def changed(self) -> None:
        """Show everything again: rows and their order, selection, mode, plane and window may have changed."""

    def followed(self, vertebra_ids: Collection[str]) -> None:
        """Show these vertebrae's measurements, which changed during a drag.

        If `vertebra_ids` is empty, only the selection or the plane changed.
        """

    def acted(self) -> None:
        """Save the files soon: an action was added to the journal."""

    def render(self) -> None:
        """Render all views soon."""

    def tell(self, what: str | Exception) -> None:
        """Show the reader a sentence, or the message of an error."""

    def later(self, do: Callable[[], None]) -> None:
        """Call `do` once the event that is being handled is over."""

    def work(self, stage: str, do: Callable[[], T], then: Callable[[T], None]) -> None:
        """Call `do` in another thread, and `then` with its result in this one; show an error of either."""


def answer_later(face: Face, do: Callable[[], None]) -> None:
    """Call `do` after the present MRML event, and show its errors.

    MRML events arrive while their nodes are in use, so an answer that removes nodes has to wait.
    """

    def answer() -> None:
        """Do it; an error is shown to the reader."""
        try:
            do()
        except Exception as error:
            face.tell(error)

    face.later(answer)
