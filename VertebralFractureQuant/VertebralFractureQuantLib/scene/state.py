"""The state of a study as plain JSON values: what an action changes and what the journal stores.

A study's state is a dictionary: one entry for each vertebra under its id ("v1", "v2", ...), and one for the spine's
curve under `CURVE`. Key points and curve points are patient RAS mm. Measurements are left out: they follow from the key
points.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from ..spine.genant import Measurement
from ..spine.plausibility import GEOMETRIC
from ..spine.quality import Flag, sorted_flags
from ..spine.record import SpineAnalysis, Vertebra
from ..spine.record_json import from_json, to_json, vertebra_from_json, vertebra_to_json

CURVE = "curve"  # the key of the curve in a study's state; every other key is the id of a vertebra
# The fields of a record that change with the curve.
CURVE_KEYS = ("curve", "limits_mm", "status", "message", "models", "timing_s", "quality")
MEASURED = ("heights_mm", "genant_ratio", "grade", "shape", "borderline", "crush_ratio")
DERIVED = (*MEASURED, "physiologic")  # not in a state: they follow from key points and levels
OF_THE_SCAN = ("cut_by_border", "metal")  # reasons to doubt a vertebra that stay when a reader sets its points
UNMEASURED = Measurement((1.0, 1.0, 1.0), 1.0, "normal", None, False)
MOVED_MM = 0.01  # smaller differences are rounding, from the transform and back or from a file

State = dict[str, Any]


@lru_cache(maxsize=2)
def record_of(text: str) -> SpineAnalysis:
    """Return the record in a JSON text; the last ones are kept, because each move of a drag asks for it."""
    return from_json(json.loads(text))


def state_of(vertebra: Vertebra) -> State:
    """Return a vertebra as JSON values, without its measurement."""
    return {key: value for key, value in vertebra_to_json(vertebra).items() if key not in DERIVED}


def vertebra_of(state: State, measurement: Measurement = UNMEASURED) -> Vertebra:
    """Return the vertebra of a state; the inverse of `state_of`."""
    measured = dict(zip(MEASURED, (getattr(measurement, name) for name in MEASURED), strict=True))
    return vertebra_from_json({**state, **measured})


def flags_of(state: State, geometric: tuple[Flag, ...]) -> tuple[Flag, ...]:
    """Return the reasons to doubt a vertebra: `geometric` ones of its points now, and those of its detection.

    Of the latter, those about the detected points end where a reader set the points.
    """
    kept = [
        Flag(f["code"], f["message"])
        for f in state.get("quality", ())
        if f["code"] not in GEOMETRIC and (state["origin"] == "model" or f["code"] in OF_THE_SCAN)
    ]
    return sorted_flags([*kept, *geometric])


def first_state(analysis: SpineAnalysis) -> State:
    """Return the state of a study before any action: that of its analysis."""
    record = to_json(replace(analysis, vertebrae=()))
    vertebrae = {f"v{i}": state_of(v) for i, v in enumerate(analysis.vertebrae, start=1)}
    return {CURVE: {key: record[key] for key in CURVE_KEYS}, **vertebrae}


def reopened(state: State) -> State:
    """Return the state of a vertebra that was changed: a confirmed one is open for review again."""
    if state["review"] != "confirmed":
        return state
    return {**state, "review": "open", "reviewer": None, "reviewed_at": None}


def nearly_equal(one: State, other: State) -> bool:
    """True if two states differ by no more than rounding in a file: `MOVED_MM` in each coordinate of their points."""
    points = ("keypoints", "curve")
    older: State = {"quality": []}  # absent in the states of older programs
    rest = [{**older, **{k: value for k, value in state.items() if k not in points}} for state in (one, other)]
    if rest[0] != rest[1]:
        return False
    pairs = [(np.asarray(one.get(key, ())), np.asarray(other.get(key, ()))) for key in points]
    return all(a.shape == b.shape and np.allclose(a, b, rtol=0, atol=MOVED_MM) for a, b in pairs)


def is_touched(details: State) -> bool:
    """True if a reader moved, placed, pinned, confirmed or rejected the vertebra."""
    return details["origin"] == "reader" or details["pinned"] or details["review"] != "open"
