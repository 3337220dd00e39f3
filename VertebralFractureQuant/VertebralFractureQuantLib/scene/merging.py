"""Merging the vertebrae of a study with those that were detected along another curve.

What a reader did stays: edited, judged and named vertebrae, and names. Everything else is replaced. Plain data, no
MRML: vertebrae are `state.State`, key points patient RAS mm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..spine.butterfly import NMS_THRESHOLD, butterfly_iou
from ..spine.genant import heights
from ..spine.levels import in_doubt, renamed, steps_between
from ..spine.record import Vertebra
from ..spine.straightening import Straightening
from .state import State, is_touched, state_of

NEAR_MM = 10.0  # two vertebrae whose middles are nearer than this are the same vertebra
# A curve passes through a vertebra if it is this near to its middle. Points that no reader placed or confirmed hold for
# their own sagittal plane only.
THROUGH_MM, THROUGH_DETECTED_MM = 10.0, 4.0
APART_MM = 60.0  # vertebrae whose middles are farther apart do not overlap


@dataclass(frozen=True)
class Merged:
    """What becomes of a study's vertebrae.

    Attributes
    ----------
    kept : the vertebrae that stay, by id; their names may be other ones.
    fresh : the detected vertebrae, which replace all others.
    lost : ids of vertebrae that a reader had edited or judged, and that were replaced: the curve left them.
    """

    kept: dict[str, State]
    fresh: list[State]
    lost: list[str]


@dataclass(frozen=True)
class _Place:
    """A vertebra of the merged column.

    Attributes
    ----------
    id : of a vertebra that stays; None for a detected one.
    detected : what was detected in its place: for a detected vertebra, itself.
    sure : its earlier name and the name's probability, if that name was sure.
    """

    state: State
    id: str | None
    detected: State | None
    sure: tuple[str, float] | None


def merged(known: Mapping[str, State], found: Sequence[Vertebra], along: Straightening, detected: bool) -> Merged:
    """Return what becomes of vertebrae `known`, by id, if `found` were detected along another curve.

    A vertebra that a reader touched stays if the curve passes through it, or if nothing was detected in its place; what
    was detected there is then dropped. Otherwise the vertebra in its place gets its name, if that is pinned. The others
    are replaced; if nothing was `detected`, as without networks, those stay that the curve passes through.

    Names agree with the pinned ones; without any, with the sure names of vertebrae that stay. Without those they are
    the detected ones, if they are sure, or agree with the sure ones of before.
    """
    fresh = [state_of(v) for v in found]
    sides = [_from_the_side(state, along) for state in fresh]
    same = {i: _in_place_of(_from_the_side(state, along), sides) for i, state in known.items()}
    aside = _distances(known, along)
    kept = [i for i, state in known.items() if _stays(state, same[i], aside[i], detected)]
    taken = {j for i in kept for j in same[i]}
    pinned_last = sorted(known, key=lambda i: bool(known[i]["pinned"]))  # of two in one place the named one counts
    before = {same[i][0]: i for i in pinned_last if i not in kept and same[i]}
    sure = _sure_names(known)
    places = [_Place(known[i], i, fresh[same[i][0]] if same[i] else None, sure.get(i)) for i in kept]
    for j in set(range(len(fresh))) - taken:
        earlier = before.get(j)
        state = _with_pinned_name(fresh[j], known[earlier]) if earlier else fresh[j]
        unmoved = earlier and aside[earlier] <= THROUGH_DETECTED_MM
        places.append(_Place(state, None, fresh[j], sure.get(earlier or "") if unmoved else None))
    named = _named(sorted(places, key=lambda place: -float(_from_the_side(place.state, along)[..., 1].mean())))
    return Merged(
        {place.id: place.state for place in named if place.id},
        [place.state for place in named if not place.id],
        [i for i, s in known.items() if i not in kept and (_is_own(s) or s["review"] != "open")],
    )


def name_between(names: Sequence[str | None], steps: Sequence[int], at: int) -> str | None:
    """Return the name of vertebra `at` that follows from its neighbours'; None without any, or if it is taken."""
    neighbour = next((i for i in (at - 1, at + 1) if 0 <= i < len(names) and names[i]), None)
    if neighbour is None:
        return None
    held = [i != at for i in range(len(names))]
    name = renamed(names, held, steps, neighbour, str(names[neighbour]))[at]
    return None if name in names else name


# -- which vertebrae stay


def _is_own(state: State) -> bool:
    """True if a reader stands for the key points."""
    return bool(state["origin"] == "reader" or state["review"] == "confirmed")


def _distances(states: Mapping[str, State], along: Straightening) -> dict[str, float]:
    """Return how far the curve passes from the middle of each vertebra, mm, by id."""
    middles = np.reshape([np.mean(state["keypoints"], (0, 1)) for state in states.values()], (-1, 3))
    return dict(zip(states, along.curve.distance_to(middles).tolist(), strict=True))


