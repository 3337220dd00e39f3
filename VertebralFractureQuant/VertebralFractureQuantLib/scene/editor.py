"""The changes that a reader makes to a study: each action is complete, in the journal when it ends, and can be undone.

The panel and the page change a vertebra only through this. Points are patient RAS mm; a click in a straightened view is
straight RAS mm. Who acted and when is recorded in the journal and with the vertebra. Undo has no limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import numpy as np

from ..analysis.curve_repair import PresentCurve
from ..errors import VFQError
from ..spine.curve import SpineCurve
from ..spine.genant import BORDERLINE_MARGIN, grade_doubt, heights, measure
from ..spine.keypoints import from_outline
from ..spine.levels import NAMES, renamed
from ..spine.record import Vertebra
from .journal import Journal
from .machine import Machine, Rescued
from .merging import NEAR_MM, Merged, name_between
from .opening import stands_in
from .proposer import name_proposer
from .state import CURVE, MOVED_MM, State, nearly_equal, reopened, state_of
from .study import StudyScene

LEAST_SCORE = 0.02  # objectness; low for a vertebra that the detector missed, almost 0 where there is no vertebra
SURE_SCORE = 0.9  # a vertebra of a lower score is confirmed by itself only
LEAST_HEIGHT_MM = 0.5  # an upper and a lower point nearer than this are the same point


class Editor:
    """The actions on one study.

    An action during a drag ends the drag, which is then an action before it; further moves of that drag are put back.

    Parameters
    ----------
    scene_first : True to keep the scene's state where it differs from the journal's.

    Attributes
    ----------
    changed : called after every action, undo and redo.
    moved : called with a vertebra's id when a drag of it starts, and while it moves.
    why_locked : returns why nothing may be changed, as in a reading that another reader has signed; else "".
    refused : called with that reason when a drag was put back because of it.
    """

    def __init__(self, study: StudyScene, journal: Journal, machine: Machine, who: str, scene_first: bool = False):
        self.study = study
        self.journal = journal
        self.machine = machine
        self.who = who
        self.changed: Callable[[], None] = lambda: None
        self.moved: Callable[[str], None] = lambda _: None
        self.why_locked: Callable[[], str] = lambda: ""
        self.refused: Callable[[str], None] = lambda _: None
        self._dragged: str | None = None
        self._ended_early: str | None = None  # its drag was ended while the mouse button was still pressed
        self.listen()
        if scene_first:
            self._take_over()
        else:
            self._show(journal.state)

    def listen(self) -> None:
        """Follow the drags in the views; call again after the study's nodes were created again."""
        self.study.listeners.started = self._start
        self.study.listeners.moved = self._move
        self.study.listeners.ended = self._release

    # -- actions

    @property
    def dragged(self) -> str | None:
        """The id of the vertebra that is being dragged: its points in the scene are not yet part of an action."""
        return self._dragged

    def finish_drag(self) -> None:
        """End a drag that did not end by itself (a closed browser tab): the move so far is an action."""
        if self._dragged:
            self._end(self._dragged)

    def set_points(self, vertebra_id: str, keypoints: np.ndarray) -> None:
        """Move the key points of a vertebra to `(3, 2, 3)` patient RAS mm."""
        self._begin_action()
        self.study.put({vertebra_id: {**self._state(vertebra_id), "keypoints": np.asarray(keypoints).tolist()}})
        self._end(vertebra_id)

    def reset(self, vertebra_id: str) -> None:
        """Restore the automatically detected key points.

        VFQError `no_machine_points` if the vertebra still has them, or was placed by a reader.
        """
        self._begin_action()
        state = self._state(vertebra_id)
        if state["machine_keypoints"] is None:
            told = "still has its detected key points" if state["origin"] == "model" else "was placed by a reader"
            raise VFQError(
                "no_machine_points",
                f"{self._label(vertebra_id)} {told}, so there is nothing to restore. Use undo, or drag its points.",
            )
        points = {"keypoints": state["machine_keypoints"], "machine_keypoints": None, "origin": "model"}
        self._commit("reset", {vertebra_id: {**reopened(state), **points}})

    def delete(self, *vertebra_ids: str) -> None:
        """Remove vertebrae in one action; undo brings them back."""
        if self._dragged in vertebra_ids:
            self._dragged = None
        self._begin_action()
        self._commit("delete", dict.fromkeys(vertebra_ids))

    def add(self, straight: np.ndarray) -> str:
        """Add a vertebra whose six points are detected at a click `(3,)` straight mm; return its id.

        VFQError `no_vertebra_here`, `vertebra_there`, or as `Machine.propose`.
        """
        self._begin_action()
        found = self.machine.propose(self._curve(), np.asarray(straight, float))
        if found.score < LEAST_SCORE:
            raise VFQError(
                "no_vertebra_here",
                "No vertebra was recognised here. Click on the middle of a vertebral body, or place its six points by "
                "hand (b).",
            )
        self._check_free(found.keypoints)
        return self._insert("add", found, name_proposer(self.study, self.machine.models))

    def place(self, straight: np.ndarray) -> str:
        """Add a vertebra from six clicks `(6, 3)` straight mm in the order A+ M+ P+ P- M- A-; return its id.

        VFQError `vertebra_there`; `faulty_vertebra` if an upper and a lower click coincide.
        """
        self._begin_action()
        patient = self.study.straightening.to_patient(np.asarray(straight, float))
        keypoints = from_outline(patient)
        if heights(keypoints).min() < LEAST_HEIGHT_MM:
            raise VFQError(
                "faulty_vertebra",
                f"An upper and a lower point are less than {LEAST_HEIGHT_MM} mm apart. Click all six points again.",
            )
        self._check_free(keypoints)
        return self._insert("place", Vertebra(keypoints, measure(keypoints), origin="reader"))

    def name(self, vertebra_id: str, level: str) -> None:
        """Name a vertebra and pin its name; the others are renamed to match. ValueError for an unknown name."""
        self._begin_action()
        order = self.study.order
        states = [self._state(i) for i in order]
        pinned = [bool(s["pinned"]) for s in states]
        names = renamed([s["level"] for s in states], pinned, self.study.steps(), order.index(vertebra_id), level)
        self._commit(
            "name",
            {
                i: {**state, "level": new, "pinned": state["pinned"] or i == vertebra_id}
                for i, state, new in zip(order, states, names, strict=True)
            },
        )

    def shift_level(self, vertebra_id: str, by: int) -> None:
        """Name a vertebra one level lower (by = 1) or higher (-1); an unnamed one gets its most probable name."""
        self._begin_action()
        state = self._state(vertebra_id)
        likely = state["level_probabilities"]
        if state["level"] is None:
            self.name(vertebra_id, max((n for n in likely if n in NAMES), key=lambda n: likely[n], default="L1"))
            return
        regular = [n for n in NAMES if n not in ("T13", "L6") or n == state["level"]]
        i = regular.index(state["level"]) + by
        self.name(vertebra_id, regular[min(max(i, 0), len(regular) - 1)])

    def pin(self, vertebra_id: str, pinned: bool) -> None:
        """Pin a vertebra's name, so that it stays when others are named, or release it."""
        self._begin_action()
        self._commit("pin", {vertebra_id: {**self._state(vertebra_id), "pinned": pinned}})

    def review(self, vertebra_id: str, verdict: str, anyway: bool = False) -> None:
        """Set the review to "confirmed", "rejected" or "open".

        `anyway` confirms a vertebra although its points contradict each other, or are impossible for its size, its
        neighbours or the scan. VFQError `impossible_vertebra` if such a one would be confirmed without `anyway`.
        """
        self._begin_action()
        told = self.study.impossible.get(vertebra_id, "") if verdict == "confirmed" else ""
        if told and not anyway:
            raise VFQError(
                "impossible_vertebra",
                f"{self._label(vertebra_id)} is not confirmed: {told} Put its points right or reject it. If it is "
                "right as it is, confirm it once more: it then counts.",
            )
        self._commit("confirmed anyway" if told else verdict, {vertebra_id: self._judged(vertebra_id, verdict)})

    def decide(self, vertebra_id: str, changes: dict[str, Any]) -> None:
        """Change vertebrae by parts of their states, and confirm `vertebra_id`, in one action."""
        self._begin_action()
        judged = {vertebra_id: self._judged(vertebra_id, "confirmed")}
        self._commit("decide", {i: {**judged.get(i, self._state(i)), **part} for i, part in changes.items()})

    def certain(self) -> list[str]:
        """Return the open vertebrae, cranial first, of which nothing is in doubt.

        They are normal and not borderline, their level is sure, the detector is, and there is no reason to doubt them.
        """
        doubtful = self.study.doubts()
        return [i for i in self.study.order if i not in doubtful and self._is_certain(i)]

    def confirm_all(self, vertebra_ids: Sequence[str]) -> None:
        """Confirm vertebrae in one action. VFQError `not_certain` if one of them is not among the `certain` ones."""
        self._begin_action()
        if left := set(vertebra_ids) - set(self.certain()):
            names = ", ".join(self._label(i) for i in self.study.order if i in left)
            raise VFQError("not_certain", f"{names}: not certain any more. Confirm or reject each one by itself.")
        self._commit("confirmed", {i: self._judged(i, "confirmed") for i in vertebra_ids})

    def present_curve(self) -> PresentCurve | None:
        """Return the curve that clicks would repair; None if a straight line stands in, as no spine was found."""
        curve = self._curve()
        if stands_in(curve, self.machine.ct):
            return None
        limits = self.study.curve_state()["limits_mm"]
        return PresentCurve(curve, tuple(limits) if limits else (0.0, curve.length))

    def rescue(self, found: Rescued) -> Merged:
        """Replace the curve, and the vertebrae by those found along it.

        Vertebrae that a reader moved, placed, named, confirmed or rejected are kept: `merging.merged` is returned.
        """
        self._begin_action()
        known = self.known()
        if found.known != known:
            found = Rescued.of(known, found.analysis, found.made)
        changes: dict[str, Any] = {i: found.merged.kept.get(i) for i in known}
        changes.update(zip(self._new_ids(len(found.merged.fresh)), found.merged.fresh, strict=True))
        self.study.put_curve(replace(found.analysis, case=self.study.analysis().case), found.made)
        self._commit("rescue", {**changes, CURVE: self.study.curve_state()})
        return found.merged

    def undo(self) -> str | None:
        """Take the last action back; return its kind, or None if there is none."""
        self._begin_action()
        kind = self.journal.undoable
        self._show_changes(self.journal.undo(self.who))
        return kind

    def redo(self) -> str | None:
        """Repeat the action that was taken back last; return its kind, or None if there is none."""
        self._begin_action()
        kind = self.journal.redoable
        self._show_changes(self.journal.redo(self.who))
        return kind

    def known(self) -> dict[str, State]:
        """Return the state of each vertebra by its id, from cranial to caudal."""
        return {i: self._state(i) for i in self.study.order}

    # -- order

    def by_doubt(self) -> list[str]:
        """Return the vertebrae's ids, the most doubtful open one first; reviewed ones come last."""
        return sorted(self.study.order, key=lambda i: (self._state(i)["review"] != "open", -self.doubt(i)))

    def doubt(self, vertebra_id: str) -> float:
        """Return 0..2: the probability of another grade or, if larger, of no vertebra.

        2 for impossible key points; vertebrae with a reason to doubt them come before all others.
        """
        if vertebra_id in self.study.impossible:
            return 2.0
        flagged = bool(self.study.flags[vertebra_id])
        v = self.study.vertebra(vertebra_id)
        spread = BORDERLINE_MARGIN if v.spread is None else v.spread
        return flagged + max(grade_doubt(v.measurement.genant_ratio, spread), 1.0 - v.score)

    # -- drags

    def _begin_action(self) -> None:
        """End a drag that is under way, before another action. VFQError `signed_reading` if nothing may change."""
        if told := self.why_locked():
            raise VFQError("signed_reading", told)
        self._ended_early = self._dragged or self._ended_early
        self.finish_drag()

    def _start(self, vertebra_id: str) -> None:
        locked = bool(self.why_locked())
        self._dragged, self._ended_early = (None, vertebra_id) if locked else (vertebra_id, None)
        self.moved(vertebra_id)

    def _move(self, vertebra_id: str) -> None:
        if vertebra_id == self._ended_early:
            self.study.put({vertebra_id: self.journal.state[vertebra_id]})
        self.moved(vertebra_id)
        if self._dragged is None and vertebra_id != self._ended_early:  # moved by a program, as in the Markups module
            self._end(vertebra_id)

    def _release(self, vertebra_id: str) -> None:
        self._ended_early = None
        self._end(vertebra_id)

    def _end(self, vertebra_id: str) -> None:
        self._dragged = None
        before, now = self.journal.state[vertebra_id], self._state(vertebra_id)
        if told := self.why_locked():
            self.study.put({vertebra_id: before})
            self.refused(told)
            return
        if np.abs(np.subtract(before["keypoints"], now["keypoints"])).max() < MOVED_MM:
            self.study.put({vertebra_id: before})
            return
        machine = before["keypoints"] if before["origin"] == "model" else before["machine_keypoints"]
        self._commit("move", {vertebra_id: {**reopened(now), "machine_keypoints": machine, "origin": "reader"}})

    # -- how

    def _judged(self, vertebra_id: str, verdict: str) -> State:
        at = None if verdict == "open" else datetime.now(timezone.utc).isoformat(timespec="seconds")
        return {**self._state(vertebra_id), "review": verdict, "reviewer": at and self.who, "reviewed_at": at}

    def _is_certain(self, vertebra_id: str) -> bool:
        v = self.study.vertebra(vertebra_id)
        plain = v.measurement.grade == "normal" and not v.measurement.borderline and v.level is not None
        known = v.review == "open" and v.score >= SURE_SCORE and vertebra_id not in self.study.impossible
        return plain and known and not v.quality

    def _check_free(self, keypoints: np.ndarray) -> None:
        """VFQError `vertebra_there` if there is a vertebra already where key points `(3, 2, 3)` RAS mm are."""
        middle = keypoints.mean((0, 1))
        for vertebra_id, markups in self.study.vertebrae.items():
            if np.linalg.norm(markups.keypoints().mean((0, 1)) - middle) < NEAR_MM:
                raise VFQError(
                    "vertebra_there",
                    f"{self._label(vertebra_id)} is here already. Drag its points, or delete it first.",
                )

    def _insert(self, kind: str, vertebra: Vertebra, also: dict[str, State] | None = None) -> str:
        """Add a vertebra; between named ones it gets the name that is missing there."""
        (vertebra_id,) = self._new_ids(1)
        state = state_of(vertebra)
        self.study.put({vertebra_id: state})
        self._commit(kind, {vertebra_id: {**state, "level": self._name_between(vertebra_id)}, **(also or {})})
        return vertebra_id

    def _name_between(self, vertebra_id: str) -> str | None:
        order = self.study.order
        return name_between([self._state(i)["level"] for i in order], self.study.steps(), order.index(vertebra_id))

    def _commit(self, kind: str, changes: dict[str, Any]) -> None:
        known = self.journal.state
        changes = {key: state for key, state in changes.items() if key not in known or known[key] != state}
        self.journal.commit(kind, changes, self.who)  # first, so that the action is kept whatever happens to the nodes
        self.study.put({key: state for key, state in changes.items() if key != CURVE})
        self.changed()

    def _take_over(self) -> None:
        """Commit how the scene differs from the journal, as after a scene was loaded from a file.

        Differences that are rounding in that file are put back as the journal has them.
        """
        now, known = self.study.state(), self.journal.state
        known = {**known, CURVE: {**now[CURVE], **known[CURVE]}}  # older journals lack some facts of the curve
        same = {key: known[key] for key in now if key in known and nearly_equal(now[key], known[key])}
        self.study.put({key: state for key, state in same.items() if key != CURVE})
        self.journal.commit("load", {key: now.get(key) for key in {*now, *known} if key not in same}, self.who)

    def _show(self, state: dict[str, Any]) -> None:
        """Show a complete state, as after a restart."""
        now = self.study.state()
        state = {**state, CURVE: {**now[CURVE], **state[CURVE]}}  # older journals lack some facts of the curve
        self._show_changes(
            {key: (now.get(key), state.get(key)) for key in {*now, *state} if now.get(key) != state.get(key)}
        )

    def _show_changes(self, changes: dict[str, tuple[Any, Any]] | None) -> None:
        if not changes:
            return
        if CURVE in changes:
            self._show_curve(changes[CURVE][1])
        self.study.put({key: after for key, (_, after) in changes.items() if key != CURVE})
        self.changed()

    def _show_curve(self, state: dict[str, Any]) -> None:
        analysis = self.study.with_curve(state)
        self.study.put_curve(analysis, self.machine.reformat(SpineCurve(analysis.curve)))

    def _curve(self) -> SpineCurve:
        return self.study.straightening.curve

    def _state(self, vertebra_id: str) -> State:
        return self.study.vertebrae[vertebra_id].state()

    def _label(self, vertebra_id: str) -> str:
        return self.study.label(vertebra_id)

    def _new_ids(self, count: int) -> list[str]:
        known = {key for act in self.journal.trail() for key in act.changes} | set(self.journal.original)
        first = 1 + max((int(key[1:]) for key in known if key[1:].isdigit()), default=0)
        return [f"v{first + i}" for i in range(count)]
