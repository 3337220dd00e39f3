"""The study as it is listed: rows of plain values, one for each vertebra, and a summary of the patient."""

from __future__ import annotations

from typing import Any

from ..spine.genant import deciding_ratio, deciding_text, deformity_index, ratio_text, severity, worst_grade
from ..spine.levels import contradictions
from ..spine.plausibility import IMPOSSIBLE
from ..spine.quality import codes_text
from .study import StudyScene

DOUBT = "{:.0%} certain; set the level of one vertebra, and the levels of the others follow"

Row = dict[str, Any]


def row(study: StudyScene, vertebra_id: str, contradiction: bool) -> Row:
    """Return the row of one vertebra.

    `g` is the Genant ratio with all digits, `ratio` is rounded for reading. `contradiction`: the level does not follow
    from those above. `doubt`: a sentence about a level that is not certain, else "". `neighbours`:
    "0.77 of neighbours" if they gave the grade, else "". `fault`: why the key points are impossible, else "". `counts`:
    False if the patient's grade and SDI leave the vertebra out.
    """
    v = study.vertebra(vertebra_id)
    m = v.measurement
    doubt, decided = study.doubts().get(vertebra_id), deciding_ratio(m)
    return {
        "id": vertebra_id,
        "level": study.label(vertebra_id),
        "contradiction": contradiction,
        "doubt": "" if doubt is None else DOUBT.format(doubt),
        "pinned": v.pinned,
        "ha": f"{m.heights_mm[0]:.1f}",
        "hm": f"{m.heights_mm[1]:.1f}",
        "hp": f"{m.heights_mm[2]:.1f}",
        "g": repr(m.genant_ratio),
        "ratio": ratio_text(m.genant_ratio),
        "spread": "" if v.spread is None else f"±{v.spread:.2f}",
        "borderline": m.borderline,
        "grade": m.grade,
        "neighbours": f"{ratio_text(decided)} of neighbours" if decided < m.genant_ratio else "",
        "counts": study.counts(vertebra_id),
        "shape": m.shape or "",
        "physiologic": v.physiologic or "",
        "flags": codes_text(study.flags[vertebra_id]),
        "quality": " ".join(flag.message for flag in study.flags[vertebra_id]),
        "fault": study.impossible.get(vertebra_id, ""),
        "origin": v.origin,
        "review": v.review,
        "reviewer": "" if v.reviewer is None else f"{v.reviewer}, {v.reviewed_at}",
    }


def rows(study: StudyScene, order: list[str]) -> list[Row]:
    """Return the rows of all vertebrae; `order` lists their ids."""
    names = [study.vertebrae[i].details["level"] for i in study.order]
    wrong = {study.order[i] for i in contradictions(names, study.steps())}
    return [row(study, i, i in wrong) for i in order]


def summary(study: StudyScene) -> dict[str, Any]:
    """Return the patient's summary: worst grade and where, SDI, assessed levels, how many are still open.

    `physiologic` names the vertebrae whose shape is physiologic; they count as normal. `quality` lists the sentences
    of the reasons to doubt the study, the most serious first; those on vertebrae that do not count begin.
    """
    reviews = [study.vertebrae[i].details["review"] for i in study.order]
    assessed = [i for i in study.order if study.counts(i)]
    usual = [i for i in assessed if i in study.physiologic]
    grades = ["normal" if i in usual else study.measurements[i].grade for i in assessed]
    counted = [i for i in assessed if i not in usual]
    worst = min(counted, key=lambda i: severity(study.measurements[i]), default=None)
    return {
        "grade": worst_grade(grades),
        "worst": f"{study.label(worst)} {deciding_text(study.measurements[worst])}" if worst else "",
        "sdi": deformity_index(grades) if grades else None,
        "span": " to ".join(dict.fromkeys(study.label(i) for i in (*assessed[:1], *assessed[-1:]))),
        "physiologic": ", ".join(study.label(i) for i in usual),
        "quality": [*_not_counted(study), *(flag.message for flag in study.quality() if flag.code != IMPOSSIBLE)],
        "assessed": len(assessed),
        "open": reviews.count("open"),
        "total": len(reviews),
    }


def _not_counted(study: StudyScene) -> list[str]:
    return [
        f"{study.label(i)} is not counted: {study.impossible[i]} Put its points right, or reject it."
        for i in study.order
        if study.vertebrae[i].details["review"] == "open" and i in study.impossible
    ]


def first_row(study: StudyScene) -> str | None:
    """Return the vertebra to begin with: an impossible one, the worst fracture, a doubtful one, an open one, or any."""
    left = [i for i in study.order if study.vertebrae[i].details["review"] == "open"]
    fractured = [
        i for i in left if study.counts(i) and i not in study.physiologic and study.measurements[i].grade != "normal"
    ]
    doubtful = [i for i in left if study.flags[i]]
    impossible = [i for i in left if i in study.impossible]
    worst = sorted(fractured, key=lambda i: severity(study.measurements[i]))
    return next(iter((*impossible, *worst, *doubtful, *left, *study.order)), None)


def stepped_row(ids: list[str], selected: str | None, by: int) -> str | None:
    """Return the row `by` rows below the selected one, or the first or last; the first if none is selected."""
    at = ids.index(selected) + by if selected in ids else 0
    return ids[min(max(at, 0), len(ids) - 1)] if ids else None


def following_row(ids: list[str], selected: str | None) -> str | None:
    """Return the row below the selected one, or the row above it if it is the last."""
    at = ids.index(selected) if selected in ids else len(ids)
    return next(iter((*ids[at + 1 :], *reversed(ids[:at]))), None)


def left_open_text(study: StudyScene) -> str:
    """Return why the study is not complete, and what to do; "" if every vertebra is confirmed or rejected."""
    left = [study.label(i) for i in study.order if study.vertebrae[i].details["review"] == "open"]
    if not left and study.order:
        return ""
    told = f"{len(left)} of {len(study.order)} vertebrae are" if left else "No vertebra is there that is"
    names = f": {', '.join(left)}" if left else ""
    return (
        f"The study is not complete: {told} neither confirmed nor rejected{names}. Confirm (c) or reject (x) "
        "them first."
    )
