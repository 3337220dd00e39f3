"""The review page as the face of a review: it turns what a `Review` reports into values of the page's state.

`STATE` lists these values; the page shows them, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import numpy as np

from ..errors import as_coded
from ..scene.review import Review
from ..scene.rows import row, rows, summary
from ..scene.study import StudyScene
from ..scene.volumes import PRESETS
from ..spine.levels import NAMES
from .loupe import Loupe
from .mouse import Mouse
from .views import ReviewViews

T = TypeVar("T")

STATE: dict[str, Any] = {
    "case_name": "",
    "case_index": -1,
    "standing": "",
    "locked": "",
    "ask": None,
    "case_open": False,
    "readings": [],
    "case_choices": [],
    "path": "",
    "path_copied": None,
    "worklist": [],
    "rows": [],
    "summary": {},
    "decided": None,  # whether no vertebra is open; None if there is none
    "selected": None,
    "doubtful_first": False,
    "undoable": None,
    "redoable": None,
    "lateral": 0.0,
    "preset": PRESETS[0],
    "mode": None,
    "hint": "",
    "note": "",
    "close_up": False,
    "window": [0, 0],
    "under_mouse": "",
    "reader": "",
    "report": "",
    "report_note": "",
    "report_folder": "",
    "report_open": False,
    "report_page": "",
    "report_language": "en",
    "copied": None,
    "healthy_open": False,
    "healthy": None,
    "message": "",
    "busy": None,
    "unsaved": "",
    "tabs": 1,
    "help_open": False,
    "worklist_open": False,
    "names": list(NAMES),
}


class BrowserFace:
    """The `scene.review.Face` of the review page.

    Parameters
    ----------
    state : the page's state; the page shows each value that is set here.
    views : the slice views of the page.
    who : the reader's name.
    without_names : removes the names of files from a message, if they may not be shown.

    Attributes
    ----------
    review_type : the class of `review`.
    review : the `Review` that is shown.
    loupe : the loupe at the dragged point.
    on_acted : called after each action that is in the journal.
    on_changed : called with the vertebrae whose measurements changed, or None after an action.
    on_pressed : called when the mouse is pressed in a view.
    """

    review_type: type[Review] = Review

    def __init__(self, state: Any, views: ReviewViews, who: str, without_names: Callable[[str], str]):
        self.state = state
        self.views = views
        self.on_acted: Callable[[], None] = lambda: None
        self.on_changed: Callable[[Collection[str] | None], None] = lambda _: None
        self.on_pressed: Callable[[], None] = lambda: None
        self._without_names = without_names
        self.review = self.review_type(StudyScene(views.app.scene, views.ids()), self, who)
        views.straightened.modified.connect(lambda _: self.review.scrolled())
        self.loupe = Loupe(self.review)
        self._mouse = Mouse(views, self._press, self._look, self.adjust, self.loupe.dragged)

    @property
    def straightened(self) -> Any:
        """See `Face`."""
        return self.views.straightened.get_view_node()

    @property
    def patient(self) -> Sequence[Any]:
        """See `Face`."""
        return [view.get_view_node() for view in self.views.patient]

    @property
    def cameras(self) -> Sequence[Any]:
        """See `Face`; the page has no 3D view."""
        return ()

    @property
    def renderer(self) -> Any:
        """See `Face`."""
        return self.views.straightened.first_renderer()

    def opened(self) -> None:
        """See `Face`."""
        nodes = self.review.study.nodes
        self.views.show(nodes["straightened"], nodes["ct"])

    def changed(self) -> None:
        """See `Face`."""
        review, study = self.review, self.review.study
        with self.state:
            self.state.update(
                {
                    "rows": rows(study, review.order),
                    **_counted(study),
                    "undoable": review.editor and review.editor.journal.undoable,
                    "redoable": review.editor and review.editor.journal.redoable,
                    "selected": review.selected,
                    "locked": review.locked,
                    "doubtful_first": review.doubtful_first,
                    "lateral": review.lateral,
                    "preset": review.preset,
                    "mode": review.mode,
                    "hint": review.hint,
                    "note": review.note,
                    "close_up": review.close_up,
                    "window": [round(hu) for hu in review.window],
                }
            )
            self.on_changed(None)

    def followed(self, vertebra_ids: Collection[str]) -> None:
        """See `Face`."""
        study = self.review.study
        with self.state:
            if vertebra_ids:
                self.state.rows = [
                    row(study, r["id"], r["contradiction"]) if r["id"] in vertebra_ids else r for r in self.state.rows
                ]
                self.state.update(_counted(study))
            review = self.review
            self.state.update({"selected": review.selected, "lateral": review.lateral, "note": review.note})
            self.on_changed(vertebra_ids)

    def acted(self) -> None:
        """See `Face`."""
        self.on_acted()

    def render(self) -> None:
        """See `Face`."""
        self.views.render()

    def tell(self, what: str | Exception) -> None:
        """See `Face`; the page shows only the message of an error, because a traceback would contain paths."""
        message = what if isinstance(what, str) else as_coded(what).message
        with self.state:
            self.state.message = self._without_names(message)

    def later(self, do: Callable[[], None]) -> None:
        """See `Face`."""
        asyncio.get_running_loop().call_soon(do)

    def work(self, stage: str, do: Callable[[], T], then: Callable[[T], None]) -> None:
        """See `Face`."""

        async def working() -> None:
            """Do the work in a thread, and show meanwhile that the page is busy."""
            with self.state:
                self.state.busy = {"stage": stage, "share": None}
            try:
                found = await asyncio.to_thread(do)
                with self.state:
                    then(found)
            except Exception as error:
                self.tell(error)
            finally:
                with self.state:
                    self.state.busy = None

        asyncio.get_running_loop().create_task(working())

    def _press(self, node: Any, point: np.ndarray) -> None:
        with self.state:
            self.on_pressed()
            self.review.pick(node, point)

    def _look(self, node: Any, point: np.ndarray) -> None:
        with self.state:
            self.state.under_mouse = self.review.place_text(node, point)

    def adjust(self, width: float, level: float) -> None:
        """Change width and level of the window by these amounts in HU."""
        with self.state:
            self.review.act("adjust_window", width, level)
            self.state.update({"preset": self.review.preset, "window": [round(hu) for hu in self.review.window]})
            self.on_changed(())


def _counted(study: StudyScene) -> dict[str, Any]:
    """Return the state values that count vertebrae. `decided` stays the same in a drag, the summary does not."""
    counted = summary(study)
    return {"summary": counted, "decided": not counted["open"] if counted["total"] else None}
