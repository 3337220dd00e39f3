"""Phantoms: key points lie on the painted bone, options are followed, and anatomy and scanner look as intended."""

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from VertebralFractureQuantLib.phantom import PhantomOptions, make_phantom, phantom_traits, volume  # noqa: E402
from VertebralFractureQuantLib.phantom.alignment import rotation  # noqa: E402
from VertebralFractureQuantLib.phantom.anatomy import draw_anatomy  # noqa: E402
from VertebralFractureQuantLib.phantom.body_surface import outline_distance  # noqa: E402
from VertebralFractureQuantLib.phantom.keypoints import endplates_of, exact_keypoints  # noqa: E402
from VertebralFractureQuantLib.phantom.metal import TITANIUM_HU, metal_artefact, sagittal_bands  # noqa: E402
from VertebralFractureQuantLib.phantom.morphometry import DISC_BACK, HEIGHT, SEEN_OUTSIDE_MM, SIZES  # noqa: E402
from VertebralFractureQuantLib.phantom.painting import Painter  # noqa: E402
from VertebralFractureQuantLib.phantom.posterior import arch_distance, draw_build, draw_posterior  # noqa: E402
from VertebralFractureQuantLib.phantom.scanner import acquire_picture, draw_protocol  # noqa: E402
from VertebralFractureQuantLib.spine.curve import SpineCurve  # noqa: E402
from VertebralFractureQuantLib.spine.genant import genant_ratio, heights  # noqa: E402
from VertebralFractureQuantLib.spine.levels import LEVELS, TALLEST_MM  # noqa: E402

SMALL = PhantomOptions(scoliosis_deg=20.0, field_of_view="spine", spacing_mm=(1.4, 3.0), noise_hu=10.0)
SEED = 15  # of a short field of view


@pytest.fixture(scope="module")
def small():
    return make_phantom(SEED, SMALL)


def an_anatomy(seed=3, **options):
    return draw_anatomy(np.random.default_rng(seed), PhantomOptions(pathology=0.0, **options))


def test_traits_agree_with_the_painted_phantom():
    ct, _ = make_phantom(12, PhantomOptions(spacing_mm=(1.6, 4.0), field_of_view="spine"))
    assert phantom_traits(12, PhantomOptions(spacing_mm=(1.6, 4.0)))["slice_mm"] == ct.spacing_mm[0] == 4.0
    clean = phantom_traits(3, PhantomOptions(pathology=0.0))
    assert clean["cement"] == [] and 0 < clean["spongiosa_hu"] < 900
    assert any(phantom_traits(seed)["cement"] for seed in range(60))


def test_the_same_seed_gives_the_same_phantom_and_other_seeds_give_others(small):
    first, truth = small
    again, _ = make_phantom(SEED, SMALL)
    other, _ = make_phantom(5, SMALL)
    assert np.array_equal(first.voxels, again.voxels)
    assert first.voxels.shape != other.voxels.shape or not np.array_equal(first.voxels, other.voxels)
    assert len(truth.levels) == len(truth.keypoints) >= 4


def test_smooth_noise_has_no_seam():
    painter = Painter(an_anatomy())
    for axis in range(3):
        points = torch.full((4001, 3), 40.0)
        points[:, axis] = torch.linspace(-100, 100, 4001)  # the field repeats after 64 mm, from 0 on
        assert painter.noise(points, 2.0).diff().abs().max() < 0.15


@pytest.mark.parametrize("seed", [12, 22])
def test_bones_do_not_touch_where_many_wedges_make_the_spine_lean(seed):
    points = exact_keypoints(an_anatomy(seed, fracture_rate=0.5))[1:23]  # C3 to L5
    up = points[:, :, 0] - points[:, :, 1]
    up /= np.linalg.norm(up, axis=-1, keepdims=True)
    discs = ((points[:-1, :, 1] - points[1:, :, 0]) * up[1:]).sum(-1)
    assert discs.min() > -0.3  # it was -1.0 and -1.5 mm when the lean was clipped instead of scaled


