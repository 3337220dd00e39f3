"""M-SCN (Wang et al. 2024): centres of vertebrae in 3D, a mask of each body, and six key points on the mask.

Three networks work one after the other:

1. centres: a heat map of the centres of all vertebral bodies, in a tube along the spine's curve, `[s, a, r]`;
2. mask: background, normal and fractured bone in a crop around each centre, `[s, a, r]`;
3. points: a heat map of each key point, in the sagittal slice of the mask through its centre of mass, `[row, column]`.

Departures from the paper, which was made for two large GPUs: the tube has voxels of 4 mm instead of a whole scan at
1 mm, crops have voxels of 1.5 x 1.5 x 2 mm, and turn with the curve; one heat map shows all centres instead of one for
each level, as the levels come from the refiner for every method; masks show bodies only. Chosen, as the paper does not
say: the standard deviations of the heat maps and the thresholds below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..imaging.ct import CTVolume, inside
from ..spine.curve import SpineCurve
from ..spine.straightening import Straightening
from .predictor import Predictor

Array = TypeVar("Array")

AIR_HU = -1000.0
WINDOW_HU = (-300.0, 1000.0)
TUBE_MM, TUBE_SIDE = 4.0, 24  # voxels of the tube, and how many lie across it
DEPTH = 3  # poolings of each network: sides are multiples of 2 ** DEPTH
CENTRE_SD_MM, POINT_SD_MM = 5.0, 1.5  # of the heat maps
CENTRE_THRESHOLD, APART_MM = 0.35, 9.0  # of a peak of the heat map, and between two of them
CROP_MM, CROP = (1.5, 1.5, 2.0), (40, 40, 24)  # voxels of a crop, and how many: s, a, r
REACH, CUT_SHARE = 2, 0.25  # voxels at the border of a scan in which no mask is sure
BONE_THRESHOLD, LEAST_BONE_MM3 = 0.5, 500.0
SLICE_MM, SLICE = 0.75, 80  # pixels of the mask's slice, and how many on each side
POINT_SHARPNESS = 20.0  # the soft-argmax of a heat map with peak 1


@dataclass(frozen=True)
class Bodies:
    """The vertebral bodies found along one curve, cranial to caudal.

    `keypoints` `(n, 3, 2, 3)` RAS mm; `scores` `(n,)` are the heights of the peaks; `fractured` `(n,)` is the share of
    a mask's voxels that the network calls fractured; `centres` `(m, 3)` RAS mm are all peaks, with or without a mask.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    fractured: np.ndarray
    centres: np.ndarray


def scaled(hounsfield: Array) -> Array:
    """Scale HU of any shape to the networks' input; takes a numpy array or a torch tensor."""
    low, high = WINDOW_HU
    out: Array = (hounsfield.clip(low, high) - 150.0) / 350.0  # type: ignore[attr-defined]
    return out


def find_bodies(centre: Predictor, mask: Predictor, point: Predictor, ct: CTVolume, curve: SpineCurve) -> Bodies:
    """Find the vertebral bodies of `ct` along `curve` with the three networks; those that its border cuts are left out.

    The paper says nothing of vertebrae that the scan cuts. What is left of them looks like a fracture.
    """
    straight, scores = find_centres(centre, ct, curve)
    straightening = Straightening(curve)
    centres = straightening.to_patient(straight)
    _, frames = curve.at(-straight[:, 2])
    keypoints, kept, fractured = [], [], []
    for i, (middle, frame) in enumerate(zip(centres, frames, strict=True)):
        axes = crop_axes(frame)
        places = crop_points(middle, axes)
        chances = _chances(mask, ct.sample(places, fill=AIR_HU))
        bone = 1 - chances[0]
        body = central_body(bone)
        if body is None or is_cut(body, inside(ct, places.reshape(-1, 3)).reshape(CROP)):
            continue
        right, picture = mask_slice(np.where((bone > BONE_THRESHOLD) & ~body, 0.0, bone))
        keypoints.append(to_patient(slice_keypoints(point, picture), right, middle, axes))
        fractured.append(float(chances[2][body].mean()))
        kept.append(i)
    points = np.reshape(keypoints, (-1, 3, 2, 3))
    return Bodies(points, scores[kept].clip(0, 1), np.array(fractured), centres)


