"""CT whose rescale intercept was lost is refused with this reason, whatever noise, padding or crop it has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ct_writers import nifti
from test_ct import placed
from test_ct_bad_input import refused
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.imaging.ct import from_array
from VertebralFractureQuantLib.imaging.files import read_ct

MATRIX = placed(np.eye(3))
OFFSETS = (1000, 1024)


def trunk(noise_hu: float = 10.0, air: float = 0.35, lung: float = 0.15) -> np.ndarray:
    """HU `[k, j, i]` in the shares of a trunk: air, lung, fat, soft tissue and bone."""
    random = np.random.default_rng(3)
    shape = (40, 60, 60)
    rest = 1 - air - lung
    kinds = random.choice(5, shape, p=[air, lung, 0.4 * rest, 0.53 * rest, 0.07 * rest])
    hu = np.choose(kinds, [np.full(shape, -1000.0), -800.0, -100.0, 40.0, 150 + random.exponential(200, shape)])
    return np.maximum(hu + random.normal(0, noise_hu, shape), -1024)


KINDS = {
    "clean": trunk(0),
    "noise": trunk(30),
    "much noise": trunk(100),
    "mostly air": trunk(air=0.75, lung=0.05),
    "mostly lung": trunk(air=0.05, lung=0.7),
    "crop without air": trunk(air=0, lung=0),
    "crop without air, noise": trunk(60, air=0, lung=0),
}


@pytest.mark.parametrize("hu", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("padding", [None, 0, -1000, -1024, -2000])
def test_a_lost_intercept_is_the_reason(hu: np.ndarray, offset: int, padding: int | None) -> None:
    stored = hu + offset
    if padding is not None:
        stored[:, :, :20] = padding
    with pytest.raises(VFQError, match=r"rescale intercept .* may be missing") as info:
        from_array(stored, MATRIX)
    assert info.value.code == "not_ct"


@pytest.mark.parametrize("hu", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("padding", [None, -1024, -2000, -3024])
def test_the_same_ct_with_its_intercept_is_accepted(hu: np.ndarray, padding: int | None) -> None:
    voxels = hu.copy()
    if padding is not None:
        voxels[:, :, :20] = padding
    from_array(voxels, MATRIX)


def test_an_offset_of_unsigned_values_is_the_reason(tmp_path: Path) -> None:
    path = nifti(tmp_path, trunk() + 32768, MATRIX, dtype="u2")
    assert "near 32768, so the rescale intercept may be missing" in refused("not_ct", path)


def test_metal_and_much_cortical_bone_are_no_lost_intercept() -> None:
    hu = trunk(air=0.1)
    hu[10:22, 20:40, 20:40] = np.random.default_rng(1).normal(900, 350, (12, 20, 20))  # dense bone
    hu[25:28] = 3071
    from_array(hu, MATRIX)


def test_every_real_ct_without_its_intercept_is_refused_for_this(data_dir: Path) -> None:
    for path in sorted((data_dir / "ct").glob("*.nii.gz")):
        ct = read_ct(path)
        for offset in OFFSETS:
            with pytest.raises(VFQError, match="rescale intercept"):
                from_array(ct.voxels.astype(np.int32) + offset, ct.ijk_to_ras)
