"""Other methods beside ours: anchor boxes and M-SCN end in the same record, and cost ours nothing."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from VertebralFractureQuantLib import analysis  # noqa: E402
from VertebralFractureQuantLib.analysis.found import Found  # noqa: E402
from VertebralFractureQuantLib.errors import CODES, VFQError  # noqa: E402
from VertebralFractureQuantLib.imaging.ct import CTVolume  # noqa: E402
from VertebralFractureQuantLib.methods import registry  # noqa: E402
from VertebralFractureQuantLib.networks import anchors, mscn, weights  # noqa: E402
from VertebralFractureQuantLib.networks.method_architectures import METHOD_ARCHITECTURES  # noqa: E402
from VertebralFractureQuantLib.phantom.anatomy import draw_anatomy  # noqa: E402
from VertebralFractureQuantLib.phantom.keypoints import exact_keypoints  # noqa: E402
from VertebralFractureQuantLib.phantom.masks import body_distance  # noqa: E402
from VertebralFractureQuantLib.spine.curve import SpineCurve  # noqa: E402
from VertebralFractureQuantLib.training import mscn as mscn_training  # noqa: E402
from VertebralFractureQuantLib.training.anchor_boxes import anchor_loss, assigned  # noqa: E402

MODULE = Path(__file__).resolve().parent.parent / "VertebralFractureQuant"
SQUARE = np.array([[[10.0, -8], [10, 8]], [[0, -8], [0, 8]], [[-10, -8], [-10, 8]]])  # (A, row) mm, 20 x 16 mm


def test_our_analysis_imports_nothing_of_other_methods():
    code = (
        f"import sys; sys.path.insert(0, {str(MODULE)!r}); from VertebralFractureQuantLib import analysis; "
        "import VertebralFractureQuantLib.cli.app; analysis.load_models('cpu'); "
        "parts = ('.methods', '.anchors', '.mscn', '.method_architectures'); "
        "print([m for m in sys.modules if any(p in m for p in parts) and 'VertebralFractureQuantLib' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_an_unknown_method_is_refused_with_the_names_of_those_there_are():
    with pytest.raises(VFQError) as refusal:
        registry.load_method("yolo")
    assert refusal.value.code == "unknown_method" and "unknown_method" in CODES
    assert all(name in refusal.value.message for name in (registry.OURS, *registry.METHODS))


def test_every_method_names_networks_that_can_be_trained():
    from VertebralFractureQuantLib.training.tasks import TASKS
    from VertebralFractureQuantLib.training.train import RECIPES

    for name in registry.METHODS:
        for role in registry.method(name).ROLES:
            assert role in METHOD_ARCHITECTURES and role in TASKS and RECIPES[role].role == role


def test_a_method_without_weights_is_refused_with_the_command_that_makes_them(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "weights_folder", lambda: tmp_path)
    with pytest.raises(VFQError) as refusal:
        registry.load_method("anchor-boxes")
    assert refusal.value.code == "no_method_weights"
    assert "vfq train anchor-boxes" in refusal.value.message


def test_weights_of_another_method_are_refused(tmp_path):
    shipped = weights.weights_folder() / "detector.safetensors"
    (tmp_path / "anchor-boxes.safetensors").write_bytes(shipped.read_bytes())
    with pytest.raises(VFQError, match="role 'detector'") as refusal:
        registry.load_method("anchor-boxes", "cpu", tmp_path)
    assert refusal.value.code == "bad_weights"


def test_a_method_ends_in_the_same_record_and_names_its_networks(tmp_path):
    weights.save(METHOD_ARCHITECTURES["anchor-boxes"](), "anchor-boxes", tmp_path / "anchor-boxes.safetensors", CARD)
    models = registry.load_method("anchor-boxes", "cpu", tmp_path)
    assert [s.role for s in models.stamps] == ["localizer", "refiner", "anchor-boxes"]
    assert "anchor-boxes" in models.notes[-1] and "methods.md" in models.notes[-1]
    assert [s.role for s in registry.load_method(registry.OURS, "cpu").stamps] == ["localizer", "refiner", "detector"]
    curve = SpineCurve(np.stack([np.zeros(200), np.zeros(200), 100.0 - np.arange(200)], 1))
    ct = CTVolume(np.zeros((100, 60, 60), np.int16), np.diag([2.0, 2, 2, 1]) + MOVED, "nothing")
    assert len(models.finder(ct, curve).keypoints) == 0


CARD = {"name": "untrained"}
MOVED = np.zeros((4, 4))
MOVED[:3, 3] = -60, -60, -100


@pytest.mark.thorough
def test_what_another_method_finds_is_measured_and_named_as_ours(tmp_path):
    """A method that returns the truth gives the truth's heights, without a standard deviation of G."""
    from VertebralFractureQuantLib.phantom import PhantomOptions, make_phantom

    options = PhantomOptions(field_of_view="spine", spacing_mm=(1.2, 2.5), scoliosis_deg=0.0)
    ct, truth = make_phantom(41, options)
    points = truth.keypoints
    found = Found(points, np.full(len(points), 0.9), np.full(len(points), np.nan))
    models = replace(analysis.load_models("cpu"), finder=lambda ct, curve: found)
    record = analysis.analyze(ct, models)
    assert len(record.vertebrae) == len(points) and all(v.spread is None for v in record.vertebrae)
    measured = np.array([v.measurement.heights_mm for v in record.vertebrae])
    assert np.allclose(measured, np.linalg.norm(points[:, :, 0] - points[:, :, 1], axis=-1), atol=1e-6)


