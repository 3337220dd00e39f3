"""What a vertebra may have looked like before it broke: its synthetic picture, and its height loss against it.

After HealthiVert-GAN (2025), rebuilt: the vertebra is hidden in the straightened image, the generator completes it from
its neighbours, and the loss of each third is 1 - measured / synthetic height (RHLV), not clamped. The straightened
image is `(rows, 128)` HU at 1 mm, key points in it are (A, row) mm. The picture is synthetic and must be shown as such.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import VFQError
from ..networks import weights
from ..networks.detector import COLUMNS as IMAGE_COLUMNS
from ..networks.detector import HALF_WIDTH_MM
from ..spine.curve import SpineCurve, fit_curve
from ..spine.genant import GRADES
from ..spine.record import ModelStamp, SpineAnalysis
from ..spine.straightening import Straightening
from .healthy_frame import BAND, OUTSIDE, body_mask, crop, frame_of, unscaled
from .healthy_loss import column_heights, thirds

if TYPE_CHECKING:
    from ..networks.predictor import Predictor

ROLE = "healthy"
SCHEMA = "vfq-healthy/1"
SLAB_MM = (-3.0, 0.0, 3.0)  # lateral planes whose mean the network sees


@dataclass(frozen=True)
class Healer:
    """The generator on its device, the linear support vector machine of the grade, and the generator's identity.

    `loss_sd` `(3,)` is the error of the thirds' losses on phantoms, root mean square; None if it was not measured.
    """

    predict: Predictor
    grader: dict[str, Any] | None
    stamp: ModelStamp
    loss_sd: tuple[float, ...] | None = None


@dataclass(frozen=True, eq=False)
class HealthyPicture:
    """The synthetic picture of one vertebra.

    Attributes
    ----------
    real, synthetic : `(rows, COLUMNS)` HU at 1 mm: the vertebra with what is above and below it, and the same with the
        synthetic body. They differ in rows by what the body lost.
    real_mask, synthetic_mask : the body in them, shares of pixels; the real one is that of the six points.
    real_mm, synthetic_mm : mean heights of the thirds [anterior, middle, posterior], mm.
    loss : 1 - real / synthetic of each third; negative if the vertebra is taller than its synthetic body.
    loss_sd : the error of these losses on phantoms, see `Healer`.
    grade : by the loss alone, of `genant.GRADES`; None if the weights have no grader.
    """

    real: np.ndarray
    synthetic: np.ndarray
    real_mask: np.ndarray
    synthetic_mask: np.ndarray
    real_mm: np.ndarray
    synthetic_mm: np.ndarray
    loss: np.ndarray
    loss_sd: tuple[float, ...] | None
    grade: str | None

    @property
    def is_certain(self) -> bool:
        """True if a loss is larger than its error, or the error is not known."""
        return self.loss_sd is None or bool((self.loss > np.array(self.loss_sd)).any())


def load_healer(path: Path | None = None, threads: int | None = None) -> Healer:
    """Load the generator from `path` (.safetensors; None: the shipped weights) for OpenVINO on a CPU.

    VFQError `bad_weights`, `missing_dependency`.
    """
    from ..networks.predictor import OpenVinoPredictor

    path = path or weights.weights_folder() / f"{ROLE}.safetensors"
    found = weights.load_onnx(ROLE, path)
    if found is None:
        raise VFQError(
            "bad_weights",
            f"{path.with_suffix('.onnx').name}: the graph is missing. Reinstall the program.",
        )
    try:
        predict = OpenVinoPredictor(found[0], threads)
    except ImportError as error:
        raise VFQError(
            "missing_dependency", "The synthetic picture needs the package openvino. Install it: pip install openvino."
        ) from error
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return Healer(predict, card.get("grader"), found[1], card.get("loss_sd"))


def straight_image(sample: Callable[[np.ndarray], np.ndarray], length_mm: float) -> np.ndarray:
    """Return the straightened image `(rows, 128)` HU at 1 mm.

    sample : HU at points `(..., 3)` of straight space, RAS mm.
    """
    rows, columns = np.arange(0.0, length_mm + 1e-6), np.arange(IMAGE_COLUMNS) - HALF_WIDTH_MM
    grid = np.zeros((len(rows), len(columns), 3))
    grid[..., 1], grid[..., 2] = columns[None], -rows[:, None]
    return np.mean([sample(grid + np.array([x, 0.0, 0.0])) for x in SLAB_MM], axis=0)


def flat_keypoints(curve: SpineCurve, keypoints: Sequence[np.ndarray]) -> np.ndarray:
    """Return (A, row) mm `(n, 3, 2, 2)` of key points `(n, 3, 2, 3)` RAS mm."""
    straight = Straightening(curve).to_straight(np.reshape(keypoints, (-1, 3, 2, 3)))
    return np.stack([straight[..., 1], -straight[..., 2]], -1)


def vertebra_picture(
    healer: Healer, analysis: SpineAnalysis, index: int, sample: Callable[[np.ndarray], np.ndarray]
) -> HealthyPicture:
    """Return the synthetic picture of vertebra `index` of a measured case.

    Neighbours that do not count (rejected, or with impossible points) are left out. `sample` is as in `straight_image`.
    VFQError `no_neighbour` if no other vertebra is left, and that of `healthy_picture`.
    """
    curve = fit_curve(analysis.curve)
    kept = [i for i, v in enumerate(analysis.vertebrae) if v.counts or i == index]
    if len(kept) < 2:
        raise VFQError(
            "no_neighbour",
            "There is no other vertebra to compare with, so that nothing tells how this one looked. Give a longer "
            "scan, or set the points of a neighbour.",
        )
    points = flat_keypoints(curve, [analysis.vertebrae[i].keypoints for i in kept])
    return healthy_picture(healer, straight_image(sample, curve.length), points, kept.index(index))


def healthy_picture(healer: Healer, image: np.ndarray, keypoints: np.ndarray, index: int) -> HealthyPicture:
    """Return the synthetic picture of vertebra `index` of `keypoints` `(n, 3, 2, 2)` in `image`, cranial first.

    VFQError `no_synthetic_body` if the generator draws no body there.
    """
    frame = frame_of(image, keypoints, index)
    images, heights = healer.predict(frame.channels[None])
    images = np.asarray(images[0], float)
    mask = 1 / (1 + np.exp(-images[3]))
    first, last = frame.rows
    span = last - first + 2 * OUTSIDE
    real_mask = body_mask(keypoints[index], first - OUTSIDE, span, frame.left)
    found = thirds(column_heights(mask), column_heights(real_mask))
    if found is None:
        raise VFQError(
            "no_synthetic_body",
            "The generator draws no vertebral body here, so that no loss can be computed. Check the six points, and "
            "that a whole neighbour is in the scan.",
        )
    synthetic, measured = found
    tall = int(np.clip(round(float(heights[0, 1])), 4, BAND))
    loss = 1 - measured / synthetic
    return HealthyPicture(
        real=crop(image, first - OUTSIDE, span, frame.left),
        synthetic=unscaled(_closed(frame.ct, np.clip(images[2], -1, 1), tall)),
        real_mask=real_mask,
        synthetic_mask=_closed(np.zeros_like(mask), mask, tall),
        real_mm=measured,
        synthetic_mm=synthetic,
        loss=loss,
        loss_sd=healer.loss_sd,
        grade=graded(healer.grader, loss),
    )


def _closed(around: np.ndarray, band: np.ndarray, tall: int) -> np.ndarray:
    """Return the frame with only the middle `tall` rows of the band, taken from `band`; the rest is `around`."""
    top = OUTSIDE + (BAND - tall) // 2
    return np.concatenate([around[:OUTSIDE], band[top : top + tall], around[-OUTSIDE:]])


def graded(grader: dict[str, Any] | None, loss: np.ndarray) -> str | None:
    """Return the grade that a linear support vector machine gives to the losses `(3,)` of the thirds.

    grader : `mean`, `scale` `(3,)`, and for each pair of grades `coef` `(6, 3)` and `intercept` `(6,)`, in the order
        of scikit-learn's SVC: each pair has one vote.
    """
    if grader is None:
        return None
    x = (np.asarray(loss) - grader["mean"]) / np.asarray(grader["scale"])
    values = np.asarray(grader["coef"]) @ x + np.asarray(grader["intercept"])
    votes = np.zeros(len(GRADES))
    pairs = [(i, j) for i in range(len(GRADES)) for j in range(i + 1, len(GRADES))]
    for (i, j), value in zip(pairs, values, strict=True):
        votes[i if value > 0 else j] += 1
    return str(GRADES[int(votes.argmax())])


def picture_json(analysis: SpineAnalysis, name: str, picture: HealthyPicture, stamp: ModelStamp) -> dict[str, Any]:
    """Return what is measured on a synthetic picture as a JSON object of schema `vfq-healthy/1`."""
    return {
        "schema": SCHEMA,
        "case": analysis.case,
        "synthetic": True,
        "level": name,
        "heights_mm": np.round(picture.real_mm, 2).tolist(),
        "synthetic_heights_mm": np.round(picture.synthetic_mm, 2).tolist(),
        "loss": np.round(picture.loss, 4).tolist(),
        "loss_sd": None if picture.loss_sd is None else list(picture.loss_sd),
        "grade_by_loss": picture.grade,
        "model": {"role": stamp.role, "name": stamp.name, "sha256": stamp.sha256},
    }
