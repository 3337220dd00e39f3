"""Height loss of all vertebrae of a scan against their synthetic pictures (`methods.healthy_picture`).

Losses are means of the thirds of the depth [anterior, middle, posterior], shares. The results of a scan are kept as a
JSON file, because a picture takes about as long as the whole analysis of a scan.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import VFQError
from ..spine.curve import fit_curve
from ..spine.genant import GRADES
from ..spine.record import SpineAnalysis
from ..spine.straightening import AIR, Straightening
from .graders import Graded, graded_losses

if TYPE_CHECKING:
    from ..imaging.ct import CTVolume
    from ..methods.healthy_picture import Healer


@dataclass(frozen=True)
class PictureLoss:
    """The loss `(3,)` and grade (one of `GRADES`) of one vertebra, or the `code` of why it has none."""

    loss: tuple[float, ...] | None
    grade: str | None
    code: str = ""


def picture_losses(healer: Healer, analysis: SpineAnalysis, ct: CTVolume) -> list[PictureLoss]:
    """Return the loss of each vertebra of `analysis`, which is that of `ct`."""
    from ..methods.healthy_picture import flat_keypoints, straight_image

    if len(analysis.vertebrae) < 2:
        return [PictureLoss(None, None, "no_neighbour") for _ in analysis.vertebrae]
    curve = fit_curve(analysis.curve)
    straightening = Straightening(curve)
    image = straight_image(lambda at: ct.sample(straightening.to_patient(at), fill=AIR), curve.length)
    points = flat_keypoints(curve, [v.keypoints for v in analysis.vertebrae])
    return [_loss(healer, image, points, i) for i in range(len(points))]


def kept_losses(path: Path, key: dict[str, Any]) -> list[PictureLoss] | None:
    """Return the losses in the file of an earlier run with the same `key`; None if there are none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["key"] != key:
            return None
        return [PictureLoss(v["loss"] and tuple(v["loss"]), v["grade"], v["code"]) for v in data["vertebrae"]]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def keep_losses(path: Path, key: dict[str, Any], losses: list[PictureLoss]) -> None:
    """Write the losses of a scan, and the `key` of what made them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"key": key, "vertebrae": [vars(v) for v in losses]}), encoding="utf-8")


def as_graded(losses: list[PictureLoss]) -> Graded:
    """Return the losses as a rule of grading gives them."""
    values = np.array([v.loss or (np.nan,) * 3 for v in losses], float).reshape(-1, 3)
    return graded_losses(values, [None if v.grade is None else GRADES.index(v.grade) for v in losses], thirds=True)


def _loss(healer: Healer, image: np.ndarray, points: np.ndarray, index: int) -> PictureLoss:
    from ..methods.healthy_picture import healthy_picture

    try:
        picture = healthy_picture(healer, image, points, index)
    except VFQError as error:
        return PictureLoss(None, None, error.code)
    return PictureLoss(tuple(float(x) for x in picture.loss), picture.grade)