def test_the_sixteen_anchors_are_those_of_the_paper():
    assert len(anchors.ANCHORS_MM) == 16
    assert np.allclose(anchors.ANCHORS_MM.prod(1), np.repeat(np.square(anchors.SCALES_MM), 4))
    assert np.allclose(anchors.ANCHORS_MM[:4, 0] / anchors.ANCHORS_MM[:4, 1], anchors.ASPECTS)


def test_boxes_overlap_by_their_area_and_suppress_the_weaker():
    half = np.array([0.0, 0, 2, 1])
    assert np.allclose(anchors.box_iou(half, np.array([[0.0, 0, 2, 1], [1, 0, 3, 1], [5, 5, 6, 6]])), [1, 1 / 3, 0])
    points = np.stack([SQUARE, SQUARE + 1, SQUARE + (0, 40)])
    assert anchors.suppress_boxes(points, np.array([0.8, 0.9, 0.7]), 0.1).tolist() == [1, 2]


@pytest.mark.parametrize("spacing", [1.0, 0.85])
def test_an_anchor_is_decoded_to_the_points_it_was_taught(spacing):
    """What the loss wants of the network is what inference makes points of."""
    centre = np.array([3.0, 70.0])  # A, row in pixels
    points = SQUARE + centre
    places = torch.as_tensor(points.reshape(6, 2)[:, ::-1] + (0.0, 64.0), dtype=torch.float32)
    _, objects = assigned(places[None], (144, 128))
    out = torch.full((16, 13, 144, 128), -9.0)
    anchor, row, column = objects.nonzero(as_tuple=True)
    assert len(anchor) > 50
    sides = torch.as_tensor(anchors.ANCHORS_MM, dtype=torch.float32)[anchor]
    offsets = (places[None] - torch.stack([row, column], -1)[:, None]).flip(-1) / sides[:, None]
    out[anchor, 0, row, column] = 9.0
    out[anchor, 1:, row, column] = offsets.flatten(1)
    known, weight = torch.tensor([[True]]), torch.ones(1, 144, 128)
    assert float(anchor_loss(out[None], places[None, None], known, weight)) < 0.2  # only what BCE leaves
    assert float(anchor_loss(out[None] * 0, places[None, None], known, weight)) > 1
    found = anchors.detect_boxes(lambda x: (out.reshape(1, -1, 144, 128).numpy(),), np.zeros((140, 128)), 0.5, spacing)
    assert found.keypoints.shape == (1, 3, 2, 2) and np.isnan(found.spreads).all()
    assert np.allclose(found.keypoints[0], points * spacing, atol=1e-4)


