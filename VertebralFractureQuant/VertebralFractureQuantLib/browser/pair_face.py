"""The prior's view as the face of its review: one straightened view, and messages on the page of the open study."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import numpy as np
from trame_slicer.views import SliceView

from ..errors import as_coded
from ..scene.review import Review
from ..scene.study import StudyScene
from ..scene.views import NOWHERE, Views
from .face import BrowserFace
from .loupe import Loupe
from .mouse import Mouse

T = TypeVar("T")


class OneView:
    """The views that `Mouse` observes: a single straightened one."""

    def __init__(self, view: SliceView):
        self.straightened = view
        self.patient: Sequence[SliceView] = ()
        self.all: Sequence[SliceView] = (view,)


class PriorFace:
    """The `scene.face.Face` of the prior's review.

    Parameters
    ----------
    main : the face of the open study.
    view : the prior's straightened view.

    Attributes
    ----------
    review : the review of the prior.
    on_changed : called with the vertebrae whose measurements changed, or None after an action.
    on_acted : called after each action that is in the journal.
    on_pressed : called when the mouse is pressed in the view.
    """

    def __init__(self, main: BrowserFace, view: SliceView):
        self._main = main
        self._view = view
        self.on_changed: Callable[[Collection[str] | None], None] = lambda _: None
        self.on_acted: Callable[[], None] = lambda: None
        self.on_pressed: Callable[[], None] = lambda: None
        views = Views((view.get_view_node_id(),), NOWHERE)
        self.review = Review(StudyScene(main.views.app.scene, views), self, main.review.who)
        view.modified.connect(lambda _: self.review.scrolled())
        self.loupe = Loupe(self.review)
        self.loupe.send = lambda values: main.loupe.send(values)
        self._mouse = Mouse(OneView(view), self._press, self._look, main.adjust, self.loupe.dragged)

    @property
    def straightened(self) -> Any:
        """See `Face`."""
        return self._view.get_view_node()

    @property
    def patient(self) -> Sequence[Any]:
        """See `Face`; the prior has no view of the patient."""
        return ()

    @property
    def cameras(self) -> Sequence[Any]:
        """See `Face`."""
        return ()

    @property
    def renderer(self) -> Any:
        """See `Face`."""
        return self._view.first_renderer()

    def opened(self) -> None:
        """See `Face`."""
        self._view.set_background_volume_id(self.review.study.nodes["straightened"].GetID())

    def changed(self) -> None:
        """See `Face`."""
        self.on_changed(None)

    def followed(self, vertebra_ids: Collection[str]) -> None:
        """See `Face`."""
        self.on_changed(vertebra_ids)

    def acted(self) -> None:
        """See `Face`."""
        self.on_acted()

    def render(self) -> None:
        """See `Face`."""
        self._view.schedule_render()

    def tell(self, what: str | Exception) -> None:
        """See `Face`; the message says that it is about the prior."""
        self._main.tell(f"Prior: {what if isinstance(what, str) else as_coded(what).message}")

    def later(self, do: Callable[[], None]) -> None:
        """See `Face`."""
        self._main.later(do)

    def work(self, stage: str, do: Callable[[], T], then: Callable[[T], None]) -> None:
        """See `Face`."""
        self._main.work(stage, do, then)

    def _press(self, node: Any, point: np.ndarray) -> None:
        with self._main.state:
            self.on_pressed()
            self.review.pick(node, point)

    def _look(self, node: Any, point: np.ndarray) -> None:
        with self._main.state:
            self._main.state.under_mouse = self.review.place_text(node, point)
