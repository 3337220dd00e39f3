"""The effects of a CT scanner: slice profile, reconstruction kernel, noise and calibration; HU in and out.

`acquire_picture` applies them to one straightened sagittal image (thousands a minute in training); `volume` applies the
same protocol to a whole CT.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

AIR = -1000.0
STREAK_MM, STREAK_WIDE_MM = 40.0, 6.0  # length of a streak along A, and width along R
INTERPOLATION_MM = 0.3  # standard deviation of the blur when a straightened image is interpolated from the voxels
FLANK_SHARE = 0.75  # readers set their points at this share of the way from the surface to the half maximum
GAP_SHARE = 0.12  # share of a disc's height that the flank of each of its two endplates may take


@dataclass(frozen=True)
class Protocol:
    """How a scan is acquired and reconstructed.

    Attributes
    ----------
    slice_mm, thickness_mm : distance and thickness of the slices.
    blur_mm : standard deviation of the in-plane blur.
    sharpen : strength of the edge enhancement.
    noise_hu, grain_mm : standard deviation of the noise, and the size of its grain.
    streaks_hu : standard deviation of streaks along A.
    phase : where the first slice lies, as a share of the distance.
    gain, shift_hu : error of the calibration, a factor and an offset.
    """

    slice_mm: float
    thickness_mm: float
    blur_mm: float
    sharpen: float
    noise_hu: float
    grain_mm: float
    streaks_hu: float
    phase: float
    gain: float = 1.0
    shift_hu: float = 0.0


def draw_protocol(rng: np.random.Generator, slice_mm: float | None = None, noise_hu: float | None = None) -> Protocol:
    """Draw a protocol, anywhere from thin, sharp and low-dose to thick and smooth."""
    if slice_mm is None:
        slice_mm = float(
            rng.choice(
                [0.7, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0], p=[0.1, 0.2, 0.12, 0.1, 0.12, 0.14, 0.12, 0.05, 0.05]
            )
        )
    thin = slice_mm < 1.6
    drawn = abs(rng.normal(0, 35 if thin else 16))
    return Protocol(
        slice_mm=slice_mm,
        thickness_mm=slice_mm * float(rng.uniform(0.9, 1.6)),
        blur_mm=float(rng.uniform(0.25, 1.0) if rng.random() < 0.75 else rng.uniform(1.0, 1.7)),
        sharpen=float(max(0.0, rng.normal(0, 0.7))),
        noise_hu=float(drawn) if noise_hu is None else noise_hu,
        grain_mm=float(rng.uniform(0.6, 1.6)),
        streaks_hu=float(max(0.0, rng.normal(-6, 8))),
        phase=float(rng.random()),
        gain=float(rng.normal(1, 0.05)),
        shift_hu=float(rng.normal(0, 12)),
    )


def visible_shift(p: Protocol, plate_mm: np.ndarray, steepness: np.ndarray, gap_mm: np.ndarray) -> np.ndarray:
    """Return how far outside of a bone's surface (mm) a reader sees its edge.

    A thin bright plate becomes thicker on both sides when a scanner blurs it, and readers set their points on its outer
    flank. The arrays are broadcast together.

    Parameters
    ----------
    plate_mm : thickness of the plate.
    steepness : how far its normal lies along the patient's S, 0 to 1.
    gap_mm : distance to the next plate, whose own flank limits the shift.
    """
    slices = p.thickness_mm**2 / 12 + p.slice_mm**2 / 6  # of a box, and of linear interpolation's triangle
    variance = p.blur_mm**2 + INTERPOLATION_MM**2 + slices * steepness**2
    width = np.sqrt(plate_mm**2 + 8 * np.log(2) * variance)  # full width at half maximum
    shift: np.ndarray = np.minimum(FLANK_SHARE * (width - plate_mm) / 2, GAP_SHARE * np.maximum(gap_mm, 0))
    return shift


def acquire_picture(picture: Tensor, points: Tensor, p: Protocol, generator: torch.Generator) -> Tensor:
    """Return a painted straightened image as this protocol would show it.

    The slice profile runs along the patient's S, which is oblique in the image.

    Parameters
    ----------
    picture : HU at 1 mm, `(rows, columns)`.
    points : patient RAS mm of the pixels, `(rows, columns, 3)`.
    """
    picture = gaussian(picture, p.blur_mm)
    picture = _slice_profile(picture, points[..., 2], p)
    if p.sharpen:
        picture = picture + p.sharpen * (picture - gaussian(picture, 1.1))
    return (picture + _noise(points, p, generator)) * p.gain + p.shift_hu


def gaussian(picture: Tensor, sigma: float) -> Tensor:
    """Blur an image `(rows, columns)` with a Gaussian of `sigma` pixels; borders are repeated."""
    reach = max(1, int(np.ceil(2.5 * sigma)))
    x = torch.arange(-reach, reach + 1, device=picture.device, dtype=picture.dtype)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    image = F.pad(picture[None, None], (reach,) * 4, mode="replicate")
    image = F.conv2d(F.conv2d(image, kernel[None, None, :, None]), kernel[None, None, None])
    return image[0, 0]


def _slice_profile(picture: Tensor, z: Tensor, p: Protocol) -> Tensor:
    """Average over the thickness of the two neighbouring slices, and interpolate linearly between them."""
    along_row = torch.gradient(z, dim=0)[0]  # change of S per step down the rows and along the columns
    along_column = torch.gradient(z, dim=1)[0]
    square = (along_row**2 + along_column**2).clamp_min(0.05)
    place = z / p.slice_mm + p.phase
    low = place.floor()
    weight = place - low
    taps = max(2, int(np.ceil(p.thickness_mm)) + 1)
    offsets = (np.arange(taps) + 0.5) / taps - 0.5
    rows, columns = picture.shape
    grid_r = torch.arange(rows, device=z.device)[:, None].expand_as(z)
    grid_c = torch.arange(columns, device=z.device)[None].expand_as(z)
    out = torch.zeros_like(picture)
    for side, share in ((0.0, 1 - weight), (1.0, weight)):
        center = (low + side - p.phase) * p.slice_mm - z
        for offset in offsets:
            step = (center + offset * p.thickness_mm) / square
            row = (grid_r + step * along_row) / (rows - 1) * 2 - 1
            column = (grid_c + step * along_column) / (columns - 1) * 2 - 1
            taken = F.grid_sample(
                picture[None, None], torch.stack([column, row], -1)[None], align_corners=True, padding_mode="border"
            )
            out = out + share * taken[0, 0] / taps
    return out


def _noise(points: Tensor, p: Protocol, generator: torch.Generator) -> Tensor:
    """Return noise with one value per slice and a grain in-plane, and streaks along A."""
    z = points[..., 2] / p.slice_mm + p.phase
    a = points[..., 1] / p.grain_mm
    noise = p.noise_hu * 1.4 * lattice(z, a, generator)
    if p.streaks_hu:
        noise = noise + p.streaks_hu * lattice(z, a * p.grain_mm / STREAK_MM, generator)
    return noise


def lattice(y: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return random values at places `(y, x)`, `(rows, columns)` each.

    They have unit variance where both coordinates are integers, and are linear in between.
    """
    y, x = y - y.min(), x - x.min()
    size = (int(y.max()) + 2, int(x.max()) + 2)
    field = torch.randn(1, 1, *size, generator=generator).to(y.device)
    grid = torch.stack([x / (size[1] - 1), y / (size[0] - 1)], -1) * 2 - 1
    return F.grid_sample(field, grid[None].to(field.dtype), align_corners=True)[0, 0]
