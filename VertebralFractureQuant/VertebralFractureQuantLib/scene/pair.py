"""A prior study beside the open one: both are reviews of their own, and what one of them shows the other one follows.

Each keeps its record, journal, undo and locks. Here is what they have in common: the match of their vertebrae, the
selection, the place and the window of the views, and what has changed. Both faces use it; each calls `follow` from what
its reviews report.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import VFQError
from ..followup.comparison import Examination
from ..imaging.ct import CTVolume
from ..report.comparison_files import stored_image
from ..report.matches import read_matches, write_match
from ..spine.record import Vertebra
from .pair_match import Column, Match, followed, kept_as, restored, scan_digest, shifted
from .pair_overlay import Overlay
from .pair_rows import Row, listed, row, summary
from .pair_views import AlignedViews, Places
from .readings import folder_to_open
from .review import Review
from .state import CURVE
from .study import StudyScene
from .volumes import acquisition_of, placement, voxels_of

OF_ANOTHER = "This is another reader's reading. Open the study by itself to continue it or to begin your own."


def column_of(study: StudyScene) -> Column:
    """Return the vertebrae of a study as they are in the scene."""
    return Column.of({i: study.vertebra(i) for i in study.order})


def examination(review: Review) -> tuple[Examination, Column]:
    """Return what matching needs of an open review, as plain data: `pair_match.found` may use it in any thread.

    The image is that on disk, as for `vfq compare`, so that both find the same match; that of the scene without one.
    """
    analysis, column = review.study.analysis(), column_of(review.study)
    with suppress(VFQError):
        stored = stored_image(review.folder) if review.folder else None
        if stored:
            return Examination(analysis, *stored), column
    nodes = review.study.nodes
    voxels = voxels_of(nodes["straightened"])
    volume = None if voxels is None else CTVolume(voxels, placement(nodes["straightened"]), "straightened")
    return Examination(analysis, volume), column


def digest_of(review: Review) -> str:
    """Return the `pair_match.scan_digest` of the scan of an open review."""
    analysis = review.study.analysis()
    if review.editor:
        analysis = replace(analysis, curve=np.asarray(review.editor.journal.original[CURVE]["curve"]))
    return scan_digest(analysis)


def leave_out(study: StudyScene, with_ct: bool = True) -> None:
    """Leave a study out of a scene that is saved to a file; its CT stays in unless it is left out `with_ct`."""
    roles = {role: node for role, node in study.nodes.items() if with_ct or role != "ct"}
    acquisition = acquisition_of(roles["ct"]) if "ct" in roles else None
    own = [*roles.values(), *(n for v in study.vertebrae.values() for n in (v.node, v.mirror)), acquisition]
    for node in filter(None, own):
        for each in (node, node.GetDisplayNode() if node.IsA("vtkMRMLDisplayableNode") else None):
            if each:
                each.SetSaveWithScene(False)


class PriorReview(Review):
    """The review of a prior; `read_only` says why it may only be looked at, and is "" if it may be changed."""

    read_only: str = ""

    def follow_reader(self, who: str, case_folder: Path) -> Path:
        """Let `who` review the prior in a case's folder next; return the folder of the reading to open.

        A reading of others in which the reader takes no part is only looked at.
        """
        folder = folder_to_open(case_folder, who)
        self.who, self.read_only = who, "" if folder else OF_ANOTHER
        return folder or case_folder

    @property
    def locked(self) -> str:
        """See `Review`."""
        return self.read_only or super().locked


class Pair:
    """Two open reviews, from its creation until `leave`.

    Parameters
    ----------
    prior, current : the reviews; both are open.
    match : which vertebrae belong together.
    digest : the `pair_match.scan_digest` of the prior scan.

    Attributes
    ----------
    overlay : the prior image over the current one.
    """

    def __init__(self, prior: Review, current: Review, match: Match, digest: str):
        self.prior = prior
        self.current = current
        self._digests = digest, digest_of(current)
        self.match = self._kept(match)
        self.overlay = Overlay(prior.study, current.study, current.face, lambda: self.match.pairs)
        self._rows: dict[tuple[str | None, str | None], Row] = {}
        self._selected: tuple[str | None, str | None] = (None, None)
        self._following = False
        self.views = AlignedViews(current.face.straightened, prior.face.straightened, self.places, current.face.later)
        self.follow(current)
        self.views.align()

    def leave_out(self) -> None:
        """Leave the prior out of a scene that is saved to a file, which holds one study."""
        leave_out(self.prior.study)

    def leave(self) -> None:
        """Let both studies show what they like."""
        self.views.leave()
        self.overlay.hide()

    # -- what is shown

    @property
    def rows(self) -> list[Row]:
        """What has changed in each vertebra of either study, cranial first; none if they may not be compared."""
        return list(self._rows.values())

    @property
    def summary(self) -> str:
        """One sentence on what has changed; or why nothing is compared."""
        if not self.match.holds:
            return self.match.problem or "No vertebra is in both scans, so nothing is compared."
        return summary(self.rows)

    @property
    def doubt(self) -> str:
        """What to check about the match, and who corrected it; else ""."""
        told = [self.match.doubt]
        if self.match.reader:
            told.append(f"The vertebrae are matched as {self.match.reader} corrected it.")
            told.append(self.match.problem)
        return " ".join(filter(None, told))

    def places(self) -> Places:
        """Return the places of matched vertebrae, straight mm."""
        current, prior, pairs = self.current.study, self.prior.study, self.match.pairs
        ids = [i for i in reversed(current.order) if pairs.get(i) in prior.order]
        now, before = (dict(zip(s.order, s.straight(), strict=True)) for s in (current, prior))
        chosen = ids.index(current.selected) if current.selected in ids else None
        return Places(_middles([now[i] for i in ids]), _middles([before[pairs[i]] for i in ids]), chosen)

    # -- what the reader does

    def follow(self, of: Review, vertebra_ids: Collection[str] | None = None) -> None:
        """Answer a change of one of the reviews.

        vertebra_ids : whose measurements changed, in a drag; none if only the selection or the plane did; None after
            an action, which may have changed anything.
        """
        if self._following or not (self.prior.editor and self.current.editor):
            return
        self._following = True
        try:
            if vertebra_ids is None:
                self._refresh()
            else:
                self._measure(of is self.prior, vertebra_ids)
            if of is self.current:
                self._follow_window()
            self._select(of)
        finally:
            self._following = False

    def select(self, prior: str | None, current: str | None) -> None:
        """Select a vertebra by its ids in both studies, one of which may be None."""
        if current:
            self.current.select(current)
        elif prior:
            self.prior.select(prior)

    def shift(self, by: int) -> None:
        """Match each vertebra with the one `by` places lower in the prior study, and keep this with the reading.

        VFQError `no_level_in_common`, `signed_reading`, `output_not_writable`.
        """
        if self.current.locked:
            raise VFQError("signed_reading", self.current.locked)
        match = shifted(self.match, by, *self._columns(), self.current.who)
        if self.current.folder:
            prior, scan = self._digests
            write_match(self.current.folder, scan, prior, kept_as(match, *self._vertebrae()))
        self.match = match
        self._selected = (None, None)
        self.follow(self.current)

    # -- how

    def _kept(self, match: Match) -> Match:
        """Return the match as a reader corrected it earlier; if that cannot be used, `match` with the reason."""
        prior, scan = self._digests
        try:
            kept = read_matches(self.current.folder, scan).of(prior) if self.current.folder else None
            return restored(match, kept, *self._vertebrae()) if kept else match
        except VFQError as error:
            return replace(match, doubt=" ".join(filter(None, (match.doubt, error.message))))

    def _vertebrae(self) -> tuple[dict[str, Vertebra], dict[str, Vertebra]]:
        before, now = ({i: s.vertebra(i) for i in s.order} for s in (self.prior.study, self.current.study))
        return before, now

    def _columns(self) -> tuple[Column, Column]:
        return column_of(self.prior.study), column_of(self.current.study)

    def _refresh(self) -> None:
        before, now = self._columns()
        self.match = followed(self.match, before, now)
        self._rows = {ids: row(self.prior.study, self.current.study, *ids) for ids in listed(self.match, before, now)}

    def _measure(self, of_prior: bool, vertebra_ids: Collection[str]) -> None:
        for ids in self._rows:
            if ids[0 if of_prior else 1] in vertebra_ids:
                self._rows[ids] = row(self.prior.study, self.current.study, *ids)

    def _follow_window(self) -> None:
        self.overlay.show_window(self.current.window)
        if self.prior.window != self.current.window:
            self.prior.restore_window("own", *self.current.window)

    def _select(self, of: Review) -> None:
        if (self.prior.selected, self.current.selected) == self._selected:
            return
        if of is self.current:
            self.prior.mark(self.match.pairs.get(self.current.selected or ""))
        else:
            back = {before: now for now, before in self.match.pairs.items()}
            self.current.mark(back.get(self.prior.selected or ""))
        self._selected = (self.prior.selected, self.current.selected)
        self.views.align(from_prior=of is self.prior)


def _middles(bodies: list[np.ndarray]) -> np.ndarray:
    """Return the middles `(n, 3)` of key points `(3, 2, 3)`."""
    return np.array([points.mean((0, 1)) for points in bodies]).reshape(-1, 3)
