"""The prior that the page shows beside the open case: opened, followed, saved and closed here.

The prior is a case of the worklist. A second review works on it, with its own journal, undo, locks and files; a
`scene.pair.Pair` holds both together. The keys act on the study whose view was clicked last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Protocol

from ..analysis import Models
from ..cohort.jobs import JobState
from ..cohort.patients import Patients, doubts
from ..cohort.worklist import Case
from ..errors import VFQError
from ..scene.pair import Pair, PriorReview, examination
from ..scene.pair_drawing import Drawing
from ..scene.pair_keys import OF_A_SIDE
from ..scene.pair_match import found, scan_digest
from ..scene.pair_overlay import MODES
from ..scene.review import Review
from .cases import CaseLoader
from .face import BrowserFace
from .pair_face import PriorFace
from .saving import Autosave
from .views import ReviewViews
from .worklist import Worklist

PAIR_STATE: dict[str, Any] = {
    "prior_name": "",
    "prior_busy": "",
    "prior_selected": None,
    "prior_locked": "",
    "prior_note": "",
    "prior_unsaved": "",
    "pair_rows": [],
    "pair_summary": "",
    "pair_doubt": "",
    "side": "current",
    "overlay": MODES[0],
    "compared": True,
}
PAIRING = (
    *("compare_with", "close_prior", "select_pair", "other_side", "overlay", "match_higher", "match_lower"),
    "show_compared",
)
NONE_OPEN = "No prior study is open. Open the worklist, and choose Prior beside another study of this patient."


class Page(Protocol):
    """The session of the page, as far as its prior needs it."""

    state: Any
    views: ReviewViews
    face: BrowserFace
    review: Review
    worklist: Worklist
    loader: CaseLoader

    def networks(self) -> Models | VFQError:
        """Return the networks, or the reason why they are not available."""


class Saved:
    """Shows on the page whether the prior's files are written; `current` is its case."""

    def __init__(self, session: Page):
        self._session = session
        self.current: Case | None = None

    def show_saved(self, case: Case, problem: str) -> None:
        """Show the case in the worklist, and why its files were not written (`problem`)."""
        worklist = self._session.worklist
        with self._session.state:
            self._session.state.prior_unsaved = worklist.without_names(problem)
            worklist.show_entry(case)


