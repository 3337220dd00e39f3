"""An adjudication as it is listed: rows of plain values without names and grades, for both faces.

One row for each vertebra, the worst disagreement first, and one for each reader with what is said of the selected one.
"""

from __future__ import annotations

from typing import Any

from .adjudication_review import AdjudicationReview
from .annotation_keys import TAKEN_BY_DIGIT
from .annotation_rows import Row, label_rows
from .opinions import SIGNS, style


def decision_rows(review: AdjudicationReview) -> list[Row]:
    """Return a row for each vertebra: that of `label_rows`, with what was decided, and what the readers differ in."""
    annotation, study = review.annotation, review.study
    if annotation is None or review.editor is None:
        return []
    rows = label_rows(review)
    for row in rows:
        dispute = annotation.disputes.get(row["id"])
        row["decision"] = decision = annotation.decision(study, row["id"])
        row["decided"] = f"reader {decision}" if decision[:1].isupper() else decision  # a letter, or a word
        row["told"] = dispute.text if dispute else "placed by you"
    return rows


def opinion_rows(review: AdjudicationReview) -> list[Row]:
    """Return a row for each reader of the case, by letter, and what this reader says of the selected vertebra.

    Keys: `letter`; `color` (red, green, blue) of 0 to 1; `sign`, the shape of the points; `said`; `there`, whether the
    reader marked the vertebra; `key` that takes the reading, "" without one; `chosen`, whether `take_chosen` takes it.
    """
    annotation = review.annotation
    dispute = annotation.disputes.get(review.selected or "") if annotation else None
    rows: list[dict[str, Any]] = []
    for letter in annotation.letters if annotation else ():
        color, shape = style(letter)
        there = bool(dispute and letter in dispute.points)
        said = (dispute.levels[letter] or "level?") if dispute and there else ""
        if dispute and letter in dispute.excluded:
            said = "not assessable"
        elif dispute and letter in dispute.absent:
            said = "not marked"
        chosen = there and review.chosen == letter
        key = str(TAKEN_BY_DIGIT.index(letter) + 1) if letter in TAKEN_BY_DIGIT else ""
        rows.append({"letter": letter, "color": color, "sign": SIGNS[shape], "said": said, "there": there, "key": key,
                     "chosen": chosen})  # fmt: skip
    return rows


def left_text(review: AdjudicationReview) -> str:
    """Return how many disagreements wait; "" while no case is open."""
    if review.annotation is None or review.editor is None:
        return ""
    left = len(review.annotation.waiting(review.study))
    return f"{left} to be decided, the worst first" if left else "All disagreements are decided"
