"""The spine localizer: finds the spine's curve and its limits in a coarse CT.

A 3D U-Net on a RAS-aligned grid of 4 mm gives one map. In each axial slice, a 2D soft-argmax of the map is the curve's
point, and the largest value is the logit of "this slice holds spine" (Zakharov et al. 2023, section 2.1). Volumes are
`[s, a, r]`: slices from caudal to cranial, rows towards anterior, columns towards R.

Departures from the paper: voxels are 4 mm isotropic instead of 2 x 2 x 4 mm, which is a quarter of the voxels; the
soft-argmax is accurate to less than a voxel. At inference the soft-argmax considers only the surroundings of the one
continuous path that explains all slices best: a bright heart or aorta may be stronger in some slices, but not along the
whole spine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..imaging.axes import directions
from ..imaging.ct import CTVolume
from .predictor import Predictor

if TYPE_CHECKING:
    from torch import Tensor

HU = TypeVar("HU", np.ndarray, "Tensor")

SPACING_MM = 4.0
WINDOW_HU = (-1000.0, 1000.0)
AIR_HU = -1000.0
DEPTH = 4
SLICE_THRESHOLD = 0.5  # as in the paper
PATH_REACH = 2  # voxels per slice: enough for a spine that leans by 60 degrees
PATH_RADIUS = 5  # voxels
WORST_LOG_PROBABILITY = -8.0  # a slice without spine must not cost more than a detour


@dataclass(frozen=True)
class CoarseVolume:
    """A RAS-aligned isotropic volume `[s, a, r]` HU; `origin` is the place of voxel (0, 0, 0) in RAS mm."""

    voxels: np.ndarray
    origin: np.ndarray
    spacing: float = SPACING_MM


def scale(volume: HU) -> HU:
    """Scale HU of any shape to [0, 1]; takes a numpy array or a torch tensor."""
    low, high = WINDOW_HU
    return (volume.clip(low, high) - low) / (high - low)


def soft_argmax(heat: np.ndarray) -> np.ndarray:
    """Return the expected (a, r) voxel position `(s, 2)` on every slice of `heat` `(s, a, r)`.

    `losses.soft_argmax` is the same for torch.
    """
    from scipy.special import softmax

    weight = softmax(heat, (1, 2))
    a, r = (np.arange(n) for n in heat.shape[1:])
    return np.stack([weight.sum(2) @ a, weight.sum(1) @ r], -1)


def continuous_path(heat: np.ndarray) -> np.ndarray:
    """Return the path through `heat` `(s, a, r)` with the greatest sum of log-probabilities, as (a, r) voxels `(s, 2)`.

    It moves at most `PATH_REACH` voxels from slice to slice. It is found by dynamic programming.
    """
    from scipy.ndimage import maximum_filter
    from scipy.special import log_expit

    gain = np.maximum(log_expit(heat), WORST_LOG_PROBABILITY)
    best = [gain[0]]
    for plane in gain[1:]:
        best.append(maximum_filter(best[-1], 2 * PATH_REACH + 1) + plane)
    path = [np.array(np.unravel_index(best[-1].argmax(), heat.shape[1:]))]
    for plane in best[-2::-1]:
        path.append(_highest_near(plane, path[-1]))
    return np.stack(path[::-1])


def _highest_near(plane: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Return the voxel (a, r) with the largest value within `PATH_REACH` voxels of `position`."""
    low = np.maximum(position - PATH_REACH, 0)
    high = position + PATH_REACH + 1
    near = plane[low[0] : high[0], low[1] : high[1]]
    return low + np.unravel_index(near.argmax(), near.shape)


