"""The networks' inputs, outputs, losses and weights files, without trained weights."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from VertebralFractureQuantLib.ct import CTVolume  # noqa: E402
from VertebralFractureQuantLib.errors import VFQError  # noqa: E402
from VertebralFractureQuantLib.networks import weights  # noqa: E402
from VertebralFractureQuantLib.networks.detector import (  # noqa: E402
    OFFSET_SCALE_MM,
    VertebraDetector,
    _decode,
    pixel_positions,
)
from VertebralFractureQuantLib.networks.localizer import (  # noqa: E402
    SpineLocalizer,
    around_path,
    coarsen,
    continuous_path,
    localize,
    slice_logits,
    soft_argmax,
)
from VertebralFractureQuantLib.networks.losses import detector_loss, localizer_loss  # noqa: E402


def peaked(shape, peaks):
    """Heat `(1, s, a, r)` with one sharp peak on each slice."""
    heat = torch.full((1, *shape), -20.0)
    for s, (a, r) in enumerate(peaks):
        heat[0, s, a, r] = 20.0
    return heat


def test_soft_argmax_reads_rows_and_columns_in_this_order():
    found = soft_argmax(peaked((2, 7, 11), [(5, 9), (1, 3)]))[0]
    assert torch.allclose(found, torch.tensor([[5.0, 9.0], [1.0, 3.0]]), atol=1e-3)


def test_soft_argmax_is_finer_than_a_voxel():
    heat = torch.full((1, 1, 5, 5), -30.0)
    heat[0, 0, 2, 2], heat[0, 0, 2, 3] = 10.0, 10.0
    assert soft_argmax(heat)[0, 0].tolist() == pytest.approx([2.0, 2.5], abs=1e-3)


def test_a_slice_holds_spine_where_its_map_peaks():
    heat = peaked((2, 4, 4), [(1, 1), (2, 2)])
    heat[0, 1] = -20.0
    assert (slice_logits(heat)[0] > 0).tolist() == [True, False]


def test_localizer_loss_is_small_for_the_truth_and_grows_with_the_error():
    heat, flags = peaked((2, 6, 6), [(2, 3), (3, 3)]), torch.ones(1, 2)
    right = localizer_loss(heat, torch.tensor([[[2.0, 3.0], [3.0, 3.0]]]), flags)
    wrong = localizer_loss(heat, torch.tensor([[[4.0, 3.0], [5.0, 3.0]]]), flags)
    assert right < 1e-3
    assert float(wrong - right) == pytest.approx(0.8, abs=1e-3)  # 2 voxels of 4 mm, in units of 10 mm


def test_detector_loss_weighs_offsets_of_fractured_vertebrae_more_and_leaves_ignored_pixels_out():
    objects = torch.zeros(1, 4, 4)
    objects[0, 1, 1] = 1
    out = torch.zeros(1, 13, 4, 4)
    out[:, 0] = torch.where(objects > 0, 30.0, -30.0)
    offsets = torch.full((1, 12, 4, 4), OFFSET_SCALE_MM)
    losses = [
        float(detector_loss(out, objects, torch.ones_like(objects), offsets, objects / ratio)) for ratio in (1.0, 0.5)
    ]
    assert losses[1] == pytest.approx(2 * losses[0])
    out[0, 0, 3, 3] = 30.0  # a false object...
    ignored = torch.ones_like(objects)
    ignored[0, 3, 3] = 0  # ...in an ignored pixel
    assert float(detector_loss(out, objects, ignored, offsets, objects)) == pytest.approx(losses[0])


def test_decoding_gives_one_vertebra_for_many_agreeing_pixels_cranial_first():
    square = np.array([[[10, -8], [10, 8]], [[0, -8], [0, 8]], [[-10, -8], [-10, 8]]], float)
    lower, upper = square + (0, 60), square + (0, 20)
    points = np.concatenate(
        [np.stack([v + np.random.default_rng(i).normal(0, 0.3) for i in range(9)]) for v in (lower, upper)]
    )
    found = _decode(np.linspace(0.95, 0.8, 18), points.reshape(18, 6, 2), 0.7)
    assert len(found.scores) == 2
    assert np.allclose(found.keypoints, np.stack([upper, lower]), atol=0.5)


def test_decoding_of_an_empty_picture_finds_nothing():
    found = _decode(np.full(10, 0.2), np.zeros((10, 6, 2)), 0.7)
    assert found.keypoints.shape == (0, 3, 2, 2) and found.scores.shape == (0,)


def test_pixel_positions_are_anterior_millimetres_by_rows():
    positions = pixel_positions(3, 128)
    assert positions[2, 70].tolist() == [6.0, 2.0]


def test_networks_keep_the_size_of_their_input():
    assert VertebraDetector((4, 4, 8, 8, 8))(torch.zeros(1, 1, 64, 32)).shape == (1, 13, 64, 32)
    assert SpineLocalizer((2, 2, 4, 4, 4))(torch.zeros(1, 1, 16, 32, 16)).shape == (1, 16, 32, 16)


def test_coarse_volume_of_a_flipped_anisotropic_scan_lies_where_the_scan_lies():
    """A bright block at a known place of an LPS, non-cubic scan is found there again."""
    voxels = np.full((30, 60, 80), -1000, np.int16)
    voxels[10:16, 20:32, 40:56] = 1000
    matrix = np.diag([-1.0, -1.5, 3.0, 1.0])
    matrix[:3, 3] = 50, 70, -20
    coarse = coarsen(CTVolume(voxels, matrix, "block"))
    s, a, r = (axis.mean() for axis in np.nonzero(coarse.voxels > 0))
    center = matrix @ [47.5, 25.5, 12.5, 1]
    assert coarse.origin + np.array([r, a, s]) * coarse.spacing == pytest.approx(center[:3], abs=0.6)


def test_localize_returns_one_ras_point_a_slice():
    volume = coarsen(CTVolume(np.zeros((20, 50, 60), np.int16), np.diag([1.5, 1.5, 3.0, 1.0]), "x"))
    points, probability = localize(SpineLocalizer((2, 2, 4, 4, 4)).eval(), volume)
    assert points.shape == (volume.voxels.shape[0], 3) and probability.shape == (len(points),)
    assert np.allclose(np.diff(points[:, 2]), 4.0)


def test_weights_come_back_as_they_were_saved(tmp_path):
    model = VertebraDetector((4, 4, 8, 8, 8))
    weights.save(model, "detector", tmp_path / "d.safetensors", {"name": "tiny"})
    loaded, stamp = weights.load("detector", path=tmp_path / "d.safetensors")
    assert loaded.channels == model.channels and not loaded.training
    assert stamp.sha256 == json.loads((tmp_path / "d.json").read_text())["sha256"]
    assert torch.allclose(loaded.head.weight, model.head.weight, atol=1e-3)


@pytest.mark.parametrize("damage", ["truncated", "not safetensors", "absent", "of the other network"])
def test_unusable_weights_are_refused_with_a_code(tmp_path, damage):
    path = tmp_path / "w.safetensors"
    weights.save(SpineLocalizer((2, 2, 4, 4, 4)), "localizer", path, {"name": "tiny"})
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "not safetensors":
        path.write_bytes(b"pickle" * 9)
    elif damage == "absent":
        path.unlink()
    role = "detector" if damage == "of the other network" else "localizer"
    with pytest.raises(VFQError) as caught:
        weights.load(role, path=path)
    assert caught.value.code == "bad_weights"


def test_the_path_stays_on_the_spine_where_something_brighter_wins_a_few_slices():
    heat = torch.full((20, 30, 30), -9.0)
    for s in range(20):
        heat[s, 10 + s // 4, 8] = 2.0
    heat[6:9, 25, 25] = 6.0
    path = continuous_path(heat)
    assert path[:, 1].tolist() == [8] * 20
    assert path[:, 0].tolist() == [10 + s // 4 for s in range(20)]
    near = around_path(heat[None], path)
    assert torch.isinf(near[0, 7, 25, 25]) and soft_argmax(near)[0, 7].tolist() == pytest.approx([11.0, 8.0], abs=0.1)