def _stays(state: State, same: Sequence[int], aside: float, detected: bool) -> bool:
    passes = aside <= (THROUGH_MM if _is_own(state) else THROUGH_DETECTED_MM)
    return (passes or not same) if is_touched(state) else (passes and not detected)


def _in_place_of(mine: np.ndarray, others: Sequence[np.ndarray]) -> list[int]:
    """Return the indices of the `others` that are in a vertebra's place seen from the side, the nearest first."""
    apart = [float(np.linalg.norm((each - mine).mean((0, 1)))) for each in others]
    near = sorted((i for i in range(len(others)) if apart[i] < APART_MM), key=lambda i: apart[i])
    return [i for i in near if apart[i] < NEAR_MM or butterfly_iou(mine, others[i]) > NMS_THRESHOLD]


def _from_the_side(state: State, along: Straightening) -> np.ndarray:
    """Return the key points `(3, 2, 2)`, straight [A, S] mm."""
    return along.to_straight(np.asarray(state["keypoints"]))[..., 1:]


# -- names


def _with_pinned_name(state: State, earlier: State) -> State:
    return {**state, "level": earlier["level"], "pinned": True} if earlier["pinned"] else state


def _sure_names(states: Mapping[str, State]) -> dict[str, tuple[str, float]]:
    """Return the names that are sure, with their probabilities, by id."""
    names, shares, pinned = ([s[key] for s in states.values()] for key in ("level", "level_probabilities", "pinned"))
    each = zip(states, names, shares, in_doubt(names, shares, pinned), strict=True)
    return {i: (name, share.get(name, 1.0)) for i, name, share, doubt in each if name and doubt is None}


def _named(places: Sequence[_Place]) -> list[_Place]:
    """Return the vertebrae of a column, cranial first, with names that agree."""
    steps = _steps([place.state for place in places])
    held = _held_names(places)
    names = [place.detected["level"] if place.detected else None for place in places]
    if all(names) and all(names[i] == name for i, (name, _) in held.items()):
        held = {}  # the detected names agree, and know of a T13 or L6
    if held:
        names = _following(names, held, steps)
        return [_renamed(place, name, held, i) for i, (place, name) in enumerate(zip(places, names, strict=True))]
    for i, place in enumerate(places):
        if not place.detected:
            names[i] = name_between(names, steps, i)
    return [_as_detected(place, name) for place, name in zip(places, names, strict=True)]


def _held_names(places: Sequence[_Place]) -> dict[int, tuple[str, float]]:
    """Return the names that the others follow, with their probabilities, by index."""
    pinned = {i: (p.state["level"], 1.0) for i, p in enumerate(places) if p.state["pinned"] and p.state["level"]}
    earlier = {i: place.sure for i, place in enumerate(places) if place.sure}
    own = {i: name for i, name in earlier.items() if places[i].id}
    found = {str(i): place.detected for i, place in enumerate(places) if place.detected}
    return pinned or own or ({} if len(_sure_names(found)) == len(found) else earlier)


def _following(
    names: Sequence[str | None], held: Mapping[int, tuple[str, float]], steps: Sequence[int]
) -> list[str | None]:
    new = [held[i][0] if i in held else name for i, name in enumerate(names)]
    for i, (name, _) in held.items():
        new = renamed(new, [j in held for j in range(len(new))], steps, i, name)
    return new


def _renamed(place: _Place, name: str | None, held: Mapping[int, tuple[str, float]], at: int) -> _Place:
    """Name a vertebra after held names; unless they are a reader's, the name is as probable as the least sure one."""
    least = min(share for _, share in held.values())
    own = place.state["level_probabilities"] if at in held or least == 1.0 else {name: least} if name else {}
    return replace(place, state={**place.state, "level": name, "level_probabilities": own})


def _as_detected(place: _Place, name: str | None) -> _Place:
    shares = (place.detected or place.state)["level_probabilities"]
    return replace(place, state={**place.state, "level": name, "level_probabilities": shares})


def _steps(states: Sequence[State]) -> list[int]:
    """Return how many levels each vertebra but the first lies below the one above it."""
    if len(states) < 2:
        return []
    points = np.array([state["keypoints"] for state in states])
    return [int(n) for n in steps_between(points.mean((1, 2)), np.array([heights(k).mean() for k in points]))]


def rescue_text(merged: Merged, lost: Sequence[str]) -> str:
    """Return what to tell the reader after a rescue; `lost` are the names of vertebrae that the curve left."""
    told = [f"{len(merged.fresh)} vertebrae found along your points."]
    if merged.kept:
        told.append(f"Kept from before: {len(merged.kept)}.")
    if lost:
        told.append(f"Replaced although a reader had edited or judged them, as the curve left them: {', '.join(lost)}.")
    return " ".join([*told, "Undo restores everything."])
