"""Metal artefacts of an axial slice: dark bands and streaks, due to a beam of many energies and too few photons.

A slice `(j, i)` of HU is projected as water, bone and titanium. The attenuation along each line is measured as in a
scanner: a spectrum of 120 kVp, noise of the remaining photons, corrected as if everything were water. The difference
from the slice without metal, and from the metal itself, is projected back. Beams are parallel, the reconstruction is
filtered back projection; lengths along a line are in cm.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .scanner import Protocol, lattice

TITANIUM_HU = 12000.0  # at 70 keV; more than a CT stores, so that the mean over a slice's thickness is right
LEAST_METAL_HU = 3100.0  # no bone or cement is this dense
BONE_FROM_HU = 200.0
PIXEL_MM, ANGLES = 1.5, 240
PHOTONS = 3e5  # of an unattenuated beam, in one detector element
DARKEST = 11.0  # beyond this attenuation a scanner measures only its own noise
LONGEST_CM = 80.0
# Rounded shares of a filtered spectrum at 40, 50, 60, 80, 100 and 120 keV. Attenuation per cm of water, of bone (for
# each g/cm3) and of titanium: Hubbell and Seltzer, Tables of X-Ray Mass Attenuation Coefficients, NIST 1995.
SPECTRUM = (0.15, 0.20, 0.25, 0.22, 0.13, 0.05)
WATER = (0.2683, 0.2269, 0.2059, 0.1837, 0.1707, 0.1614)
BONE = (0.6655, 0.4242, 0.3148, 0.2229, 0.1855, 0.1670)
TITANIUM = (9.976, 5.466, 3.453, 1.826, 1.226, 0.979)


def metal_artefact(hu: Tensor, pixel_mm: float, generator: torch.Generator) -> Tensor:
    """Return the HU that the metal in a slice `(j, i)` of square pixels adds to it; zeros if there is no metal.

    `hu` holds the metal with up to `TITANIUM_HU`.
    """
    metal = ((hu - LEAST_METAL_HU) / (TITANIUM_HU - LEAST_METAL_HU)).clamp(0, 1)
    if not bool(metal.any()):
        return torch.zeros_like(hu)
    side = max(hu.shape)
    n = max(16, round(side * pixel_mm / PIXEL_MM))
    around = (0, side - hu.shape[1], 0, side - hu.shape[0])
    tissue = _resized(F.pad(torch.where(metal > 0, 0.0, hu) / 1000 + 1, around), n, "area")
    seen = _resized(F.pad(metal, around), n, "area")
    bone = (tissue - 1 - BONE_FROM_HU / 1000).clamp_min(0)
    step_cm = side * pixel_mm / n / 10
    water, bone, metal = _projected(torch.stack([(tissue - bone) * (1 - seen), bone, seen]), step_cm)
    tissue = _as_water(_attenuation(water, bone, 0 * metal))
    gained = _as_water(_noisy(_attenuation(water, bone, metal), generator)) - tissue
    wrong = gained - metal * (gained * metal).sum() / (metal**2).sum()  # not explained by metal of one density
    return _resized(1000 * _projected_back(wrong, step_cm), side, "bilinear")[: hu.shape[0], : hu.shape[1]]


def sagittal_bands(
    points: Tensor, tips: np.ndarray, p: Protocol, rng: np.random.Generator, generator: torch.Generator
) -> Tensor:
    """Return the HU `(rows, columns)` that pairs of screws add to the sagittal image between them.

    Each slice that contains a screw is darker or brighter all along A. Where the tips come near the plane, some images,
    which are means of planes, contain metal. A sagittal image alone cannot be projected: the ranges were chosen by eye,
    in comparison with the effect of `metal_artefact` on real CT.

    Parameters
    ----------
    points : RAS mm of the pixels, `(rows, columns, 3)`.
    tips : (A, S) mm of the screws' tips, `(n, 2)`.
    """
    a, s = points[..., 1], points[..., 2]
    bands = torch.zeros_like(a)
    for tip_a, middle in tips.tolist():
        half, soft = rng.uniform(2.0, 7.0), 0.3 + p.slice_mm / 4
        held = torch.sigmoid((half - (s - middle).abs()) / soft)
        along_a = lattice(s / p.slice_mm + p.phase, a / rng.uniform(15, 60), generator)
        bands = bands + held * (rng.uniform(-250, 30) + rng.uniform(20, 200) * along_a)
        near = torch.hypot((a - tip_a) / rng.uniform(3, 9), (s - middle) / (rng.uniform(2, 3) + p.slice_mm / 4))
        bands = bands + float(rng.choice([0, rng.uniform(200, 1500)])) * torch.sigmoid(8 * (1 - near))
    return bands


def _attenuation(water: Tensor, bone: Tensor, metal: Tensor) -> Tensor:
    """Return the negative logarithm of the share of a beam that passes through these lengths (cm) of material."""
    lines = zip(SPECTRUM, WATER, BONE, TITANIUM, strict=True)
    left = torch.stack([share * torch.exp(-(w * water + b * bone + m * metal)) for share, w, b, m in lines]).sum(0)
    return -left.clamp_min(np.exp(-DARKEST)).log()


def _noisy(attenuation: Tensor, generator: torch.Generator) -> Tensor:
    """Add the noise of the few remaining photons.

    The noise of an ordinary line is left out, as the protocol adds it.
    """
    noise = torch.randn(attenuation.shape, generator=generator, device=attenuation.device)
    fewer = (torch.exp(attenuation) - torch.exp(attenuation.median())).clamp_min(0)
    return (attenuation + noise * (fewer / PHOTONS).sqrt()).clamp_max(DARKEST)


def _as_water(attenuation: Tensor) -> Tensor:
    """Return the length (cm) of water that would attenuate as much."""
    paths = torch.linspace(0, LONGEST_CM, 800, device=attenuation.device)
    curve = _attenuation(paths, 0 * paths, 0 * paths)
    i = torch.searchsorted(curve, attenuation).clamp(1, int((curve < DARKEST).sum()))
    share = (attenuation - curve[i - 1]) / (curve[i] - curve[i - 1])
    return paths[i - 1] + share * (paths[i] - paths[i - 1])


def _resized(plane: Tensor, side: int, mode: str) -> Tensor:
    return F.interpolate(plane[None, None], (side, side), mode=mode)[0, 0]


def _angles() -> np.ndarray:
    return np.arange(ANGLES) * np.pi / ANGLES


def _axes(side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return x and y `(side, side)` of the pixels, from -1 to 1 between the borders."""
    place = (torch.arange(side, device=device) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(place, place, indexing="ij")
    return x, y


def _projected(planes: Tensor, step_cm: float) -> Tensor:
    """Return the line integrals `(planes, ANGLES, side)` of `planes` `(planes, side, side)`."""
    x, y = _axes(planes.shape[-1], planes.device)
    lines = []
    for angle in _angles():
        cos, sin = np.cos(angle), np.sin(angle)
        grid = torch.stack([cos * x - sin * y, sin * x + cos * y], -1)
        lines.append(F.grid_sample(planes[None], grid[None], align_corners=False)[0].sum(1) * step_cm)
    return torch.stack(lines, 1)


def _projected_back(lines: Tensor, step_cm: float) -> Tensor:
    """Return the plane `(side, side)` that has the line integrals `(ANGLES, side)`.

    The ramp filter falls off at high frequencies, as in a soft kernel.
    """
    side = lines.shape[-1]
    frequency = torch.fft.rfftfreq(2 * side, step_cm, device=lines.device)
    ramp = frequency * torch.cos(np.pi / 2 * frequency / frequency[-1])
    filtered = torch.fft.irfft(torch.fft.rfft(lines, 2 * side) * ramp, 2 * side)[:, :side]
    x, y = _axes(side, lines.device)
    plane = torch.zeros_like(x)
    for angle, line in zip(_angles(), filtered, strict=True):
        place = np.cos(angle) * x + np.sin(angle) * y
        grid = torch.stack([place, torch.zeros_like(place)], -1)
        plane = plane + F.grid_sample(line[None, None, None], grid[None], align_corners=False)[0, 0]
    return plane * np.pi / ANGLES