def test_no_vertebra_teaches_every_anchor_background():
    _, objects = assigned(torch.zeros(0, 6, 2), (32, 32))
    assert not objects.any()
    quiet, none = torch.full((1, 16, 13, 32, 32), -20.0), torch.zeros(1, 1, dtype=torch.bool)
    assert float(anchor_loss(quiet, torch.zeros(1, 1, 6, 2), none, torch.ones(1, 32, 32))) < 1e-2


def test_peaks_of_a_heat_map_are_found_between_voxels():
    places = np.array([[6.3, 11.6, 12.2], [12.0, 12.4, 11.0]])
    heat = mscn_training._heat(places, (24, 24, 24))
    found, heights = mscn.peaks(heat)
    assert np.abs(found - places).max() < 0.25 and np.abs(heights - 1).max() < 0.01
    assert len(mscn.peaks(0.3 * heat)[0]) == 0


def test_the_exact_mask_ends_at_the_key_points():
    anatomy = draw_anatomy(np.random.default_rng(3))
    exact = exact_keypoints(anatomy)
    for body, points in list(zip(anatomy.bodies, exact, strict=True))[1:23]:
        assert np.abs(body_distance(body, points).numpy()).max() < 1.0
        assert float(body_distance(body, points.mean((0, 1))[None])) < -4


def test_m_scn_places_points_of_a_crop_in_the_patient():
    """Three perfect networks around one painted box give its corners back, in a turned frame."""
    direction = np.array([0.0, 0.2, -1]) / np.linalg.norm([0.0, 0.2, -1])
    curve = SpineCurve(np.array([5.0, -3, 80]) + np.arange(160)[:, None] * direction)
    arc = 78.0
    middle, frame = (x[0] for x in curve.at(np.array([arc])))
    middle = middle - 2 * frame[0] - 2 * frame[1]  # the middle of a voxel of the tube
    half = np.array([13.5, 13.5, 10.0])  # s, a, r mm

    def centre(x):
        heat = mscn_training._heat(np.array([[arc / 4 - 0.5, 11.0, 11.0]]), x.shape[2:])
        return (heat[None, None],)

    steps = [(np.arange(n) + 0.5 - n / 2) * mm for n, mm in zip(mscn.CROP, mscn.CROP_MM, strict=True)]
    distance = np.max([np.abs(g) - h for g, h in zip(np.meshgrid(*steps, indexing="ij"), half, strict=True)], 0)

    def mask(x):
        return (np.stack([4 * distance, -4 * distance, -4 * distance - 1])[None],)

    def point(x):
        rows, columns = np.nonzero(x[0, 0])
        grid = np.arange(mscn.SLICE)
        spots = [(r, c) for c in (columns.max(), columns.mean(), columns.min()) for r in (rows.min(), rows.max())]
        heat = [np.exp(-((grid[:, None] - r) ** 2 + (grid - c) ** 2) / 8) for r, c in spots]
        return (np.stack(heat)[None],)

    matrix = np.diag([2.0, 2, 2, 1]) + MOVED
    ct = CTVolume(np.zeros((100, 80, 80), np.int16), matrix, "box")
    found = mscn.find_bodies(centre, mask, point, ct, curve)
    assert len(found.keypoints) == 1 and found.fractured[0] < 0.5
    signs = np.array([[[a, s] for s in (1, -1)] for a in (1, 0, -1)])
    wanted = middle + signs[..., :1] * half[1] * frame[1] + signs[..., 1:] * half[0] * frame[2]
    assert np.linalg.norm(found.keypoints[0] - wanted, axis=-1).max() < 0.8  # half a pixel on each axis
    above = CTVolume(ct.voxels[: int((middle[2] - matrix[2, 3]) / 2) + 3], matrix, "cut through its upper part")
    assert len(mscn.find_bodies(centre, mask, point, above, curve).keypoints) == 0


def test_a_body_is_cut_where_it_meets_the_border_in_its_middle_slice():
    body, scanned = np.zeros(mscn.CROP, bool), np.ones(mscn.CROP, bool)
    body[10:30, 8:32, 4:20] = True
    assert not mscn.is_cut(body, scanned)
    scanned[..., :8] = False  # a side is missing
    assert not mscn.is_cut(body, scanned)
    for border in ((slice(0, 9), slice(None)), (slice(31, 40), slice(None)), (slice(None), slice(33, 40))):
        less = scanned.copy()
        less[border] = False
        assert mscn.is_cut(body, less)


