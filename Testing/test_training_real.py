"""Training on real scans with references: broken images, columns, tubes and vessels agree with their targets.

The scans here are phantoms that are read from files, with references made of their truth.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from VertebralFractureQuantLib.errors import VFQError  # noqa: E402
from VertebralFractureQuantLib.imaging.files import write_ct  # noqa: E402
from VertebralFractureQuantLib.phantom import PhantomOptions, make_phantom  # noqa: E402
from VertebralFractureQuantLib.spine.genant import genant_ratio, heights  # noqa: E402
from VertebralFractureQuantLib.spine.levels import CLASSES  # noqa: E402
from VertebralFractureQuantLib.spine.reference import read_reference  # noqa: E402
from VertebralFractureQuantLib.training import breaking, columns, real, tubes, vessels  # noqa: E402
from VertebralFractureQuantLib.training.breaking import Fracture, broken  # noqa: E402
from VertebralFractureQuantLib.training.train import RECIPES, train  # noqa: E402

WHOLE = Fracture(1.0, 1.0, (0.0, 0.0), 0.5, 1.0, 2.0, 0.0, 2.0, 1.0, 0.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of references and one of scans: one phantom."""
    ct, truth = make_phantom(5, PhantomOptions(field_of_view="spine", spacing_mm=(1.2, 2.5), noise_hu=5.0))
    references, scans = tmp_path_factory.mktemp("references"), tmp_path_factory.mktemp("scans")
    write_ct(ct, scans / "one.nii.gz")
    data = {
        "case": "one",
        "ct_file": "one.nii.gz",
        "space": "RAS_mm",
        "vertebrae": [
            {"level": name, "level_certain": True, "keypoints": points.tolist()}
            for name, points in zip(truth.levels, truth.keypoints, strict=True)
        ],
        "partial": [{"center": list(center)} for _, center in truth.partial],
        "centerline": truth.keypoints.mean((1, 2)).tolist(),
    }
    (references / "one.json").write_text(json.dumps(data))
    return references, scans


@pytest.fixture(scope="module")
def cases(folders):
    return real.read_cases([folders[0]], folders[1])


def stack(count=4, tall=20.0, gap=4.0):
    """Key points `(n, 3, 2, 2)` of level vertebrae below one another, and an image with bright endplates."""
    tops = 20 + np.arange(count) * (tall + gap)
    points = np.array([[[[a, t], [a, t + tall]] for a in (14.0, 0.0, -14.0)] for t in tops])
    picture = torch.full((160, 128), 40.0)
    for top in tops:
        picture[int(top) : int(top + tall), 50:79] = 150.0
        picture[int(top), 50:79] = picture[int(top + tall), 50:79] = 600.0
    return picture, points


def test_an_image_without_fractures_stays_as_it_is():
    picture, points = stack()
    seen, moved = broken(picture, points, {})
    assert torch.allclose(seen, picture, atol=0.5) and np.allclose(moved, points)
    assert broken(picture, points[:0], {})[0] is picture


@pytest.mark.parametrize(
    ("fracture", "left"),
    [
        (replace(WHOLE, front=0.5), (0.62, 0.8, 1.0)),  # the curve follows a part of a wedge
        (replace(WHOLE, sunk=(0.4, 0.0)), (1.0, 0.6, 1.0)),
        (replace(WHOLE, sunk=(0.2, 0.25)), (1.0, 0.55, 1.0)),
        (replace(WHOLE, front=0.5, back=0.5), (0.5, 0.5, 0.5)),
    ],
)
def test_a_broken_vertebra_keeps_the_heights_that_were_asked_for(fracture, left):
    picture, points = stack()
    seen, moved = broken(picture, points, {1: fracture})
    assert heights(moved[1]) / 20 == pytest.approx(left, abs=0.09)
    for other in (0, 2, 3):
        assert genant_ratio(heights(moved[other])) > 0.85
    for n, (a, row) in enumerate(moved.reshape(-1, 2)):  # a bright endplate is where the point is
        column = seen[:, round(a + 64)].numpy()
        near = slice(int(row) - 3, int(row) + 4)
        assert column[near].max() > 300, n


def test_pressed_bone_is_denser_and_a_sunken_endplate_has_a_dense_band():
    picture, points = stack()
    plain, _ = broken(picture, points, {1: replace(WHOLE, front=0.5, back=0.5)})
    dense, moved = broken(picture, points, {1: replace(WHOLE, front=0.5, back=0.5, denser=0.8)})
    middle = tuple(moved[1].mean((0, 1)).round().astype(int)[::-1] + (0, 64))
    assert dense[middle] > plain[middle] + 60
    band, moved = broken(picture, points, {1: replace(WHOLE, sunk=(0.4, 0.0), band_hu=200.0, band=3.0)})
    a, row = moved[1, 1, 0]
    assert band[int(row) + 4, int(a) + 64] > plain[middle] + 20
    assert torch.allclose(band[:10], picture[:10], atol=0.5)