class Pairing:
    """The prior beside the open case of a session, if any. `PAIRING` lists the actions of the page.

    Attributes
    ----------
    pair : both studies; None while no prior is open.
    wanted : the prior that opens together with a case.
    """

    def __init__(self, session: Page):
        self.pair: Pair | None = None
        self.wanted: dict[Case, Case] = {}
        self._session = session
        self._state = session.state
        self._turn = 0
        self._saved = Saved(session)
        self._headers = ""  # what the headers of both scans make doubtful
        self._drawing: Drawing | None = None
        self._state.update({**PAIR_STATE, "pairs": session.views.prior is not None})
        self._prior = self._watch(session) if session.views.prior is not None else None

    def _watch(self, session: Page) -> PriorFace:
        session.worklist.patients = Patients()
        prior = PriorFace(session.face, session.views.prior)
        self._autosave = Autosave(prior.review, self._saved)
        prior.on_acted = self._autosave.soon
        prior.on_changed = lambda ids: self._follow(prior.review, ids)
        prior.on_pressed = lambda: self._act_on("prior")
        session.face.on_changed = lambda ids: self._follow(session.review, ids)
        session.face.on_pressed = lambda: self._act_on("current")
        return prior

    # -- opening and closing

    async def open(self, case: Case) -> None:
        """Show a case beside the open one, as its prior; errors are shown on the page."""
        stale = ""
        try:
            stale = await self.close()
            if self._prior is not None:
                await self._open(self._prior.review, case)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            await self._close_alone()
            self._session.face.tell(error)
        if stale:
            self._session.face.tell(stale)

    async def _open(self, review: PriorReview, case: Case) -> None:
        session, turn = self._session, self._turn
        if not session.review.editor or session.worklist.current is None:
            raise VFQError("empty_scene", "No case is open. Open one before you choose its prior.")
        if case == session.worklist.current:
            raise VFQError("no_prior", "A study cannot be its own prior. Choose another study of this patient.")
        self._saved.current = case
        name = session.worklist.name(session.worklist.cases.index(case))
        with self._state:
            self._state.update({**PAIR_STATE, "prior_name": name, "prior_busy": "Opening the prior study ..."})
        prepared = await session.loader.get(case)
        if turn != self._turn:
            return
        with self._state:
            folder = review.follow_reader(session.review.who, case.folder)
            review.open(prepared, folder, session.networks())
            (before, old), (now, new) = examination(review), examination(session.review)
        match = await asyncio.to_thread(found, before, now, old, new)
        self._headers = await asyncio.to_thread(doubts, case, session.worklist.current)
        if turn != self._turn:
            return
        with self._state:
            self.pair = Pair(review, session.review, match, scan_digest(prepared.analysis))
            self._drawing = Drawing(self.pair)
            self._state.prior_busy = ""
            self._show()

    async def close(self) -> str:
        """Save and close the prior; return why its files do not contain all actions, or "".

        VFQError `output_not_writable` if actions cannot be written; the prior then stays open.
        """
        self._turn += 1
        stale = await self._close(self._prior.review) if self._prior else ""
        pair, drawing = self.pair, self._drawing
        self.pair = self._drawing = self._saved.current = None
        if pair and drawing:
            drawing.leave()
            pair.leave()
        with self._state:
            self._state.update(PAIR_STATE)
        return stale

    async def _close(self, review: Review) -> str:
        review.settle()
        if review.is_gone:
            try:
                review.abandon()
            except VFQError as error:
                return error.message
        stale = await self._autosave.now(self._saved.current) if self._saved.current and review.editor else ""
        review.close()
        return stale

    def abandon(self) -> None:
        """Close the prior in any case; see `Review.abandon`."""
        if self._prior:
            self._prior.review.abandon()

    def leave_out(self) -> None:
        """Leave the prior out of a scene that is saved to a file."""
        if self.pair:
            self.pair.leave_out()

    def finish_drag(self) -> None:
        """End a drag in the prior's view, as after its tab was closed."""
        if self._prior and self._prior.review.editor:
            self._prior.review.editor.finish_drag()

    def progress(self, case: Case, state: JobState) -> None:
        """Show the progress of the prior's analysis."""
        if self._saved.current and case.name == self._saved.current.name and self._state.prior_busy:
            share = "" if state.share is None else f", {state.share:.0%}"
            with self._state:
                self._state.prior_busy = f"Analysing the prior study: {state.stage or 'starting'}{share}"

    def reopen(self) -> None:
        """Open the prior again, as another reader."""
        if self._saved.current:
            asyncio.get_running_loop().create_task(self.open(self._saved.current))

    # -- actions of the page

    def target(self, action: str) -> Review:
        """Return the review that an action acts on."""
        if self.pair and action in OF_A_SIDE and self._state.side == "prior":
            return self.pair.prior
        if action in ("select", "start_rescue"):
            self._act_on("current")
        return self._session.review

    def acted(self, action: str) -> None:
        """Do in the prior what an action on the open study does to both."""
        if self.pair and action == "toggle_overlay":
            self.pair.prior.act(action)

    def cancel(self) -> None:
        """Leave the clicking mode in the prior."""
        if self._prior:
            self._prior.review.cancel()

    def compare_with(self, index: int) -> None:
        """Open a case by its index in the worklist as the prior of the open one."""
        self._state.worklist_open = False
        asyncio.get_running_loop().create_task(self.open(self._session.worklist.cases[index]))

    def close_prior(self) -> None:
        """Close the prior."""
        asyncio.get_running_loop().create_task(self._close_alone())

    async def _close_alone(self) -> None:
        try:
            stale = await self.close()
        except VFQError as error:
            stale = error.message
        if stale:
            self._session.face.tell(stale)

    def select_pair(self, prior: str | None, current: str | None) -> None:
        """Select a row of the comparison."""
        self._open_pair.select(prior, current)

    def other_side(self) -> None:
        """Let the keys act on the other study."""
        self._open_pair  # noqa: B018 - an error if there is none
        self._act_on("current" if self._state.side == "prior" else "prior")

    def show_compared(self, shown: bool) -> None:
        """Show the comparison, or the measurements of the open study."""
        self._state.compared = bool(shown)

    def match_higher(self) -> None:
        """Match each vertebra with the one above it in the prior."""
        self._open_pair.shift(-1)
        self._show()

    def match_lower(self) -> None:
        """Match each vertebra with the one below it in the prior."""
        self._open_pair.shift(1)
        self._show()

    def overlay(self) -> None:
        """Lay the prior over the open study in the next way."""
        self._open_pair  # noqa: B018 - an error if there is none
        self._draw(lambda drawing: drawing.following())

    # -- how

    @property
    def _open_pair(self) -> Pair:
        if self.pair is None:
            raise VFQError("no_prior", NONE_OPEN)
        return self.pair

    def _follow(self, of: Review, vertebra_ids: Collection[str] | None) -> None:
        if self.pair is None:
            return
        if self._prior and not self._prior.review.editor:  # its CT was removed from the scene
            self.close_prior()
            return
        self.pair.follow(of, vertebra_ids)
        self._show()
        if vertebra_ids is None:
            self._draw(lambda drawing: drawing.again())

    def _act_on(self, side: str) -> None:
        if self._state.side != side and self.pair:
            self._state.side = side
            self._session.face.changed()

    def _show(self) -> None:
        if self.pair is None:
            return
        prior = self.pair.prior
        values: dict[str, Any] = {
            "pair_rows": self.pair.rows,
            "pair_summary": self._session.worklist.without_names(self.pair.summary),
            "pair_doubt": self._session.worklist.without_names(
                " ".join(filter(None, (self._headers, self.pair.doubt)))
            ),
            "prior_selected": prior.selected,
            "prior_locked": prior.locked,
            "prior_note": prior.note,
        }
        if self._state.side == "prior" and prior.editor:
            journal = prior.editor.journal
            values |= {"undoable": journal.undoable, "redoable": journal.redoable}
            values |= {"mode": prior.mode, "hint": prior.hint}
        with self._state:
            self._state.update(values)

    def _draw(self, draw: Callable[[Drawing], None]) -> None:
        if self._drawing:
            try:
                draw(self._drawing)
            finally:
                self._state.overlay = self._drawing.mode