@pytest.mark.thorough
@pytest.mark.parametrize("role", METHOD_ARCHITECTURES)
def test_each_network_is_trained_and_exported_like_ours(role, tmp_path, monkeypatch):
    """One step; a figure of the validation; weights, graph and card that load again, on OpenVINO if it is there."""
    from VertebralFractureQuantLib.networks.loading import load
    from VertebralFractureQuantLib.training import train

    monkeypatch.setitem(train.TASKS, role, replace(train.TASKS[role], validated=1))
    recipe = replace(train.RECIPES[role], steps=1, batch=2, workers=0, pool=1)
    lines: list[str] = []
    path = train.train(recipe, tmp_path, report=lines.append)
    assert "score" in lines[0] and path.name == f"{role}.safetensors"
    assert load(role, "cpu", path)[1].role == role
    assert path.stat().st_size < 4e6 and path.with_suffix(".onnx").stat().st_size < 4e6


def test_the_anchor_boxes_begin_with_the_trunk_of_our_detector():
    from VertebralFractureQuantLib.training import train

    model, origin = train._begin(train.RECIPES["anchor-boxes"])
    detector, stamp = weights.load("detector")
    assert origin == stamp
    for name, value in detector.up.state_dict().items():
        assert torch.equal(model.up.state_dict()[name], value)


def test_centres_of_a_sample_lie_on_the_peaks_of_its_heat_map():
    """What the scan cuts is neither taught nor counted against the network."""
    rng = np.random.default_rng(0)
    centres = np.stack([np.arange(4.0, 90, 6), np.full(15, 11.3), np.full(15, 12.6)], 1)
    tube = mscn_training.PaintedCentres(torch.zeros(90, 24, 24), centres, np.array([[88.0, 11, 12]]))
    for _ in range(20):
        sample = mscn_training.centres_sample(tube, rng)
        known = sample["centres"].numpy()
        known = known[np.isfinite(known[:, 0])]
        found, _ = mscn.peaks(sample["heat"].numpy())
        assert len(found) == len(known) and np.abs(found - known).max(initial=0) < 0.25
        at = tuple(known.round().astype(int).T)
        assert (sample["weight"].numpy()[at] == 1).all()


def test_no_bone_is_taught_beyond_the_border_of_a_scan():
    rng = np.random.default_rng(0)
    all_bone = mscn_training.PaintedBodies(
        torch.full((1, *mscn.CROP), 400.0), torch.ones((1, *mscn.CROP), dtype=torch.int64)
    )
    shares = []
    for _ in range(40):
        sample = mscn_training.bodies_sample(all_bone, rng)
        beyond = sample["volume"] == mscn.AIR_HU
        assert (sample["labels"] == (~beyond).long()).all()
        shares.append(float(beyond.float().mean()))
    assert 5 < np.count_nonzero(shares) < 25 and max(shares) < 0.5


@pytest.mark.thorough
def test_masks_and_slices_agree_with_the_key_points():
    """A painted crop holds a body in its middle; the points of a slice lie within a millimetre of its mask's edge."""
    rng = np.random.default_rng(2)
    slices = mscn_training.paint_slices(rng)
    steps = (np.arange(mscn.SLICE) + 0.5 - mscn.SLICE / 2) * mscn.SLICE_MM
    for distance, points in zip(slices.distances, slices.points, strict=True):
        column = np.abs(steps[:, None] - points[:, 0]).argmin(0)
        row = np.abs(-steps[:, None] - points[:, 1]).argmin(0)
        assert np.abs(distance[row, column]).max() < 1.6
    bodies = mscn_training.paint_bodies(rng)
    middle = tuple(n // 2 for n in mscn.CROP)
    assert (bodies.labels[(slice(None), *middle)] > 0).all() and (bodies.labels[:, 0, 0, 0] == 0).all()