def find_centres(predict: Predictor, ct: CTVolume, curve: SpineCurve) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres `(n, 3)` in straight mm along `curve`, cranial to caudal, and the heights of their peaks."""
    arcs = tube_arcs(curve.length)
    tube = ct.sample(Straightening(curve).to_patient(tube_points(arcs)), fill=AIR_HU)
    padded = np.pad(tube.astype(np.float32), ((0, -len(arcs) % 2**DEPTH), (0, 0), (0, 0)), constant_values=AIR_HU)
    heat = predict(scaled(padded)[None, None])[0][0, 0, : len(arcs)]
    voxels, scores = peaks(heat)
    places = (voxels + 0.5) * TUBE_MM
    across = places[:, 1:] - TUBE_SIDE * TUBE_MM / 2
    return np.column_stack([across[:, 1], across[:, 0], -places[:, 0]]), scores


def tube_arcs(length: float) -> np.ndarray:
    """Return the arc lengths, ascending, of the middles of a tube's slices on a curve of `length` mm."""
    return (np.arange(max(1, int(length / TUBE_MM))) + 0.5) * TUBE_MM


def tube_points(arcs: np.ndarray) -> np.ndarray:
    """Return the straight-space points `(s, a, r, 3)` mm of a tube's voxels."""
    across = (np.arange(TUBE_SIDE) + 0.5 - TUBE_SIDE / 2) * TUBE_MM
    return np.stack(np.meshgrid(-arcs, across, across, indexing="ij"), -1)[..., ::-1]