def test_no_metal_without_pathology():
    assert not any(phantom_traits(seed, PhantomOptions(pathology=0.0))["screws"] for seed in range(100))
    assert any(phantom_traits(seed)["screws"] for seed in range(100))


def test_limits_are_where_c2_begins_and_l5_ends_or_the_field_of_view(small):
    ct, truth = small
    heights_s = SpineCurve(truth.curve).at(np.array(truth.limits_mm))[0][:, 2]
    ends = ct.ijk_to_ras[2, 3] + np.array([len(ct.voxels) - 1, 0]) * ct.ijk_to_ras[2, 2]
    assert heights_s == pytest.approx(ends, abs=1.5)  # a tight crop contains neither C2 nor L5


def test_levels_of_the_truth_are_consecutive_and_cranial_first(small):
    _, truth = small
    first = LEVELS.index(truth.levels[0])
    assert truth.levels == LEVELS[first : first + len(truth.levels)]
    assert (np.diff(truth.keypoints.mean((1, 2))[:, 2]) < 0).all()


def test_superior_points_lie_above_inferior_and_anterior_before_posterior():
    keypoints = exact_keypoints(an_anatomy())
    frames_up = an_anatomy().curve.at(an_anatomy().arcs)[1]
    up = np.einsum("npd,nd->np", keypoints[:, :, 0] - keypoints[:, :, 1], frames_up[:, 2])
    ahead = np.einsum("ned,nd->ne", keypoints[:, 0] - keypoints[:, 2], frames_up[:, 1])
    assert (up > 0).all() and (ahead > 0).all()


def test_bone_begins_at_every_middle_point_of_an_endplate():
    """0.4 mm inside the body is bone, 0.4 mm outside is disc: the truth is on the painted surface."""
    anatomy = an_anatomy(seed=5, fracture_rate=0.0)
    painter = Painter(anatomy)
    keypoints = exact_keypoints(anatomy)[6:18]
    for end, outward in ((0, 1.0), (1, -1.0)):
        up = np.stack([b.frame[2] for b in anatomy.bodies[6:18]])
        middle = keypoints[:, 1, end]
        inside = painter.hounsfield(torch.as_tensor(middle - 0.4 * outward * up, dtype=torch.float32), 0.2)
        outside = painter.hounsfield(torch.as_tensor(middle + 0.4 * outward * up, dtype=torch.float32), 0.2)
        assert (inside > outside + 60).all()


def test_posterior_heights_and_discs_are_as_high_as_experts_marked_them():
    """Readers set the points on the ring: not in the endplate's hollow, nor on the corner that rounding removed."""
    walls, gaps = [], []
    for seed in range(20):
        anatomy = an_anatomy(seed, fracture_rate=0.0, scoliosis_deg=0.0)
        exact = exact_keypoints(anatomy)
        walls.append(heights(exact)[:, 2] + 2 * SEEN_OUTSIDE_MM)
        gaps.append(endplates_of(anatomy, exact).gaps[:-1, 2, 1] - 2 * SEEN_OUTSIDE_MM)
    known = slice(LEVELS.index("C4"), LEVELS.index("L4"))
    assert abs((np.mean(walls, 0)[: len(LEVELS)] - HEIGHT)[known].mean()) < 0.6
    assert abs((np.mean(gaps, 0)[: len(LEVELS)] - DISC_BACK)[known].mean()) < 0.6


def brightest_in_endplate(anatomy, end):
    """Return HU `(bodies,)` of the brightest place within 2 mm of the endplates' middles, and of bone at 7 mm."""
    painter = Painter(anatomy)
    bodies = slice(LEVELS.index("T4"), LEVELS.index("L5"))
    inward = -(1 - 2 * end) * np.stack([b.frame[2] for b in anatomy.bodies[bodies]])
    depths = np.linspace(0, 2, 9)[:, None, None]
    middle = exact_keypoints(anatomy)[bodies, 1, end]
    places = torch.as_tensor(np.concatenate([middle + depths * inward, middle[None] + 7 * inward]), dtype=torch.float32)
    painted = painter.hounsfield(places.reshape(-1, 3), 0.2).reshape(places.shape[:2])
    return painted[:-1].amax(0), painted[-1]


