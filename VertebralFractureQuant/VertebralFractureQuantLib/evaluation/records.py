"""Parts that all evaluation records (JSON, `vfq-evaluation/1`) share: settings, and the form of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .matching import CENTER_THRESHOLD_MM, OVERLAP_THRESHOLD, PARTIAL_RADIUS_MM
from .metrics import COVERAGE, SPECIFICITY, Estimates
from .severity import TASKS

EVALUATION_SCHEMA = "vfq-evaluation/1"


def settings(repeats: int, seed: int) -> dict[str, Any]:
    """Return the thresholds behind the figures, and how the bootstrap drew."""
    return {
        "butterfly_iou_at_least": OVERLAP_THRESHOLD,
        "center_distance_mm_at_most": CENTER_THRESHOLD_MM,
        "partial_radius_mm": PARTIAL_RADIUS_MM,
        "specificity": SPECIFICITY,
        "tasks_positive_at_most_negative_above": {name: list(limits) for name, limits in TASKS.items()},
        "bootstrap": {"repeats": repeats, "seed": seed, "unit": "patient", "interval": COVERAGE},
    }


def nested(estimates: Estimates) -> dict[str, Any]:
    """Turn estimates into a tree by the parts of their keys, with leaves `{"value", "ci95"}`; null for no number."""
    tree: dict[str, Any] = {}
    for key, e in estimates.items():
        branch = tree
        for name in key[:-1]:
            branch = branch.setdefault(name, {})
        interval = [number(e.low), number(e.high)]
        branch[key[-1]] = {"value": number(e.value), "ci95": None if None in interval else interval}
    return tree


def number(value: float) -> float | None:
    """Round to five decimals; None for nan and infinity, which JSON does not have."""
    return round(float(value), 5) if np.isfinite(value) else None
