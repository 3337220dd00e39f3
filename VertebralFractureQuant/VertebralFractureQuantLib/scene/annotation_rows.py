"""An annotation as it is listed: rows of plain values without grades and heights, one for each vertebra."""

from __future__ import annotations

from typing import Any

from .annotation_review import AnnotationReview

PLACED = {"reader": "reader", "automatic": "proposed", "mask": "mask", "centroid": "centre"}

Row = dict[str, Any]


def label_rows(review: AnnotationReview) -> list[Row]:
    """Return a row for each vertebra with points, as they are listed; none while no case is open."""
    annotation = review.annotation
    if annotation is None or review.editor is None:
        return []
    waiting = annotation.waiting(review.study)
    return [_row(review, vertebra_id, vertebra_id in waiting) for vertebra_id in review.order]


def _row(review: AnnotationReview, vertebra_id: str, waits: bool) -> Row:
    study, annotation = review.study, review.annotation
    assert annotation
    details, lateral = study.vertebrae[vertebra_id].details, study.plane_of(vertebra_id)
    source = PLACED[annotation.source(study, vertebra_id)]
    return {
        "id": vertebra_id,
        "level": study.label(vertebra_id),
        "named": bool(details["level"]),
        "pinned": details["pinned"],
        "waits": waits,
        "source": "accepted" if source == "proposed" and not waits else source,
        "plane": f"{abs(lateral):.1f} mm {'left' if lateral < 0 else 'right'}",
        "seconds": f"{annotation.watch.seconds(vertebra_id):.0f} s",
        "comment": annotation.comments.get(vertebra_id, ""),
    }


def reason_rows(review: AnnotationReview) -> list[Row]:
    """Return a row for each level that is not assessable."""
    return [
        {"level": v.level, "reason": (v.not_assessable or "").replace("_", " "), "comment": v.comment}
        for v in (review.annotation.others if review.annotation else ())
        if v.not_assessable
    ]
