"""A prior study beside the open one in 3D Slicer: shown, followed, saved and closed here.

A second face with its own review works on the prior; a `scene.pair.Pair` holds both together. The keys act on the study
whose view was clicked last. What may be a prior, and reading it, is left to `pair_choice`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from functools import partial
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..errors import VFQError, as_coded
from ..followup.comparison import Examination
from ..scene.nodes import remove
from ..scene.pair import Pair, examination
from ..scene.pair_drawing import Drawing
from ..scene.pair_keys import OF_A_SIDE
from ..scene.pair_match import Column, Match, found, scan_digest
from ..scene.pair_overlay import MODES
from ..scene.review import Review
from .analysing import Opened
from .face import DesktopFace
from .layout import LAYOUT_ID, LAYOUTS, PAIR_ID, SWAPPED_ID
from .pair_face import PriorFace

PRIOR, CURRENT = "prior", "current"
NONE_OPEN = _("No prior study is open. Choose one in the section Prior study.")
MATCHING = _("matching the vertebrae")


class Pairing:
    """The prior beside the open study of a face, if any.

    Attributes
    ----------
    prior : the face of the prior.
    pair : both studies; None while no prior is open.
    side : on which study the keys act, "prior" or "current".
    doubt : what the headers of both scans make doubtful.
    actions : the actions of `pair_keys.PAIR_KEYS`, by their names.
    on_changed, on_followed : functions that are called when everything, or only measurements, may read otherwise.
    on_closed : called with the folder of a prior's case after it was closed.
    """

    def __init__(self, face: DesktopFace):
        self.face = face
        self.prior = PriorFace(slicer.mrmlScene, face.review.who)
        self.pair: Pair | None = None
        self.side = CURRENT
        self.doubt = ""
        self.on_changed: list[Callable[[], None]] = []
        self.on_followed: list[Callable[[Collection[str]], None]] = []
        self.on_closed: Callable[[Path | None], None] = lambda _: None
        self._drawing: Drawing | None = None
        self._before = LAYOUT_ID  # the layout that was shown before
        self.actions: dict[str, Callable[[], None]] = {
            "blink": self.blink,
            "overlay": self.overlay,
            "other_side": self.other_side,
            "match_higher": lambda: self._open_pair.shift(-1),
            "match_lower": lambda: self._open_pair.shift(1),
        }
        self._connect()

    def _connect(self) -> None:
        face, prior = self.face, self.prior
        prior.on_told = lambda sentence: face.on_told(_("Prior: {}").format(sentence))
        prior.on_busy = lambda stage: face.on_busy(stage)
        for each, side in ((face, CURRENT), (prior, PRIOR)):
            each.on_changed.append(partial(self._follow, each.review, None))
            each.on_followed.append(partial(self._follow, each.review))
            each.on_pressed = partial(self.act_on, side)
        face.before_closing = self.close

    # -- opening and closing

    def open(self, opened: Opened, node: Any = None, doubt: str = "") -> None:
        """Show a loaded study beside the open one, as its prior; errors are reported to the user.

        node : the node of its CT if that is in the scene. doubt : what speaks against it in the headers.
        """
        self.check_open()
        self.close()
        self.prior.run(self._opening(opened, node, doubt))

    def _opening(self, opened: Opened, node: Any, doubt: str) -> Generator[None, None, None]:
        review, editor = self.prior.review, self.face.review.editor
        folder = review.follow_reader(self.face.review.who, opened.case.folder)
        try:
            if self._arrange(PAIR_ID):
                yield
            self.prior.ct_node = node
            yield from review.opening(opened.prepared, folder, opened.models, node)
            if self.face.review.editor is not editor:
                raise VFQError("empty_scene", _("The open study was closed meanwhile. Choose its prior again."))
            self.doubt = doubt
            self._match(opened)
        except BaseException:
            self._end()
            raise

    def _match(self, opened: Opened) -> None:
        """Match the vertebrae in another thread, and hold both studies together."""
        (before, old), (now, new) = examination(self.prior.review), examination(self.face.review)
        editors = self.prior.review.editor, self.face.review.editor

        def show(matched: tuple[Match, VFQError | None]) -> None:
            """Begin, unless one of the studies was closed meanwhile."""
            if (self.prior.review.editor, self.face.review.editor) != editors:
                return
            match, problem = matched
            if problem:
                self.close()
                raise problem
            pair = Pair(self.prior.review, self.face.review, match, scan_digest(opened.prepared.analysis))
            self.pair, self._drawing = pair, Drawing(pair)
            self._changed()

        self.prior.work(MATCHING, lambda: _matched(before, now, old, new), show)

    def close(self) -> None:
        """Save and close the prior, and show the layout that was shown before.

        VFQError `output_not_writable` if actions cannot be written; the prior then stays open.
        """
        if self.prior.in_steps or self.prior.review.editor:
            ct, folder = self.prior.ct, self.prior.case_folder
            if self.prior.review.is_gone:
                self._abandon()
            else:
                self.prior.close()
            self._end(ct)
            self.on_closed(folder)

    def _abandon(self) -> None:
        self.prior.stop()
        try:
            self.prior.review.abandon()
        except VFQError as error:
            self.prior.tell(error)

    def end(self) -> str:
        """Save everything, remove the prior from the scene, and disconnect from Slicer.

        Returns where actions were saved that the case's folder refused, or "".
        """
        told, ct = "", self.prior.ct
        try:
            self.prior.stop()
            self.prior.review.settle()
            self.prior.save_now()
            self.prior.review.abandon()
        except VFQError as error:
            told = error.message
        self._end(ct)
        return " ".join(filter(None, (told, self.prior.end())))

    def _end(self, ct: Any = None) -> None:
        """Let the open study be alone again."""
        pair, drawing = self.pair, self._drawing
        self.pair = self._drawing = None
        if pair and drawing:
            drawing.leave()
            pair.leave()
        if ct:
            remove(slicer.mrmlScene, ct)
        self.side, self.doubt = CURRENT, ""
        self.face.views.layout_id = LAYOUT_ID
        if slicer.mrmlScene.IsClosing():
            self.face.later(self._restore_layout)
        else:
            self._restore_layout()
        self._changed()

    def check_open(self) -> None:
        """VFQError `empty_scene` while no study is open."""
        if self.face.review.editor is None:
            raise VFQError("empty_scene", _("No study is open. Open one before you choose its prior."))

    # -- layout

    def _arrange(self, layout: int) -> bool:
        views = self.face.views
        if views.layout not in (PAIR_ID, SWAPPED_ID):
            self._before = views.layout
        views.layout_id = self.prior.views.layout_id = layout
        return views.arrange()

    def _restore_layout(self) -> None:
        views = self.face.views
        if views.layout_id == LAYOUT_ID and views.layout in (PAIR_ID, SWAPPED_ID):
            if self._before in LAYOUTS:
                views.arrange()
            else:
                views.go_back_to(self._before)

    # -- actions

    def target(self, action: str) -> Review:
        """Return the review that an action acts on."""
        if self.pair and action in OF_A_SIDE and self.side == PRIOR:
            return self.pair.prior
        if action in ("select", "start_rescue"):
            self.act_on(CURRENT)
        return self.face.review

    def acted(self, action: str) -> None:
        """Do in the prior what an action on the open study does to both."""
        if self.pair and action == "toggle_overlay":
            self.pair.prior.act(action)
        if self.pair and action == "cancel":
            self.prior.review.cancel()

    @property
    def mode(self) -> str | None:
        """The clicking mode of either study; see `Review.mode`."""
        return self.face.review.mode or self.prior.review.mode

    @property
    def overlay_mode(self) -> str:
        """What is laid over the straightened image, one of `pair_overlay.MODES`."""
        return self._drawing.mode if self._drawing else MODES[0]

    def select(self, prior: str | None, current: str | None) -> None:
        """Select a row of the comparison by its ids in both studies."""
        self._open_pair.select(prior, current)

    def act_on(self, side: str) -> None:
        """Let the keys act on a study."""
        if self.side != side and self.pair:
            self.side = side
            self.face.changed()

    def other_side(self) -> None:
        """Let the keys act on the other study. VFQError `no_prior`."""
        self._open_pair  # noqa: B018 - an error if there is none
        self.act_on(CURRENT if self.side == PRIOR else PRIOR)

    def blink(self) -> None:
        """Swap both straightened images. VFQError `no_prior`."""
        self._open_pair  # noqa: B018 - an error if there is none
        self._arrange(PAIR_ID if self.face.views.layout_id == SWAPPED_ID else SWAPPED_ID)

    def overlay(self) -> None:
        """Lay the prior over the open study in the next way. VFQError `no_prior`, `no_level_in_common`."""
        self._open_pair  # noqa: B018 - an error if there is none
        assert self._drawing
        self._drawing.following()
        self._changed()

    # -- how

    @property
    def _open_pair(self) -> Pair:
        if self.pair is None:
            raise VFQError("no_prior", NONE_OPEN)
        return self.pair

    def _follow(self, of: Review, vertebra_ids: Collection[str] | None) -> None:
        if not self.prior.review.editor:
            if self.pair:  # it closed itself, as its CT was removed or the scene is closed
                self._end()
        elif not self.face.review.editor:
            self.face.later(self._close_alone)
        elif self.pair and vertebra_ids is not None:
            self.pair.follow(of, vertebra_ids)
            for tell in self.on_followed:
                tell(vertebra_ids)
            return
        elif self.pair:
            self.pair.follow(of)
            self._draw_again()
        if vertebra_ids is None:
            self._changed()

    def _changed(self) -> None:
        for tell in self.on_changed:
            tell()

    def _draw_again(self) -> None:
        try:
            if self._drawing:
                self._drawing.again()
        except VFQError as error:
            self.prior.tell(error)

    def _close_alone(self) -> None:
        try:
            if not self.face.review.editor:
                self.close()
        except VFQError as error:
            self.prior.tell(error)


def _matched(before: Examination, now: Examination, old: Column, new: Column) -> tuple[Match, VFQError | None]:
    """Match two examinations; also return why that is impossible, or None."""
    try:
        return found(before, now, old, new), None
    except Exception as error:
        return Match(), as_coded(error)
