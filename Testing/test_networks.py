"""The networks' inputs, outputs and losses, without trained weights."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from VertebralFractureQuantLib.imaging.ct import CTVolume  # noqa: E402
from VertebralFractureQuantLib.networks import losses  # noqa: E402
from VertebralFractureQuantLib.networks.architectures import SpineLocalizer, VertebraDetector  # noqa: E402
from VertebralFractureQuantLib.networks.detector import (  # noqa: E402
    MAP_SHARPNESS,
    OFFSET_SCALE_MM,
    OUTPUTS,
    POINTS,
    SPREAD_SCALE,
    _decode,
    _settled,
    _votes,
    detect,
    pixel_positions,
    propose,
    window,
)
from VertebralFractureQuantLib.networks.localizer import (  # noqa: E402
    around_path,
    coarsen,
    continuous_path,
    localize,
    scale,
    soft_argmax,
)
from VertebralFractureQuantLib.networks.losses import detector_loss, localizer_loss, point_loss  # noqa: E402
from VertebralFractureQuantLib.networks.refiner import SLICE_MM, refine  # noqa: E402
from VertebralFractureQuantLib.spine.curve import fit_curve  # noqa: E402
from VertebralFractureQuantLib.spine.levels import CLASSES  # noqa: E402
from VertebralFractureQuantLib.spine.straightening import Straightening  # noqa: E402


def peaked(shape, peaks):
    """Return heat `(s, a, r)` with one sharp peak on each slice."""
    heat = np.full(shape, -20.0, np.float32)
    for s, (a, r) in enumerate(peaks):
        heat[s, a, r] = 20.0
    return heat


def test_soft_argmax_reads_rows_and_columns_in_this_order():
    found = soft_argmax(peaked((2, 7, 11), [(5, 9), (1, 3)]))
    assert np.allclose(found, [[5.0, 9.0], [1.0, 3.0]], atol=1e-3)


def test_soft_argmax_is_finer_than_a_voxel():
    heat = np.full((1, 5, 5), -30.0)
    heat[0, 2, 2:4] = 10.0
    assert soft_argmax(heat)[0].tolist() == pytest.approx([2.0, 2.5], abs=1e-3)


def test_training_and_analysis_read_a_map_the_same_way():
    heat = np.random.default_rng(0).normal(0, 3, (6, 9, 14)).astype(np.float32)
    assert np.allclose(losses.soft_argmax(torch.as_tensor(heat)[None])[0], soft_argmax(heat), atol=1e-4)


def test_training_and_analysis_scale_their_inputs_the_same_way():
    hounsfield = np.linspace(-3000, 3000, 99, dtype=np.float32)
    for scaled in (scale, window):
        assert np.array_equal(scaled(torch.as_tensor(hounsfield)).numpy(), scaled(hounsfield))
        assert scaled(hounsfield).dtype == np.float32


def test_a_slice_holds_spine_where_its_map_peaks():
    heat = peaked((2, 4, 4), [(1, 1), (2, 2)])
    heat[1] = -20.0
    assert (losses.slice_logits(torch.as_tensor(heat)[None])[0] > 0).tolist() == [True, False]


def test_localizer_loss_is_small_for_the_truth_and_grows_with_the_error():
    heat, flags = torch.as_tensor(peaked((2, 6, 6), [(2, 3), (3, 3)]))[None], torch.ones(1, 2)
    right = localizer_loss(heat, torch.tensor([[[2.0, 3.0], [3.0, 3.0]]]), flags)
    wrong = localizer_loss(heat, torch.tensor([[[4.0, 3.0], [5.0, 3.0]]]), flags)
    assert right < 1e-3
    assert float(wrong - right) == pytest.approx(0.8, abs=1e-3)  # 2 voxels of 4 mm, in units of 10 mm


def test_detector_loss_weighs_offsets_of_fractured_vertebrae_more_and_leaves_ignored_pixels_out():
    objects = torch.zeros(1, 4, 4)
    objects[0, 1, 1] = 1
    out = torch.zeros(1, OUTPUTS, 4, 4)
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
    found, scores = _decode(np.linspace(0.95, 0.8, 18), points.reshape(18, 6, 2), 0.7)
    assert len(scores) == 2
    assert np.allclose(found, np.stack([upper, lower]), atol=0.5)


def test_decoding_of_an_empty_image_finds_nothing():
    found = _settled(*_decode(np.full(10, 0.2), np.zeros((10, 6, 2)), 0.7), np.zeros((POINTS, 5, 2)), 1.0)
    assert found.keypoints.shape == (0, 3, 2, 2) and found.scores.shape == found.spreads.shape == (0,)


def test_pixel_positions_are_anterior_millimetres_by_rows():
    positions = pixel_positions(3, 128)
    assert positions[2, 70].tolist() == [6.0, 2.0]


def test_networks_keep_the_size_of_their_input():
    out, maps = VertebraDetector((4, 4, 8, 8, 8))(torch.zeros(1, 1, 64, 32))
    assert out.shape == (1, OUTPUTS, 64, 32) and maps.shape == (1, POINTS, 64, 32)
    assert SpineLocalizer((2, 2, 4, 4, 4))(torch.zeros(1, 1, 16, 32, 16)).shape == (1, 16, 32, 16)


def test_coarse_volume_of_a_flipped_anisotropic_scan_is_at_the_same_place():
    """A bright block at a known place of an LPS, anisotropic scan is at the same place in the coarse volume."""
    voxels = np.full((30, 60, 80), -1000, np.int16)
    voxels[10:16, 20:32, 40:56] = 1000
    matrix = np.diag([-1.0, -1.5, 3.0, 1.0])
    matrix[:3, 3] = 50, 70, -20
    coarse = coarsen(CTVolume(voxels, matrix, "block"))
    s, a, r = (axis.mean() for axis in np.nonzero(coarse.voxels > 0))
    center = matrix @ [47.5, 25.5, 12.5, 1]
    assert coarse.origin + np.array([r, a, s]) * coarse.spacing == pytest.approx(center[:3], abs=0.6)


def test_a_coarse_volume_is_the_same_however_the_voxels_are_stored():
    """The sides are not multiples of the blocks; axes are mirrored one by one, and permuted."""
    voxels = np.random.default_rng(0).integers(-1000, 1000, (31, 50, 63)).astype(np.int16)
    matrix = np.array([[-0.9, 0.1, 0, 50], [0.1, -0.9, 0.2, 70], [0, 0.2, 2.4, -20], [0, 0, 0, 1]])
    coarse = coarsen(CTVolume(voxels, matrix, "x"))
    others = [(voxels.transpose(1, 2, 0), matrix[:, [2, 0, 1, 3]])]
    for axis, size in enumerate(voxels.shape[::-1]):
        mirrored = matrix.copy()
        mirrored[:, 3] += mirrored[:, axis] * (size - 1)
        mirrored[:, axis] *= -1
        others.append((np.flip(voxels, 2 - axis), mirrored))
    for stored, to_ras in others:
        other = coarsen(CTVolume(np.ascontiguousarray(stored), to_ras, "x"))
        assert other.origin == pytest.approx(coarse.origin) and other.voxels == pytest.approx(coarse.voxels, abs=0.01)


def test_localize_returns_one_ras_point_per_slice_where_the_map_peaks():
    volume = coarsen(CTVolume(np.zeros((20, 50, 60), np.int16), np.diag([1.5, 1.5, 3.0, 1.0]), "x"))

    def predict(x):
        assert x.dtype == np.float32 and all(n % 16 == 0 for n in x.shape[2:])
        heat = np.full((1, *x.shape[2:]), -20.0, np.float32)
        heat[0, :, 4, 7] = 20.0
        heat[0, 3] = -20.0
        return (heat,)

    points, probability = localize(predict, volume)
    assert len(points) == len(probability) == len(volume.voxels)
    assert (probability > 0.5).tolist() == [i != 3 for i in range(len(points))]
    r, a = volume.origin[0] + 7 * 4.0, volume.origin[1] + 4 * 4.0
    assert np.allclose(points[5], [r, a, volume.origin[2] + 5 * 4.0], atol=1e-3)


def bumps(shape, vertebrae):
    """Return maps `(1, POINTS, rows, columns)` with peaks at the points of `vertebrae` [(3, 2, 2)], (A, row) mm."""
    places = np.stack([v.reshape(POINTS, 1, 1, 2) for v in vertebrae])
    return -((pixel_positions(*shape) - places) ** 2).sum(-1).min(0)[None].astype(np.float32)


def test_refine_finds_a_rod_at_its_place_in_the_patient():
    r, a = np.meshgrid(np.arange(120) - 60.0, np.arange(120) - 60.0)
    rod = np.where(np.hypot(r - 12, a + 9) < 4, 900, -900).astype(np.int16)
    ct = CTVolume(
        np.repeat(rod[None], 90, 0), np.array([[1, 0, 0, -60], [0, 1, 0, -60], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "rod"
    )
    line = fit_curve(np.stack([np.zeros(40), np.zeros(40), np.linspace(85, 5, 40)], 1))

    def predict(x):
        return 50 * x[:, 0], np.zeros((1, len(CLASSES), x.shape[2]), np.float32)

    found = refine(predict, ct, Straightening(line))
    np.testing.assert_allclose(found.middles[:, :2], [[12, -9]] * len(found.middles), atol=0.5)
    assert len(found.looks) == len(found.middles) and (np.diff(found.middles[:, 2]) > 0).all()
    assert -found.middles[[-1, 0], 2] == pytest.approx([SLICE_MM, line.length], abs=2 * SLICE_MM)


def test_detect_pads_the_image_and_finds_nothing_in_the_padding():
    square = np.array([[[8, -6], [8, 6]], [[0, -6], [0, 6]], [[-8, -6], [-8, 6]]], np.float32)  # (A, row) mm

    def predict(x):
        assert x.shape == (1, 1, 48, 128) and x.dtype == np.float32
        out = np.zeros((1, OUTPUTS, 48, 128), np.float32)
        out[:, 0] = -9.0
        out[0, 0, 20, 70] = 9.0
        out[0, 0, 47, 70] = 9.0  # in the padding
        out[0, 1:13, 20, 70] = square.ravel() / OFFSET_SCALE_MM
        return out, bumps((48, 128), [square + (70 - 64, 20)])

    found = detect(predict, np.zeros((40, 128), np.int16))
    assert np.allclose(found.keypoints, [square + (70 - 64, 20)], atol=1e-3)
    finer = detect(predict, np.zeros((40, 128), np.int16), spacing_mm=0.5)  # the same image at half the size
    assert np.allclose(finer.keypoints, found.keypoints / 2, atol=1e-3)


def test_the_path_stays_on_the_spine_where_something_else_is_brighter_in_a_few_slices():
    heat = np.full((20, 30, 30), -9.0, np.float32)
    for s in range(20):
        heat[s, 10 + s // 4, 8] = 2.0
    heat[6:9, 25, 25] = 6.0
    path = continuous_path(heat)
    assert path[:, 1].tolist() == [8] * 20
    assert path[:, 0].tolist() == [10 + s // 4 for s in range(20)]
    near = around_path(heat, path)
    assert np.isinf(near[7, 25, 25]) and soft_argmax(near)[7].tolist() == pytest.approx([11.0, 8.0], abs=0.1)


def test_the_path_is_the_best_of_all_paths_and_may_run_along_the_border():
    heat = np.random.default_rng(1).normal(0, 4, (4, 3, 5))
    gain = np.maximum(-np.logaddexp(0, -heat), -8.0).reshape(4, -1)
    place = np.stack(np.unravel_index(np.arange(15), (3, 5)), -1)
    near = np.abs(place[:, None] - place[None]).max(-1) <= 2
    paths = [
        p for p in itertools.product(range(15), repeat=4) if all(near[a, b] for a, b in zip(p, p[1:], strict=False))
    ]
    best = max(paths, key=lambda p: sum(gain[i, v] for i, v in enumerate(p)))
    assert continuous_path(heat).tolist() == place[list(best)].tolist()


SQUARE = np.array([[[8, -6], [8, 6]], [[0, -6], [0, 6]], [[-8, -6], [-8, 6]]])  # (A, row) mm


def seen(faint, sure):
    """Return a network that sees a body around row 30 at A = 0, and another one 40 mm below.

    The first is seen with high objectness in the pixels `sure` and with low objectness in `faint`, the second in all
    other pixels.
    """

    def predict(x):
        rows, columns = x.shape[2:]
        out = np.zeros((1, OUTPUTS, rows, columns), np.float32)
        position = pixel_positions(rows, columns)
        where = np.full((rows, columns, 1, 1, 1), 70.0)
        for pixels, objectness in ((faint, -4.0), (sure, 4.0)):
            for row, anterior in pixels:
                out[0, 0, row, anterior + 64] = objectness
                where[row, anterior + 64] = 30.0
        targets = SQUARE + np.concatenate([0 * where, where], -1)
        offsets = (targets - position[:, :, None, None]) / OFFSET_SCALE_MM
        out[0, 1:13] = offsets.reshape(rows, columns, 12).transpose(2, 0, 1)
        return out, bumps((rows, columns), [SQUARE + (0, 30), SQUARE + (0, 70)])

    return predict


def test_a_click_gives_the_points_of_its_pixel_even_with_a_low_score():
    found = propose(seen([(30, 5)], []), np.zeros((90, 128)), 5.0, 30.0)
    assert np.allclose(found.keypoints, [SQUARE + (0, 30)], atol=0.01)
    assert found.scores[0] == pytest.approx(1 / (1 + np.exp(4)), abs=1e-4)
    # The bumps have a standard deviation of 0.7 mm, softened; a height of 12 mm has two ends.
    off = SPREAD_SCALE / 12 * (2 / MAP_SHARPNESS) ** 0.5
    assert found.spreads[0] == pytest.approx(off, rel=0.02)


def test_only_pixels_that_agree_with_the_clicked_one_have_weight():
    lower, other = SQUARE + (0, 3), SQUARE + (0, 40)
    votes = _votes(np.stack([SQUARE, lower, other]), np.array([1.0, 0.5, 0.9]), 0)
    assert votes.tolist() == pytest.approx([1 / 1.5, 0.5 / 1.5, 0])


def test_each_point_moves_to_the_peak_of_its_map_within_reach():
    """The first places are 2 mm too low, and the maps also show another body 40 mm below."""
    true = SQUARE + (0.3, 30.4)
    first = (true + (0, 2))[None]
    maps = bumps((90, 128), [true, true + (0, 40)])[0]
    assert np.allclose(_settled(first, np.ones(1), maps, 1.0).keypoints, true, atol=0.01)
    maps[:, 60:] += 50  # the body far below may have higher values
    assert np.allclose(_settled(first, np.ones(1), maps, 1.0).keypoints, true, atol=0.01)


def test_wider_maps_and_lower_vertebrae_give_g_a_larger_standard_deviation():
    maps = bumps((90, 128), [SQUARE + (0, 30)])[0]
    sure, unsure = (_settled((SQUARE + (0, 30.0))[None], np.ones(1), m, 1.0).spreads[0] for m in (maps, maps / 4))
    assert unsure == pytest.approx(2 * sure, rel=0.1)
    crushed = SQUARE * (1, 0.5) + (0, 30)
    low = _settled(crushed[None], np.ones(1), bumps((90, 128), [crushed])[0], 1.0).spreads[0]
    assert low == pytest.approx(2 * sure, rel=0.05)


def test_a_point_far_outside_the_image_keeps_its_first_place():
    first = (SQUARE - (0, 30.0))[None]
    assert np.array_equal(_settled(first, np.ones(1), np.zeros((POINTS, 90, 128)), 1.0).keypoints, first)


def test_point_loss_is_small_for_the_truth_and_grows_with_its_distance_and_with_the_fracture():
    truth = torch.as_tensor(SQUARE.reshape(1, 1, POINTS, 2)[..., ::-1].copy() + (40.0, 64.0), dtype=torch.float32)
    maps = torch.as_tensor(bumps((90, 128), [SQUARE + (0, 40)])) / 2
    known = torch.ones(1, 1, POINTS)
    right = float(point_loss(maps, truth, truth, known))
    wrong = [float(point_loss(maps, truth, truth + torch.tensor([shift, 0.0]), known)) for shift in (1.0, 2.0)]
    assert right < 0.3 and wrong[0] > right + 0.5 and wrong[1] > wrong[0] + 0.5
    assert float(point_loss(maps, truth, truth, 2 * known)) == pytest.approx(2 * right)
    assert float(point_loss(maps, truth, truth + 5.0, 0 * known)) == 0
    lower = torch.tensor([0.0, 1.0] * 3)[:, None] * torch.tensor([1.0, 0.0])
    assert point_loss(maps, truth, truth + lower, known) > right + 0.5 * (wrong[0] - right)  # an error in a height


def test_point_loss_is_finite_at_the_border_of_the_image():
    maps = torch.zeros(1, POINTS, 20, 20, requires_grad=True)
    truth = torch.zeros(1, 2, POINTS, 2)
    truth[:, 1] = 25.0
    loss = point_loss(maps, truth + 3, truth, torch.ones(1, 2, POINTS))
    loss.backward()
    assert loss < 20 and torch.isfinite(maps.grad).all()


def test_a_click_finds_what_detection_finds_there():
    predict = seen([], [(r, a) for r in range(26, 35) for a in range(-4, 5)])
    detected = detect(predict, np.zeros((90, 128)))
    best = np.abs(detected.keypoints[..., 1].mean((1, 2)) - 30).argmin()
    assert np.allclose(
        propose(predict, np.zeros((90, 128)), 1.4, 30.4).keypoints[0], detected.keypoints[best], atol=0.01
    )


@pytest.mark.parametrize("place", [(0.0, -0.6), (0.0, 89.6), (-64.6, 10.0), (63.6, 10.0)])
def test_a_click_outside_the_image_gives_nothing(place):
    assert propose(seen([], []), np.zeros((90, 128)), *place) is None