def around_path(heat: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Return `heat` `(s, a, r)` with minus infinity farther than `PATH_RADIUS` voxels from `path` `(s, 2)`."""
    a, r = (np.arange(n) - path[:, i, None] for i, n in enumerate(heat.shape[1:]))
    far = a[:, :, None] ** 2 + r[:, None, :] ** 2 > PATH_RADIUS**2
    return np.where(far, -np.inf, heat)


def coarsen(ct: CTVolume, spacing: float = SPACING_MM) -> CoarseVolume:
    """Average `ct` in blocks along its own axes, and resample it to a RAS-aligned grid of `spacing` mm.

    The result does not depend on the order and the direction of the axes of `ct`.
    """
    ct = _as_scanned(ct)
    steps = np.maximum(1, np.floor(spacing / np.asarray(ct.spacing_mm)).astype(int))
    blocks = _block_mean(ct.voxels, steps)
    to_ras = ct.ijk_to_ras.copy()
    to_ras[:3, 3] += to_ras[:3, :3] @ [np.mean(_picks(s)) for s in steps[::-1]]
    to_ras[:3, :3] = to_ras[:3, :3] * steps[::-1]
    corners = _corners(blocks.shape, to_ras)
    low, high = corners.min(0), corners.max(0)
    count = np.maximum(1, np.floor((high - low) / spacing).astype(int) + 1)
    origin = low + ((high - low) - (count - 1) * spacing) / 2
    return CoarseVolume(_resampled(blocks, np.linalg.inv(to_ras), origin, spacing, count), origin, spacing)


def _as_scanned(ct: CTVolume) -> CTVolume:
    """Return a view of `ct` whose i, j and k run to the left, backwards and upwards, as nearly as its axes allow.

    The order matters because blocks begin at the first voxel.
    """
    along = np.abs(directions(ct.ijk_to_ras))
    nearest = np.array(max(permutations(range(3)), key=lambda order: along[range(3), order].sum()))
    voxels, to_ras = ct.voxels.transpose(2 - nearest[::-1]), ct.ijk_to_ras.copy()
    to_ras[:3, :3] = to_ras[:3, nearest]
    for axis, towards in enumerate((-1, -1, 1)):
        if to_ras[axis, axis] * towards < 0:
            to_ras[:3, 3] += to_ras[:3, axis] * (voxels.shape[2 - axis] - 1)
            to_ras[:3, axis] *= -1
            voxels = np.flip(voxels, 2 - axis)
    return replace(ct, voxels=voxels, ijk_to_ras=to_ras)


def _resampled(
    blocks: np.ndarray, ras_to_ijk: np.ndarray, origin: np.ndarray, spacing: float, count: np.ndarray
) -> np.ndarray:
    """Sample `blocks` `[k, j, i]` trilinearly as `[s, a, r]`; both index orders are the reverse of their matrix's."""
    from scipy.ndimage import affine_transform

    matrix = (ras_to_ijk[:3, :3] * spacing)[::-1, ::-1]
    offset = (ras_to_ijk[:3, :3] @ origin + ras_to_ijk[:3, 3])[::-1]
    shape = tuple(int(n) for n in count[::-1])
    resampled: np.ndarray = affine_transform(blocks, matrix, offset, shape, order=1, mode="nearest")
    outside = affine_transform(np.ones_like(blocks), matrix, offset, shape, order=1, mode="constant") < 0.5
    resampled[outside] = AIR_HU
    return resampled


def _block_mean(voxels: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the mean over blocks of `steps` [k, j, i] voxels.

    At most two samples along each axis are used, which is enough against aliasing here.
    """
    count = [max(1, n // s) for n, s in zip(voxels.shape, steps, strict=True)]
    total: np.ndarray | None = None
    picks = [_picks(s) for s in steps]
    for k in picks[0]:
        for j in picks[1]:
            for i in picks[2]:
                part = voxels[k :: steps[0], j :: steps[1], i :: steps[2]][: count[0], : count[1], : count[2]]
                total = part.astype(np.int32) if total is None else total + part
    assert total is not None
    return total.astype(np.float32) / np.prod([len(p) for p in picks])


def _picks(step: int) -> list[int]:
    """Return the voxels that represent a block of `step` voxels."""
    return sorted({step // 4, (3 * step) // 4})


def _corners(shape: tuple[int, ...], ijk_to_ras: np.ndarray) -> np.ndarray:
    ends = [(0, n - 1) for n in shape[::-1]]
    ijk = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3)
    return ijk @ ijk_to_ras[:3, :3].T + ijk_to_ras[:3, 3]


def localize(predict: Predictor, volume: CoarseVolume) -> tuple[np.ndarray, np.ndarray]:
    """Return curve points `(s, 3)` RAS mm, one per axial slice, caudal first, and P(slice holds spine) `(s,)`."""
    from scipy.special import expit

    slices, rows, columns = volume.voxels.shape
    rest = [(0, -n % 2**DEPTH) for n in volume.voxels.shape]
    padded = np.pad(volume.voxels.astype(np.float32), rest, constant_values=AIR_HU)
    (heat,) = predict(scale(padded)[None, None])
    heat = heat[0, :slices, :rows, :columns]
    near = around_path(heat, continuous_path(heat))
    sar = np.column_stack([np.arange(slices), soft_argmax(near)])
    return volume.origin + sar[:, ::-1] * volume.spacing, expit(near.max((1, 2)))
