"""Thumbnails of the gallery: the straightened sagittal image of a case with the outlines of its vertebrae.

A thumbnail has 2 pixels per mm, anterior on the left and cranial up; outlines have the colours of their grades.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..report.markups import GRADE_COLORS
from ..report.outputs import SLAB_ANTERIOR_MM, SLAB_LATERAL_MM
from ..report.overview import REJECTED, WINDOW_HU
from ..report.panels import HALF_WIDTH_MM, MARGIN_MM
from ..spine.curve import fit_curve
from ..spine.keypoints import outline
from ..spine.record import SpineAnalysis, Vertebra
from ..spine.record_json import read_analysis
from ..spine.straightening import Straightening

SCALE = 2  # pixels per mm
SMOOTH = 2  # outlines are drawn this many times larger, then reduced
QUALITY = 82  # of the JPEG: a chest takes about 20 kB


def write_thumbnail(case_folder: Path, path: Path) -> None:
    """Draw the thumbnail of a case into the JPEG file `path`; nothing is written for a case without images.

    Parameters
    ----------
    case_folder : has analysis.json and straightened.nrrd, as `vfq analyze` writes them. The outlines are those of
        analysis.json, so a reader's after a review.

    Raises
    ------
    VFQError
        `not_an_analysis` or `newer_schema`: analysis.json cannot be read.
    OSError
        The thumbnail cannot be written.
    """
    slab = case_folder / "straightened.nrrd"
    analysis = read_analysis(case_folder / "analysis.json")
    if not (slab.exists() and len(analysis.curve) and analysis.vertebrae):
        return
    picture = draw_thumbnail(analysis, _middle_plane(slab))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=QUALITY)


def draw_thumbnail(analysis: SpineAnalysis, plane: np.ndarray) -> Image.Image:
    """Draw the vertebrae of `analysis` on the straightened sagittal `plane`.

    plane : `(rows, columns)` HU at 1 mm; row 0 is the curve's cranial end, column 0 lies 64 mm anterior of the curve.
    """
    points = _on_plane(analysis)
    top = int(np.clip(points[..., 1].min() - MARGIN_MM, 0, len(plane) - 1))
    bottom = int(np.clip(points[..., 1].max() + MARGIN_MM, top + 1, len(plane)))
    left, right = int(SLAB_ANTERIOR_MM - HALF_WIDTH_MM), int(SLAB_ANTERIOR_MM + HALF_WIDTH_MM)
    low, high = WINDOW_HU
    gray = np.clip((plane[top:bottom, left:right] - low) * 255 / (high - low), 0, 255).astype(np.uint8)
    size = ((right - left) * SCALE, (bottom - top) * SCALE)
    picture = Image.fromarray(gray).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    outlines = _outlines(analysis.vertebrae, points - (left, top), size)
    picture.paste(outlines, mask=outlines)
    return picture


def _middle_plane(path: Path) -> np.ndarray:
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))  # must outlive the view
    return np.array(sitk.GetArrayViewFromImage(image)[::-1, :, SLAB_LATERAL_MM], np.float32)


def _on_plane(analysis: SpineAnalysis) -> np.ndarray:
    """Return the key points `(n, 3, 2, 2)` as [column, row] of the plane, mm."""
    straight = Straightening(fit_curve(analysis.curve)).to_straight(np.array([v.keypoints for v in analysis.vertebrae]))
    return np.stack([SLAB_ANTERIOR_MM - straight[..., 1], -straight[..., 2]], axis=-1)


def _outlines(vertebrae: tuple[Vertebra, ...], points: np.ndarray, size: tuple[int, int]) -> Image.Image:
    layer = Image.new("RGBA", (size[0] * SMOOTH, size[1] * SMOOTH))
    draw = ImageDraw.Draw(layer)
    for vertebra, own in zip(vertebrae, points, strict=True):
        corners = [tuple(corner) for corner in (outline(own) + 0.5) * SCALE * SMOOTH]
        red, green, blue = (round(255 * c) for c in _color(vertebra))
        deformed = vertebra.counts and vertebra.called != "normal"
        draw.polygon(corners, fill=(red, green, blue, 70 if deformed else 0))
        draw.line([*corners, corners[0]], (red, green, blue, 255 if deformed else 150), 6 if deformed else 4)
    return layer.resize(size, Image.Resampling.LANCZOS)


def _color(vertebra: Vertebra) -> tuple[float, float, float]:
    return GRADE_COLORS[vertebra.called] if vertebra.counts else REJECTED
