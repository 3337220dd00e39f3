"""The study as a face shows it: rows of plain values, one a vertebra, and a line about the patient."""

from __future__ import annotations

from typing import Any

from ..spine.genant import deciding_text, deformity_index, ratio_text, severity, worst_grade
from ..spine.keypoints import FAULTS
from ..spine.levels import contradictions
from .study import StudyScene

Row = dict[str, Any]


def row(study: StudyScene, vertebra_id: str, contradiction: bool) -> Row:
    """One vertebra. `g` is the ratio in full, `ratio` as it is read; `contradiction`: its name does not follow those
    above it; `doubt`: what to know of a name that is not sure."""
    v = study.vertebra(vertebra_id)
    m = v.measurement
    faults, doubt = study.faults[vertebra_id], study.doubts().get(vertebra_id)
    return {
        "id": vertebra_id,
        "level": study.label(vertebra_id),
        "contradiction": contradiction,
        "doubt": "" if doubt is None else f"{doubt:.0%} sure; give one vertebra its right name, and the others follow",
        "pinned": v.pinned,
        "ha": f"{m.heights_mm[0]:.1f}",
        "hm": f"{m.heights_mm[1]:.1f}",
        "hp": f"{m.heights_mm[2]:.1f}",
        "g": repr(m.genant_ratio),
        "ratio": ratio_text(m.genant_ratio),
        "spread": "" if v.spread is None else f"±{v.spread:.2f}",
        "borderline": m.borderline,
        "grade": m.grade,
        "shape": m.shape or "",
        "fault": " ".join(FAULTS[f] for f in faults),
        "origin": v.origin,
        "review": v.review,
        "reviewer": "" if v.reviewer is None else f"{v.reviewer}, {v.reviewed_at}",
    }


def rows(study: StudyScene, order: list[str]) -> list[Row]:
    """All vertebrae in an order of ids."""
    names = [study.vertebrae[i].details["level"] for i in study.order]
    wrong = {study.order[i] for i in contradictions(names, study.steps())}
    return [row(study, i, i in wrong) for i in order]


def summary(study: StudyScene) -> dict[str, Any]:
    """The patient: worst grade and where, SDI, which levels were assessed, how many are still open."""
    reviews = [study.vertebrae[i].details["review"] for i in study.order]
    assessed = [i for i, verdict in zip(study.order, reviews, strict=True) if verdict != "rejected"]
    grades = [study.measurements[i].grade for i in assessed]
    worst = min(assessed, key=lambda i: severity(study.measurements[i]), default=None)
    return {
        "grade": worst_grade(grades),
        "worst": f"{study.label(worst)} {deciding_text(study.measurements[worst])}" if worst else "",
        "sdi": deformity_index(grades) if grades else None,
        "span": " to ".join(dict.fromkeys(study.label(i) for i in (*assessed[:1], *assessed[-1:]))),
        "assessed": len(assessed),
        "open": reviews.count("open"),
        "total": len(reviews),
    }