def test_endplates_above_a_disc_are_mostly_brighter_than_those_below_it():
    lower, upper = [], []
    for seed in range(6):
        anatomy = an_anatomy(seed, fracture_rate=0.0)
        for end, excess in ((0, upper), (1, lower)):
            plate, bone = brightest_in_endplate(anatomy, end)
            excess.append(float((plate - bone).median()))
    assert sum(upper) < 0.75 * sum(lower)


def test_endplates_stand_out_from_the_densest_bone_behind_them():
    anatomy = an_anatomy(seed=2, fracture_rate=0.0)
    dense = tuple(
        replace(b, spongiosa=400.0, cortex=200.0, texture=0.0, subchondral=(1.0, 0.0), growths=())
        for b in anatomy.bodies
    )
    for end, least in ((0, 40), (1, 150)):
        plate, bone = brightest_in_endplate(replace(anatomy, bodies=dense), end)
        assert (plate > bone + least).all()


def test_level_names_expect_the_sizes_that_phantoms_have():
    for level, (posterior, wedge, *_) in SIZES.items():
        assert TALLEST_MM[level] == pytest.approx(posterior * max(1.0, wedge), abs=0.05), level


def densest_across_the_wall(anatomy, side, share):
    """Return by how many HU `(bodies,)` the densest place across a wall exceeds the middle of the body.

    The wall is that of [A, M, P] = `side`, at `share` of the height below its upper point.
    """
    painter = Painter(anatomy)
    bodies = slice(LEVELS.index("T4"), LEVELS.index("L5"))
    points, frames = exact_keypoints(anatomy)[bodies], np.stack([b.frame for b in anatomy.bodies[bodies]])
    wall = points[:, side, 0] * (1 - share) + points[:, side, 1] * share
    steps = np.linspace(-4, 2, 25)[:, None, None] * (1 if side == 0 else -1)
    places = np.concatenate([wall + steps * frames[:, 1], points.mean((1, 2))[None]])
    painted = painter.hounsfield(torch.as_tensor(places.reshape(-1, 3), dtype=torch.float32), 0.5)
    painted = painted.reshape(places.shape[:2])
    return painted[:-1].amax(0) - painted[-1]


def test_walls_are_dense_beside_the_endplates_and_paler_between_above_all_the_posterior_wall():
    """In the references the wall's excess falls to a third at the back and to a half in front."""
    beside, between = {0: [], 2: []}, {0: [], 2: []}
    for seed in range(3):
        anatomy = an_anatomy(seed, fracture_rate=0.0)
        for side in (0, 2):
            beside[side].append(float(densest_across_the_wall(anatomy, side, 0.06).median()))
            between[side].append(float(densest_across_the_wall(anatomy, side, 0.5).median()))
    front, behind = (np.mean(between[side]) / np.mean(beside[side]) for side in (0, 2))
    assert behind < 0.6 and front < 0.9 and behind < front


def test_points_lie_in_the_sagittal_plane_of_the_curve_even_of_a_rotated_vertebra():
    anatomy = an_anatomy(scoliosis_deg=50.0)
    _, frames = anatomy.curve.at(anatomy.arcs)
    centers = np.stack([b.center for b in anatomy.bodies])
    lateral = np.einsum("npec,nc->npe", exact_keypoints(anatomy) - centers[:, None, None], frames[:, 0])
    assert max(abs(b.twist) for b in anatomy.bodies) > np.deg2rad(4)
    assert np.abs(lateral).max() < 1.5


def widest_bone(level):
    """Return how far (mm) bone extends to the side of a vertebra of `level`: the median of three patients."""
    reach = []
    for seed in range(3):
        body = next(b for b in an_anatomy(seed).bodies if b.level == level)
        rng = np.random.default_rng(seed)
        build = draw_build(rng, 1.0)
        r, a, z = torch.meshgrid(torch.arange(5.0, 60), torch.arange(-60.0, 20), torch.arange(-12.0, 13), indexing="ij")
        points = torch.stack([r, a, z], -1).reshape(-1, 3)
        bone = arch_distance(points, body, draw_posterior(rng, body, build), build) < 0
        reach.append(float(points[bone, 0].max()))
    return np.median(reach)


