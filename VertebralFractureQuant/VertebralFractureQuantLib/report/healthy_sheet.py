"""The sheet of a synthetic picture: the real vertebra beside the synthetic one, which is marked as synthetic.

Both have the same scale and the radiologist's view: anterior on the left, cranial up.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import VFQError
from ..imaging.ct import CTVolume
from ..methods.healthy_picture import Healer, HealthyPicture, picture_json, vertebra_picture
from ..spine.curve import fit_curve
from ..spine.record import SpineAnalysis, check_belongs, shown_names
from ..spine.straightening import AIR, Straightening
from .document import stored_straightened
from .outputs import read_straightened

if TYPE_CHECKING:
    from PIL.Image import Image

ZOOM = 5  # pixels for each mm
GAP, HEAD, FOOT = 16, 56, 76
LEAST_ROWS, WALLS = 2.0, 2  # columns that are lower, and so many at each end, are walls: no endplate is drawn there
WINDOW_HU = (-250.0, 950.0)  # as in the overview image
GROUND, INK, QUIET = (11, 13, 16), (232, 232, 232), (140, 146, 153)
REAL, SYNTHETIC = (120, 200, 255), (255, 170, 60)
MARK = "SYNTHETIC"
NOTICE = "A network's guess, not the patient. For research use only. Not for diagnosis."
THIRDS = ("anterior", "middle", "posterior")


Sampler = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Sheet:
    """The synthetic picture of one vertebra as it is shown: its name, the PNG, sentences, and the JSON object."""

    name: str
    png: bytes
    told: tuple[str, ...]
    document: dict[str, Any]


def case_sheet(healer: Healer, analysis: SpineAnalysis, index: int, sample: Sampler) -> Sheet:
    """Return the sheet of vertebra `index` of a measured case.

    sample : HU at points of straight space, see `ct_sampler` and `stored_sampler`. VFQError as `vertebra_picture`.
    """
    name = shown_names(analysis.vertebrae)[index]
    picture = vertebra_picture(healer, analysis, index, sample)
    told = tuple(filter(None, (loss_text(picture), grade_text(picture), NOTICE)))
    return Sheet(name, sheet_png(name, picture), told, picture_json(analysis, name, picture, healer.stamp))


def ct_sampler(ct: CTVolume, analysis: SpineAnalysis) -> Sampler:
    """Return what samples the CT along the curve of `analysis`. VFQError `other_ct`."""
    check_belongs(analysis, ct.voxels.shape, ct.ijk_to_ras)
    straightening = Straightening(fit_curve(analysis.curve))
    return lambda straight: ct.sample(straightening.to_patient(straight), fill=AIR)


def stored_sampler(folder: Path, analysis: SpineAnalysis) -> Sampler:
    """Return what samples the straightened volume of a case. VFQError `not_found` if its folder has none."""
    file = stored_straightened(folder, analysis)
    if file is None:
        raise VFQError(
            "not_found", f"{folder.name}: the folder has no straightened volume of this curve. Give the scan with --ct."
        )
    volume = read_straightened(file)
    return lambda straight: volume.sample(straight, fill=AIR)


def sheet_png(name: str, picture: HealthyPicture) -> bytes:
    """Return the sheet of the vertebra called `name` as PNG."""
    buffer = io.BytesIO()
    draw_sheet(name, picture).save(buffer, "PNG")
    return buffer.getvalue()


def draw_sheet(name: str, picture: HealthyPicture) -> Image:
    """Draw the sheet; the outline of the real body is repeated, faintly, on the synthetic picture."""
    from PIL import Image, ImageDraw, ImageFont

    rows = max(len(picture.real), len(picture.synthetic))
    real, synthetic = (_panel(p, rows) for p in (picture.real, picture.synthetic))
    width = 2 * real.width + 3 * GAP
    sheet = Image.new("RGB", (width, real.height + HEAD + FOOT), GROUND)
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(17), ImageFont.load_default(13)
    places = GAP, real.width + 2 * GAP
    sheet.paste(real, (places[0], HEAD))
    sheet.paste(synthetic, (places[1], HEAD))
    _outline(pen, picture.real_mask, rows, (places[0], HEAD), REAL)
    _outline(pen, picture.synthetic_mask, rows, (places[1], HEAD), SYNTHETIC)
    pen.text((places[0], 8), f"{name}: as scanned", INK, large)
    pen.text((places[1], 8), f"{name}: {MARK}", SYNTHETIC, large)
    pen.text((places[0], 32), _heights(picture.real_mm), QUIET, small)
    pen.text((places[1], 32), _heights(picture.synthetic_mm), QUIET, small)
    pen.rectangle((places[1], HEAD, places[1] + synthetic.width - 1, HEAD + synthetic.height - 1), outline=SYNTHETIC)
    for y in (HEAD + 6, HEAD + synthetic.height - 24):
        pen.text((places[1] + 8, y), MARK, SYNTHETIC, small)
    y = HEAD + real.height + 8
    pen.text((GAP, y), loss_text(picture), INK, small)
    pen.text((GAP, y + 20), grade_text(picture), INK, small)
    pen.text((GAP, y + 42), NOTICE, QUIET, small)
    return sheet


def loss_text(picture: HealthyPicture) -> str:
    """Say how much of each third is lost: "Loss against the synthetic body: anterior 31 ± 9 %, middle ..."."""
    errors = picture.loss_sd or (None,) * len(THIRDS)
    parts = [
        f"{name} {100 * loss:.0f}" + ("" if error is None else f" ± {100 * error:.0f}") + " %"
        for name, loss, error in zip(THIRDS, picture.loss, errors, strict=True)
    ]
    return f"Loss against the synthetic body: {', '.join(parts)}"


def grade_text(picture: HealthyPicture) -> str:
    """Say which grade the loss alone gives, or that the picture is too uncertain to tell; "" without a grader."""
    if picture.grade is None:
        return ""
    if not picture.is_certain:
        return "No loss is larger than the error of the picture. The Genant grade is unchanged."
    return f"Grade by this loss alone: {picture.grade}. The Genant grade is unchanged."


def _heights(heights_mm: np.ndarray) -> str:
    return "  ".join(f"{name[0].upper()} {h:.1f}" for name, h in zip(THIRDS, heights_mm, strict=True)) + " mm"


def _panel(hu: np.ndarray, rows: int) -> Image:
    """Return HU as grey, anterior on the left, centred on `rows` rows."""
    from PIL import Image

    low, high = WINDOW_HU
    grey = (np.clip((hu - low) / (high - low), 0, 1) * 255).astype(np.uint8)[:, ::-1]
    above = (rows - len(grey)) // 2
    full = np.zeros((rows, grey.shape[1]), np.uint8)
    full[above : above + len(grey)] = grey
    size = (ZOOM * full.shape[1], ZOOM * full.shape[0])
    return Image.fromarray(full).resize(size, Image.Resampling.BICUBIC).convert("RGB")


def _outline(pen: Any, mask: np.ndarray, rows: int, place: tuple[int, int], color: tuple[int, int, int]) -> None:
    """Draw the upper and the lower edge of a body over its panel, finer than a pixel."""
    above = (rows - len(mask)) // 2
    flipped = mask[:, ::-1]
    tall = np.flatnonzero(flipped.sum(0) > LEAST_ROWS)[WALLS:-WALLS]
    middle = round(float(flipped.sum(1) @ np.arange(len(mask))) / max(float(mask.sum()), 1e-6))
    upper, lower = middle - flipped[:middle].sum(0), middle + flipped[middle:].sum(0)
    for edge in (upper, lower):
        points = [(place[0] + ZOOM * (x + 0.5), place[1] + ZOOM * (above + edge[x])) for x in tall]
        if len(points) > 1:
            pen.line(points, fill=color, width=2)