def peaks(heat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the peaks `(n, 3)` of a heat map `(s, a, r)`, in fractions of voxels and along s, and their heights.

    A height is that of the Gaussian through the voxels: between two of them a perfect peak is lower than 1 in both.
    """
    from scipy.ndimage import maximum_filter

    near = 2 * round(APART_MM / TUBE_MM / 2) + 1
    found = np.argwhere((heat == maximum_filter(heat, (near, 9, 9))) & (heat > CENTRE_THRESHOLD))
    if len(found):  # of equal neighbours, one is a peak
        apart = np.linalg.norm(found[:, None] - found[None], axis=-1) * TUBE_MM
        found = found[~np.tril(apart < APART_MM, -1).any(1)]
    padded = np.pad(heat.clip(0), 1)
    cubes = np.array([padded[s : s + 3, a : a + 3, r : r + 3] for s, a, r in found]).reshape(-1, 27)
    steps = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), -1).reshape(27, 3)
    weight = cubes**2
    shifts = weight @ steps / np.maximum(weight.sum(1, keepdims=True), 1e-9)
    return found + shifts, heat[tuple(found.T)] * _between(cubes.reshape(-1, 3, 3, 3))


def _between(cubes: np.ndarray) -> np.ndarray:
    """Return by how much `(n,)` the Gaussian through `cubes` `(n, 3, 3, 3)` is higher than their middle voxels."""
    logs = np.log(cubes.clip(1e-3))
    lines = np.stack([logs[:, :, 1, 1], logs[:, 1, :, 1], logs[:, 1, 1, :]], 1)
    before, middle, after = np.moveaxis(lines, 2, 0)
    bend = np.maximum(2 * middle - before - after, (TUBE_MM / CENTRE_SD_MM) ** 2)
    gain: np.ndarray = np.exp(((after - before) ** 2 / (8 * bend)).sum(1))
    return gain


def crop_axes(frame: np.ndarray) -> np.ndarray:
    """Return the axes `(3, 3)` s (cranial), a, r of a crop, from the curve's frame `(3, 3)` R, A, up there."""
    return frame[::-1]


def crop_points(middle: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Return the RAS mm points `(s, a, r, 3)` of a crop's voxels around `middle`."""
    steps = [(np.arange(n) + 0.5 - n / 2) * mm for n, mm in zip(CROP, CROP_MM, strict=True)]
    return middle + np.stack(np.meshgrid(*steps, indexing="ij"), -1) @ axes


def _chances(predict: Predictor, crop: np.ndarray) -> np.ndarray:
    """Return the probabilities `(3, s, a, r)` of background, normal and fractured bone."""
    from scipy.special import softmax

    out: np.ndarray = softmax(predict(scaled(crop.astype(np.float32))[None, None])[0][0], 0)
    return out


def central_body(bone: np.ndarray) -> np.ndarray | None:
    """Return the piece of `bone` `(s, a, r)` above the threshold nearest to the middle; None if it is too small."""
    from scipy.ndimage import label

    pieces, count = label(bone > BONE_THRESHOLD)
    if not count:
        return None
    at = np.argwhere(pieces)
    away = ((at + 0.5 - np.array(CROP) / 2) * CROP_MM) ** 2
    body: np.ndarray = pieces == pieces[tuple(at[away.sum(1).argmin()])]
    return body if body.sum() * np.prod(CROP_MM) >= LEAST_BONE_MM3 else None


def is_cut(body: np.ndarray, scanned: np.ndarray) -> bool:
    """Return whether the border of what is `scanned` cuts `body` `(s, a, r)`: in its middle sagittal slice.

    Both are masks. It is cut where more than `CUT_SHARE` of its columns, or of its rows, end within `REACH` voxels of
    the border. A body of which only a side is missing can be measured.
    """
    from scipy.ndimage import binary_dilation

    middle = round(float(np.nonzero(body)[2].mean()))
    flat = body[..., middle]
    outside = ~scanned[..., middle]
    lines = np.ones((3, 1)), np.ones((1, 3))  # the neighbours in a column, and in a row
    ends = [binary_dilation(flat, line, iterations=REACH) & outside for line in lines]
    return any(end.any(axis).sum() > CUT_SHARE * flat.any(axis).sum() for axis, end in enumerate(ends))


def mask_slice(bone: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the place of the mask's centre of mass along R, mm, and the binary sagittal slice `(SLICE, SLICE)` there.

    Rows run caudally, columns along A; the middle of the crop is the middle of the slice.
    """
    from scipy.ndimage import map_coordinates

    inside = bone > BONE_THRESHOLD
    right = float((inside.sum((0, 1)) @ np.arange(CROP[2])) / inside.sum())
    steps = (np.arange(SLICE) + 0.5 - SLICE / 2) * SLICE_MM
    row, column = np.meshgrid(
        -steps / CROP_MM[0] + CROP[0] / 2 - 0.5, steps / CROP_MM[1] + CROP[1] / 2 - 0.5, indexing="ij"
    )
    values = map_coordinates(bone, [row, column, np.full_like(row, right)], order=1, mode="constant")
    return (right + 0.5 - CROP[2] / 2) * CROP_MM[2], (values > BONE_THRESHOLD).astype(np.float32)


def slice_keypoints(predict: Predictor, picture: np.ndarray) -> np.ndarray:
    """Return the key points `(3, 2, 2)`, (A, S) mm from the middle, on a mask's slice."""
    heat = predict(picture[None, None].astype(np.float32))[0][0]
    weight = np.exp(POINT_SHARPNESS * (heat - heat.max((1, 2), keepdims=True)))
    steps = (np.arange(SLICE) + 0.5 - SLICE / 2) * SLICE_MM
    total = weight.sum((1, 2))
    return np.stack([weight.sum(1) @ steps / total, weight.sum(2) @ -steps / total], -1).reshape(3, 2, 2)


def to_patient(flat: np.ndarray, right: float, middle: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Return the RAS mm `(3, 2, 3)` of key points `(3, 2, 2)`, (A, S) mm, `right` mm beside a crop's middle."""
    points: np.ndarray = middle + flat[..., 1:] * axes[0] + flat[..., :1] * axes[1] + right * axes[2]
    return points
