"""The prior image laid over the straightened image of the open study, bent so that matched bodies lie on each other.

Each body is moved as a rigid bone, so what it has lost in height stays visible; only between the bodies the image is
bent. Voxels are `[k, j, i]` = [S, A, R]; places are straight mm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
from scipy.ndimage import map_coordinates

from .face import Face
from .straight import fill_volume
from .study import StudyScene
from .volumes import placement, show_window, voxels_of

MODES = ("off", "fade", "checker")
SQUARE_MM = 12.0
FADED = 0.5
AIR_HU = -1000


@dataclass(frozen=True, eq=False)
class Bend:
    """The map from the straight space of the open study to that of the prior one.

    Attributes
    ----------
    s : `(2 n,)` S of the lower and upper end of each body, ascending.
    moves : `(2 n, 2, 3)` the rigid move of (A, S, 1) at each of them.
    aside : `(2 n,)` how far R moves.
    """

    s: np.ndarray
    moves: np.ndarray
    aside: np.ndarray

    @classmethod
    def of(cls, now: np.ndarray, before: np.ndarray) -> Bend:
        """Return the map that moves each of the key points `(n, 3, 2, 3)`, n > 0 and caudal first, onto its match."""
        low, high = now[..., 2].min((1, 2)), now[..., 2].max((1, 2))
        # Neighbours that overlap, as in a steep spine, meet in the middle.
        meet = np.maximum(0.0, high[:-1] - low[1:]) / 2
        high[:-1] -= meet
        low[1:] += meet
        each = np.stack([rigid(a, b) for a, b in zip(now[..., 1:], before[..., 1:], strict=True)])
        aside = (before - now)[..., 0].mean((1, 2))
        return cls(np.stack([low, high], 1).ravel(), np.repeat(each, 2, axis=0), np.repeat(aside, 2))

    def at(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the moves `(m, 2, 3)` and the shifts of R `(m,)` at S = `s` `(m,)`."""
        columns = self.moves.reshape(-1, 6).T
        moves = np.stack([np.interp(s, self.s, column) for column in columns], 1).reshape(-1, 2, 3)
        return moves, np.interp(s, self.s, self.aside)


def rigid(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """Return the rotation and shift `(2, 3)` that move points `(3, 2, 2)` best onto others (Kabsch 1976)."""
    a, b = points.reshape(-1, 2), onto.reshape(-1, 2)
    u, _, vt = np.linalg.svd((a - a.mean(0)).T @ (b - b.mean(0)))
    turn = (u @ np.diag([1.0, np.sign(np.linalg.det(u @ vt))]) @ vt).T
    return np.column_stack([turn, b.mean(0) - turn @ a.mean(0)])


def bent(
    prior: np.ndarray, from_place: np.ndarray, shape: tuple[int, ...], place: np.ndarray, bend: Bend
) -> np.ndarray:
    """Return the prior image on the grid of the open study's image, float32 HU of `shape`, nan where it shows nothing.

    `prior` are the prior's voxels; `from_place` and `place` are both ijk_to_ras `(4, 4)`, without rotation.
    """
    r, a, s = (place[i, 3] + place[i, i] * np.arange(n) for i, n in enumerate(shape[::-1]))
    moves, aside = bend.at(s)
    grid = np.column_stack([a, np.ones_like(a)])
    moved = [grid @ moves[:, row, ::2].T + moves[:, row, 1] * s for row in (0, 1)]  # A and S, each (j, k)
    k, j = ((moved[i].T - from_place[row, 3]) / from_place[row, row] for i, row in ((1, 2), (0, 1)))
    shown = np.where(prior > AIR_HU, prior, np.nan).astype(np.float32)
    out = np.empty(shape, np.float32)
    for i, x in enumerate(r):
        across = np.broadcast_to(((x + aside - from_place[0, 3]) / from_place[0, 0])[:, None], k.shape)
        out[..., i] = map_coordinates(shown, [k, j, across], order=1, cval=np.nan)
    return out


def checkered(image: np.ndarray, other: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Return an image `[k, j, i]` in which every other square along S and A is that of `other`."""
    side = max(1, round(SQUARE_MM / spacing_mm))
    k, j = np.ogrid[: image.shape[0], : image.shape[1]]
    return np.where((((k // side) + (j // side)) % 2 == 0)[..., None], image, other)


class Overlay:
    """The overlay in the straightened view of a face.

    Parameters
    ----------
    prior, current : the studies.
    face : shows the straightened image of the `current` one.
    pairs : returns which vertebrae belong together: id now -> id before.

    Attributes
    ----------
    mode : one of `MODES`.
    """

    def __init__(self, prior: StudyScene, current: StudyScene, face: Face, pairs: Callable[[], Mapping[str, str]]):
        self._prior, self._current, self._face, self._pairs = prior, current, face, pairs
        self._node: Any = None
        self.mode = MODES[0]

    def prepare(self, mode: str) -> Callable[[], np.ndarray] | None:
        """Return a function, for any thread, that computes the image of a mode; None if no vertebra is matched."""
        pairs, current, prior = self._pairs(), self._current, self._prior
        ids = [i for i in reversed(current.order) if pairs.get(i) in prior.order]
        nodes = [study.nodes["straightened"] for study in (prior, current)]
        old, own = map(voxels_of, nodes)
        if not ids or old is None or own is None:
            return None
        points = [np.stack([v.straight() for v in each]) for each in self._both(ids, pairs)]
        bend, (there, here) = Bend.of(*points), map(placement, nodes)

        def compute() -> np.ndarray:
            """Bend the prior image."""
            image = bent(old, there, own.shape, here, bend)
            image = np.where(np.isnan(image), own, image).astype(np.int16)
            return checkered(image, own, here[1, 1]) if mode == "checker" else image

        return compute

    def show(self, mode: str, image: np.ndarray, window: tuple[float, float]) -> None:
        """Show what `prepare` computed, with a window in HU."""
        scene, own = self._current.scene, self._current.nodes["straightened"]
        if self._node is None:
            self._node = slicer.vtkMRMLScalarVolumeNode()
            self._node.SetName("Prior")
            self._node.SetHideFromEditors(True)
            self._node.SetSaveWithScene(False)
            scene.AddNode(self._node)
        fill_volume(self._node, image, own.GetOrigin(), own.GetSpacing())
        self.mode = mode
        self.show_window(window)
        composite = self._composite()
        composite.SetForegroundVolumeID(self._node.GetID())
        composite.SetForegroundOpacity(FADED if mode == "fade" else 1.0)
        self._face.render()

    def show_window(self, window: tuple[float, float]) -> None:
        """Show the overlay, if there is one, with a window in HU."""
        if self._node is not None:
            show_window(self._node, window)

    def hide(self) -> None:
        """Remove the overlay."""
        self.mode = MODES[0]
        if self._node is not None:
            self._composite().SetForegroundVolumeID(None)
            if self._node.GetScene():
                self._node.GetScene().RemoveNode(self._node)
            self._node = None
            self._face.render()

    def _both(self, ids: list[str], pairs: Mapping[str, str]) -> tuple[list[Any], list[Any]]:
        current, prior = self._current.vertebrae, self._prior.vertebrae
        return [current[i] for i in ids], [prior[pairs[i]] for i in ids]

    def _composite(self) -> Any:
        return slicer.vtkMRMLSliceLogic.GetSliceCompositeNode(self._face.straightened)