def test_ribs_processes_and_the_sacrum_depend_on_the_level():
    assert widest_bone("C5") < 34 < widest_bone("L3") < 55
    assert widest_bone("T6") == 59  # a rib extends beyond the grid
    assert widest_bone("S1") > widest_bone("S3") + 5


def test_from_t3_to_t10_lungs_are_beside_the_bodies_and_muscle_is_behind():
    def lung(level, r, a):
        found = []
        for seed in range(10):
            anatomy = an_anatomy(seed, scoliosis_deg=0.0)
            middle = anatomy.bodies[LEVELS.index(level)].center
            places = torch.tensor([[middle[0] + side * r, middle[1] + a, middle[2]] for side in (1, -1)])
            found += (Painter(anatomy).hounsfield(places.float()) < -400).tolist()
        return np.mean(found)

    for level in ("T3", "T6", "T10"):
        assert lung(level, 30.0, 8.0) > 0.7 > 0.1 > lung(level, 30.0, -22.0)
    assert lung("T3", 18.0, 22.0) > 0.5 < lung("T10", 18.0, 22.0)  # they come close to each other in front of the body
    assert lung("C6", 30.0, 8.0) == lung("L2", 30.0, 8.0) == 0


def test_only_the_couch_and_the_arms_are_outside_the_skin():
    for seed in range(12):
        anatomy = an_anatomy(seed)
        painter, soft = Painter(anatomy), anatomy.soft
        for body in anatomy.bodies[6:24:3]:
            ahead = torch.linspace(2 * soft["trunk_deep"] + 8, 2 * soft["trunk_deep"] + 60, 20)
            points = torch.as_tensor(body.center, dtype=torch.float32).repeat(20, 1)
            points[:, 1] += ahead - soft["behind_spine"]
            assert painter.background(points).max() < -900, (seed, body.level)


def a_slice(screws):
    """Return a slice `(200, 300)` of 1 mm pixels: an ellipse of soft tissue, with or without two screws 28 mm apart.

    Also return the pixels' x and y.
    """
    y, x = torch.meshgrid(torch.arange(200) - 100.0, torch.arange(300) - 150.0, indexing="ij")
    hu = torch.where((x / 140) ** 2 + (y / 95) ** 2 < 1, 40.0, -1000.0)
    held = ((x.abs() - 14).abs() < 3) & ((y - 30).abs() < 22)
    return torch.where(held & screws, TITANIUM_HU, hu), x, y


def test_metal_darkens_the_tissue_beyond_the_tips_of_screws_and_stays_metal():
    hu, x, y = a_slice(True)
    added = metal_artefact(hu, 1.0, torch.Generator().manual_seed(0))
    beyond = ((x.abs() - 14).abs() < 2) & (y < 4) & (y > -15)
    assert added[beyond].mean() < -50
    assert (hu + added)[hu == TITANIUM_HU].min() > 3071
    far = (x.abs() > 100) & (y.abs() < 40)
    assert added[far].mean().abs() < 20
    assert not metal_artefact(a_slice(False)[0], 1.0, torch.Generator()).any()


def test_only_slices_with_screws_have_metal_artefacts(monkeypatch):
    clean, added = [], []

    def observed(hu, *more):
        artefact = metal_artefact(hu, *more)
        clean.append(hu)
        added.append(artefact)
        return artefact

    monkeypatch.setattr(volume, "metal_artefact", observed)
    options = PhantomOptions(spacing_mm=(1.6, 4.0), field_of_view="spine", noise_hu=0.0)
    assert phantom_traits(236, options)["screws"]
    ct, _ = make_phantom(236, options)
    metal = np.array([float(hu.max()) >= 3071 for hu in clean])
    assert 10 < metal.sum() < len(metal) == len(ct.voxels)
    changed = np.array([float(artefact.abs().max()) for artefact in added])
    assert changed[metal].min() > 30 and changed[metal].mean() > 150
    assert not changed[~np.convolve(metal, np.ones(3), "same").astype(bool)].any()
    tissue = [(hu.abs() < 200).numpy() for hu in clean]
    off = [np.abs(v - hu.numpy())[t].mean() for v, hu, t in zip(ct.voxels, clean, tissue, strict=True)]
    assert np.mean(np.array(off)[metal]) > 2 * np.mean(np.array(off)[~metal])  # artefacts reach the voxels


