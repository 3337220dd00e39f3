"""Which network proposed a vertebra at a click: named in the record, if the case was measured with other networks.

The name is a part of the curve's state, so that undo takes it back with the vertebra.
"""

from __future__ import annotations

import json

from ..analysis import Models
from ..spine.record_json import to_json
from .state import CURVE, State
from .study import StudyScene

PROPOSER = "detector"  # the role of the network that places the points at a click


def name_proposer(study: StudyScene, models: Models | None) -> dict[str, State]:
    """Name the detector of `models` in the study's record, beside the networks of the analysis.

    Returns what changes in the study's state: its curve's, or nothing if the detector is named already.
    """
    known = study.curve_state()
    named = {(stamp["role"], stamp["sha256"]) for stamp in known["models"]}
    stamps = models.stamps if models else ()
    fresh = [vars(s) for s in stamps if s.role == PROPOSER and (s.role, s.sha256) not in named]
    if not fresh:
        return {}
    state = {**known, "models": [*known["models"], *fresh]}
    study.nodes["study"].SetText(json.dumps(to_json(study.with_curve(state))))
    return {CURVE: state}
