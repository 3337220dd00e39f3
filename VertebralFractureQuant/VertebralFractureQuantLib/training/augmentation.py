"""Random changes that make painted training data as imperfect as real data."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..spine.curve import SpineCurve, fit_curve


def imperfect(rng: np.random.Generator, curve: SpineCurve, scale: float = 1.0) -> SpineCurve:
    """Return the curve as a network might find it: off by one to three mm times `scale`, varying slowly."""
    n = len(curve.points)
    amplitude = scale * abs(rng.normal(0, 1.2, 3)) * (1, 1.5, 0)
    noise = np.zeros((n, 3))
    for axis in (0, 1):
        for wavelength in rng.uniform(50, 250, 3):
            noise[:, axis] += (
                amplitude[axis] * rng.normal() * np.sin(np.arange(n) * 6.283 / wavelength + rng.uniform(0, 6.28))
            )
    return fit_curve(curve.points + noise + rng.normal(0, 0.7, 3) * (1, 1, 0))


def scan_coarse(voxels: Tensor, rng: np.random.Generator) -> Tensor:
    """Return HU `(s, a, r)` at 4 mm with noise, in some cases thick slices, and an error of calibration."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    noise = torch.randn(voxels.shape, generator=generator) * abs(rng.normal(0, 20))
    if rng.random() < 0.4:  # thick slices
        voxels = (voxels + voxels.roll(1, 0) + voxels.roll(-1, 0)) / 3
    return (voxels + noise) * float(rng.normal(1, 0.06)) + float(rng.normal(0, 20))


def flip(sample: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
    """Return the sample or, every other time, its mirror image: `volume` `(s, a, r)` along r, and `position`."""
    if rng.random() < 0.5:
        sample["volume"] = sample["volume"].flip(2)
        sample["position"][:, 1] = sample["volume"].shape[2] - 1 - sample["position"][:, 1]
    return sample