def test_screws_cause_bands_only_at_their_heights():
    s, a = torch.meshgrid(-torch.arange(200.0), torch.arange(128.0), indexing="ij")
    points = torch.stack([0 * s, a, s], -1)
    rng, generator = np.random.default_rng(1), torch.Generator().manual_seed(1)
    protocol = draw_protocol(rng, 1.0, 0.0)
    bands = sagittal_bands(points, np.array([[64.0, -60.0], [70.0, -120.0]]), protocol, rng, generator).abs().mean(1)
    assert bands[[60, 120]].min() > 20
    assert bands[[20, 90, 170]].max() < 1


def test_bodies_of_the_chest_narrow_towards_the_front_and_lumbar_ones_do_not():
    def narrowing(level):
        body = next(b for b in an_anatomy().bodies if b.level == level)
        r = torch.arange(0.0, 40.0, 0.1)
        front, back = (r[outline_distance(body, r, r * 0 + a * body.depth, 1.0) < 0].max() for a in (0.3, -0.3))
        return float(front / back)

    assert narrowing("T6") < 0.85 < narrowing("L3")


def test_the_requested_cobb_angle_is_met(small):
    assert small[1].cobb_deg == pytest.approx(SMALL.scoliosis_deg, abs=8)
    for requested in (0.0, 30.0, 60.0):
        anatomy = draw_anatomy(np.random.default_rng(4), PhantomOptions(scoliosis_deg=requested))
        assert volume._cobb(anatomy) == pytest.approx(requested, abs=8)


def test_a_fracture_rate_of_one_fractures_all_of_t4_to_l5_and_zero_none():
    def ratios(rate):
        return np.array([genant_ratio(h) for h in heights(exact_keypoints(an_anatomy(fracture_rate=rate))[9:23])])

    assert all(b.fracture is None for b in an_anatomy(fracture_rate=0.0).bodies)
    assert all(b.fracture for b in an_anatomy(fracture_rate=1.0).bodies[9:23])
    assert ratios(1.0).mean() < ratios(0.0).mean() - 0.1


def test_rotation_is_a_right_handed_rotation():
    turn = rotation(0.2, -0.3, 0.4)
    assert np.allclose(turn @ turn.T, np.eye(3)) and np.linalg.det(turn) == pytest.approx(1)


def test_truth_as_json_is_plain_and_keeps_a_thousandth_of_a_millimetre(small):
    _, truth = small
    data = json.loads(json.dumps(truth.to_json()))
    assert data["schema"] == "vfq-truth/1" and data["space"] == "RAS_mm"
    assert np.allclose([v["keypoints"] for v in data["vertebrae"]], truth.keypoints, atol=1e-3)
    SpineCurve(np.array(data["curve"]))


def test_thick_slices_blur_along_the_patient_only():
    rng = np.random.default_rng(0)
    protocol = draw_protocol(rng, slice_mm=5.0, noise_hu=0.0)
    protocol = type(protocol)(**{**vars(protocol), "streaks_hu": 0.0, "sharpen": 0.0, "blur_mm": 0.25, "gain": 1.0})
    rows, columns = torch.meshgrid(torch.arange(80.0), torch.arange(64.0), indexing="ij")
    points = torch.stack([torch.zeros_like(rows), columns, -rows], -1)
    generator = torch.Generator().manual_seed(0)
    for axis, blurred in ((0, True), (1, False)):
        stripes = ((rows if axis == 0 else columns) % 4 < 2).float() * 1000
        seen = acquire_picture(stripes, points, protocol, generator)[20:60, 16:48]
        assert (float(seen.std()) < 250) == blurred