def test_drawn_fractures_are_of_all_kinds_and_degrees():
    picture, points = stack()
    rng = np.random.default_rng(0)
    left = [heights(broken(picture, points, {1: breaking.draw_fracture(rng)})[1][1]) / 20 for _ in range(120)]
    ratios = np.array([h.min() / h.max() for h in left])
    assert (ratios < 0.6).sum() > 15 and (ratios > 0.8).sum() > 15
    lowest = np.bincount([int(h.argmin()) for h in left], minlength=3)
    assert lowest[0] > 25 and lowest[1] > 25
    assert sum(h.max() < 0.75 for h in left) > 3


def test_the_key_points_of_a_real_column_are_on_its_endplates(cases):
    for seed in range(4):
        column = real.real_column(cases, np.random.default_rng(seed))
        up = column.keypoints[:, 1, 0] - column.keypoints[:, 1, 1]
        up /= np.linalg.norm(up, axis=-1, keepdims=True)
        inward = column.keypoints[:, 1] + 2.0 * np.stack([-up, up], 1)
        outward = column.keypoints[:, 1] - 2.0 * np.stack([-up, up], 1)
        a, row = np.moveaxis(np.stack([inward, outward]), -1, 0).round().astype(int)
        hu = column.picture.numpy()[row.clip(0, len(column.picture) - 1), a + 64]
        assert np.median(hu[0] - hu[1]) > 20
        sample = columns.detector_sample(column, np.random.default_rng(seed))
        assert sample["picture"].shape == (columns.ROWS, columns.COLUMNS)
        assert (sample["objectness"].numpy() > 0).any()


def test_vertebrae_without_key_points_are_ignored(cases):
    case = cases[0]
    sample = columns.detector_sample(real.real_column(cases, np.random.default_rng(1)), np.random.default_rng(1))
    assert len(case.reference.partial) and (sample["weight"].numpy() == 0).any()


def test_the_curve_of_a_real_tube_runs_through_bone_even_where_the_coarse_curve_has_left_it(cases, monkeypatch):
    monkeypatch.setattr(real, "LOST_SHARE", 1.0)
    monkeypatch.setattr(vessels, "VESSEL_SHARE", 0.0)
    apart = []
    for seed in range(4):
        tube = real.real_tube(cases, np.random.default_rng(seed))
        slices = np.flatnonzero(tube.holds_spine)
        a, r = tube.position[slices].round().astype(int).clip(0, 39).T
        assert np.median(tube.voxels.numpy()[slices, a, r]) > 60
        apart.append(np.abs(tube.position[slices, 1] - 19.5).max() * 2)
        known = tube.level[tube.level != tubes.UNKNOWN]
        assert (np.diff(known) <= 0).all() and {CLASSES[i] for i in known} <= set(cases[0].reference.levels)
    assert max(apart) > 8


def test_a_painted_vessel_leaves_bone_and_is_beside_the_body(monkeypatch):
    monkeypatch.setattr(vessels, "VESSEL_SHARE", 1.0)
    voxels = torch.full((20, 40, 40), 40.0)
    voxels[:, 15:25, 15:25] = 300.0
    painted = [vessels.with_vessel(np.random.default_rng(s), voxels, np.full((20, 2), 19.5), 2.0) for s in range(12)]
    assert all(torch.equal(p[:, 15:25, 15:25], voxels[:, 15:25, 15:25]) for p in painted)
    assert sum(bool((p > 100).sum() > (voxels > 100).sum() + 200) for p in painted) > 6
    monkeypatch.setattr(vessels, "VESSEL_SHARE", 0.0)
    assert vessels.with_vessel(np.random.default_rng(0), voxels, np.full((20, 2), 19.5), 2.0) is voxels


def test_a_case_is_left_out_by_the_beginning_of_its_name(folders):
    with pytest.raises(VFQError) as error:
        real.read_cases([folders[0]], folders[1], ("on",))
    assert error.value.code == "not_found"


def test_a_file_that_is_no_reference_is_named(tmp_path):
    (tmp_path / "other.json").write_text('{"schema": "vfq-analysis/1"}')
    with pytest.raises(VFQError, match=r"other\.json") as error:
        read_reference(tmp_path / "other.json")
    assert error.value.code == "not_a_reference"
    with pytest.raises(VFQError) as error:
        read_reference(tmp_path / "none.json")
    assert error.value.code == "not_found"


def test_training_names_the_scans_it_learned_from_and_no_folder(folders, tmp_path):
    recipe = replace(
        RECIPES["detector"], steps=1, batch=1, workers=0, pool=1, reuse=1, channels=(4, 4, 4, 4, 4),
        references=(str(folders[0]),), scans=str(folders[1]), real_share=1.0,
    )  # fmt: skip
    card = json.loads(train(recipe, tmp_path / "run", report=lambda _: None).with_suffix(".json").read_text())
    assert card["data"].endswith("real CT: one")
    assert str(folders[1]) not in json.dumps(card) and card["recipe"]["references"] == [folders[0].name]


def test_the_localizer_learns_from_phantoms_only(folders, tmp_path):
    recipe = replace(RECIPES["localizer"], references=(str(folders[0]),), scans=str(folders[1]))
    with pytest.raises(VFQError) as error:
        train(recipe, tmp_path / "run", report=lambda _: None)
    assert error.value.code == "no_real_data"
