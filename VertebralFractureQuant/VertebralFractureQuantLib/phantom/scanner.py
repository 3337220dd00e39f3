"""What a scanner does to an anatomy: slice profile, reconstruction kernel, noise, calibration; HU in and out.

`acquire_picture` does it to one straightened sagittal picture (training: thousands a minute), `volume` by the same
protocol to a whole CT.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

AIR = -1000.0
STREAK_MM, STREAK_WIDE_MM = 40.0, 6.0  # how far a streak goes along A, and along R

INTERPOLATION_MM = 0.3  # standard deviation of the blur by which a picture is interpolated from the voxels
FLANK_SHARE = 0.75  # of the way from the surface to the half maximum, where readers set their points
GAP_SHARE = 0.12  # of a disc's height that its two endplates' flanks may take, each


@dataclass(frozen=True)
class Protocol:
    """How a scan is made: slice distance and thickness, blur (mm), edge enhancement, noise (HU) and its grain (mm),
    streaks (HU) along A, where the first slice lies (a share of the distance), and how far the HU are off."""

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
    """A protocol from thin sharp low-dose to thick smooth."""
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
    """How far outside of a bone's surface (mm) a reader sees its edge.

    A thin bright plate that a scanner blurs grows on both sides, and readers set their points on the outer flank.
    plate_mm : thickness of the plate. steepness : how far its normal lies along the patient's S, 0 to 1.
    gap_mm : distance to the next plate, whose own flank is in the way. Broadcast together.
    """
    slices = p.thickness_mm**2 / 12 + p.slice_mm**2 / 6  # a box, and the triangle of linear interpolation
    variance = p.blur_mm**2 + INTERPOLATION_MM**2 + slices * steepness**2
    width = np.sqrt(plate_mm**2 + 8 * np.log(2) * variance)  # full width at half maximum
    shift: np.ndarray = np.minimum(FLANK_SHARE * (width - plate_mm) / 2, GAP_SHARE * np.maximum(gap_mm, 0))
    return shift


def acquire_picture(picture: Tensor, points: Tensor, p: Protocol, generator: torch.Generator) -> Tensor:
    """A painted straightened picture as this protocol would have shown it.

    picture : `(rows, columns)` HU at 1 mm. points : `(rows, columns, 3)` patient RAS mm of its pixels.
    The slice profile runs along the patient's S, which is oblique in the picture.
    """
    picture = gaussian(picture, p.blur_mm)
    picture = _slice_profile(picture, points[..., 2], p)
    if p.sharpen:
        picture = picture + p.sharpen * (picture - gaussian(picture, 1.1))
    return (picture + _noise(points, p, generator)) * p.gain + p.shift_hu


def gaussian(picture: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of the last two axes, borders repeated; `sigma` in pixels."""
    reach = max(1, int(np.ceil(2.5 * sigma)))
    x = torch.arange(-reach, reach + 1, device=picture.device, dtype=picture.dtype)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    image = F.pad(picture[None, None], (reach,) * 4, mode="replicate")
    image = F.conv2d(F.conv2d(image, kernel[None, None, :, None]), kernel[None, None, None])
    return image[0, 0]


def _slice_profile(picture: Tensor, z: Tensor, p: Protocol) -> Tensor:
    """Average over the slice thickness at the two neighbouring slices, linearly interpolated between them."""
    along_row = torch.gradient(z, dim=0)[0]  # change of S by a step down the rows and forward along the columns
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
    """Noise that is one value a slice and a grain in-plane, and streaks that run along A."""
    z = points[..., 2] / p.slice_mm + p.phase
    a = points[..., 1] / p.grain_mm
    noise = p.noise_hu * 1.4 * lattice(z, a, generator)
    if p.streaks_hu:
        noise = noise + p.streaks_hu * lattice(z, a * p.grain_mm / STREAK_MM, generator)
    return noise


def lattice(y: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
    """Random values of unit variance at whole places `(y, x)`, linear between them; for a plane of places."""
    y, x = y - y.min(), x - x.min()
    size = (int(y.max()) + 2, int(x.max()) + 2)
    field = torch.randn(1, 1, *size, generator=generator).to(y.device)
    grid = torch.stack([x / (size[1] - 1), y / (size[0] - 1)], -1) * 2 - 1
    return F.grid_sample(field, grid[None].to(field.dtype), align_corners=True)[0, 0]
