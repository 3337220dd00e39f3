"""The whole analysis of a phantom and of real CT with the shipped weights, and its refusals."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from VertebralFractureQuantLib import analysis  # noqa: E402
from VertebralFractureQuantLib.analysis import pipeline  # noqa: E402
from VertebralFractureQuantLib.analysis.curve_finding import BEYOND_CLICKS_MM, EXTENSION_MM, LENGTHENED_MM  # noqa: E402
from VertebralFractureQuantLib.analysis.curve_repair import PresentCurve  # noqa: E402
from VertebralFractureQuantLib.analysis.detection import whole_along  # noqa: E402
from VertebralFractureQuantLib.errors import VFQError  # noqa: E402
from VertebralFractureQuantLib.evaluation.matching import match, point_errors  # noqa: E402
from VertebralFractureQuantLib.imaging.ct import CTVolume, inside  # noqa: E402
from VertebralFractureQuantLib.imaging.files import read_ct  # noqa: E402
from VertebralFractureQuantLib.networks import weights  # noqa: E402
from VertebralFractureQuantLib.networks.detector import Detections  # noqa: E402
from VertebralFractureQuantLib.phantom import PhantomOptions, make_phantom  # noqa: E402
from VertebralFractureQuantLib.spine.curve import SpineCurve, fit_curve  # noqa: E402
from VertebralFractureQuantLib.spine.genant import measure, measure_column  # noqa: E402
from VertebralFractureQuantLib.spine.record import Vertebra, check_belongs  # noqa: E402
from VertebralFractureQuantLib.spine.straightening import Straightening  # noqa: E402

REFERENCES = {
    "LIDC-IDRI-0001": "LIDC-IDRI-0001_ct_full",
    "CMB-CRC-MSB-01068": "CMB-CRC-MSB-01068_ct_spine",
    "LungFCP-01-0001": "LungFCP-01-0001_ct_spine",
    "TS_example_ct": "TS_example_ct",
}


@pytest.fixture(scope="module")
def models():
    return analysis.load_models("cpu")


@pytest.fixture(scope="module")
def phantom():
    options = PhantomOptions(scoliosis_deg=30.0, field_of_view="spine", spacing_mm=(1.0, 2.0), noise_hu=15.0)
    return make_phantom(21, options)


def test_every_vertebra_of_an_unseen_phantom_is_found_and_measured(models, phantom):
    ct, truth = phantom
    steps = []
    result = analysis.analyze(ct, models, lambda step, share: steps.append(share))
    found = np.stack([v.keypoints for v in result.vertebrae])
    matching = match(found, truth.keypoints)
    cut = np.array([center for _, center in truth.partial])  # found or not, these count neither way
    false = [i for i in matching.false if np.linalg.norm(cut - found[i].mean((0, 1)), axis=1).min() > 15]
    assert not matching.missed and not false
    assert point_errors(found, truth.keypoints, matching).mean() < 2.0
    assert steps == sorted(steps) and steps[-1] == 1.0
    assert {"localize", "straighten", "detect", "measure", "total"} <= set(result.timing_s)


def test_of_a_whole_column_neither_c2_nor_the_sacrum_is_reported(models):
    ct, truth = make_phantom(5, PhantomOptions(field_of_view="whole", spacing_mm=(2.0, 4.0), noise_hu=10.0))
    assert {"C2", "S1"} <= {level for level, _ in truth.partial}
    assert [v.level for v in analysis.analyze(ct, models).vertebrae] == list(truth.levels)


def test_a_vertebra_that_surely_is_not_measurable_is_left_out_and_is_no_neighbour():
    tall = np.array([20.0, 20.0, 20.0, 40.0])
    points = np.array(
        [
            [[[a, 0.0, s + d * h / 2] for d in (1, -1)] for a in (15, 0, -15)]
            for h, s in zip(tall, (90, 60, 30, 0), strict=True)
        ]
    )
    chances = [{"C1": 0.02, "C2": 0.9}, {"C3": 1.0}, {"C4": 1.0}, {"S1": 0.89, "L5": 0.11}]
    column = [
        Vertebra(k, m, level_probabilities=c) for k, m, c in zip(points, measure_column(points), chances, strict=True)
    ]
    kept = analysis.naming.measurable(tuple(column))
    assert [v.level_probabilities for v in kept] == chances[1:]
    assert (
        column[1].measurement.crush_ratio is not None
        and kept[0].measurement.crush_ratio != column[1].measurement.crush_ratio
    )
    assert analysis.naming.measurable(()) == ()


def test_vertebrae_beyond_a_curve_that_ends_too_early_are_still_found(models, phantom):
    ct, _ = phantom
    whole = analysis.analyze(ct, models)

    def half_blind(x):
        heat = np.array(models.localizer(x)[0])
        heat[:, : heat.shape[1] // 2] = -50.0  # no spine in the caudal slices
        return (heat,)

    rescued = analysis.analyze(ct, replace(models, localizer=half_blind))
    assert len(rescued.vertebrae) == len(whole.vertebrae)
    np.testing.assert_allclose(
        [v.keypoints.mean((0, 1)) for v in rescued.vertebrae],
        [v.keypoints.mean((0, 1)) for v in whole.vertebrae],
        atol=3,
    )


@pytest.mark.parametrize("hips", [False, True])
def test_the_candidate_with_the_most_vertebrae_is_chosen(models, phantom, hips):
    """The localizer misses the middle of the spine, or reports a spine where there is none: below, far to the side."""
    ct, _ = phantom
    whole = analysis.analyze(ct, models)

    def misled(x):
        heat = np.array(models.localizer(x)[0])
        low, high = (0, 20) if hips else (10, 22)
        heat[:, low:high] = -50.0
        heat[:, : 8 * hips, 3, 3] = 9.0
        return (heat,)

    assert len(analysis.curve_finding.coarse_curves(ct, replace(models, localizer=misled))) == 3
    found = analysis.analyze(ct, replace(models, localizer=misled))
    matching = match(*(np.stack([v.keypoints for v in a.vertebrae]) for a in (found, whole)))
    assert not matching.missed and not matching.false


def test_a_curve_is_lengthened_only_if_a_vertebra_lies_at_its_end_and_the_scan_continues(phantom):
    ct, truth = phantom
    middles, curve = truth.keypoints.mean((1, 2)), SpineCurve(truth.curve)
    arcs = [np.linalg.norm(truth.curve - m, axis=1).argmin() for m in middles]
    column = tuple(Vertebra(k, m) for k, m in zip(truth.keypoints, measure_column(truth.keypoints), strict=True))
    short = SpineCurve(truth.curve[arcs[0] - 40 : arcs[3] + 15])
    longer, ends = analysis.curve_finding.longer_curve(ct, short, column[:4])
    assert longer.length - short.length == pytest.approx(LENGTHENED_MM - EXTENSION_MM, abs=2)
    assert np.linalg.norm(longer.points[-1] - short.points[-1]) == pytest.approx(LENGTHENED_MM, abs=2)
    np.testing.assert_allclose(ends[1], column[3].keypoints[:, 1].mean(0))
    assert analysis.curve_finding.longer_curve(ct, curve, column[1:4]) is None  # the curve continues
    assert analysis.curve_finding.longer_curve(ct, short, ()) is None
    below = int((ends[1, 2] - 8 - ct.ijk_to_ras[2, 3]) / ct.ijk_to_ras[2, 2])
    matrix = ct.ijk_to_ras.copy()
    matrix[:3, 3] += below * matrix[:3, 2]
    cut = CTVolume(ct.voxels[below:], matrix, "cut")
    assert analysis.curve_finding.longer_curve(cut, short, column[:4]) is None  # the scan ends there
    tall = np.mean(column[3].measurement.heights_mm)
    for room, lengthened in ((1.1, True), (1.4, False)):  # room for a part of the next vertebra; for the whole
        reaching = SpineCurve(truth.curve[arcs[0] - 50 : arcs[3] + round((0.5 + room) * tall)])
        assert (analysis.curve_finding.longer_curve(ct, reaching, column[:4]) is not None) == lengthened


def test_a_record_keeps_the_position_of_its_ct(models, phantom):
    ct, _ = phantom
    result = analysis.analyze(ct, models)
    np.testing.assert_array_equal(result.ijk_to_ras, ct.ijk_to_ras)
    check_belongs(result, ct.voxels.shape, ct.ijk_to_ras)


def test_a_few_clicks_on_the_spine_in_any_order_find_its_vertebrae(models, phantom):
    ct, truth = phantom
    clicks = truth.keypoints.mean((1, 2))[::2][::-1]
    steps = []
    result = analysis.analyze_along(
        ct, models, clicks[[1, 0, *range(2, len(clicks))]], lambda *told: steps.append(told)
    )
    height = truth.keypoints.mean((1, 2))[:, 2]
    spanned = np.flatnonzero((height >= clicks[:, 2].min()) & (height <= clicks[:, 2].max()))
    found = np.stack([v.keypoints for v in result.vertebrae])
    matching = match(found, truth.keypoints)
    assert result.status == "ok" and len(set(matching.missed) & set(spanned)) <= 1
    assert point_errors(found, truth.keypoints, matching).mean() < 2.5
    assert [share for _, share in steps] == sorted(share for _, share in steps) and steps[-1][1] == 1.0
    assert {"refine", "straighten", "detect", "measure", "total"} <= set(result.timing_s)
    np.testing.assert_array_equal(result.ijk_to_ras, ct.ijk_to_ras)


def test_along_a_readers_curve_no_vertebra_is_a_result_and_no_failure(models):
    empty = CTVolume(np.full((60, 60, 60), -1000, np.int16), np.diag([2.0, 2.0, 2.5, 1.0]), "air")
    result = analysis.analyze_along(empty, models, np.array([[60.0, 60, s] for s in (20, 70, 130)]))
    assert (result.status, result.vertebrae) == ("ok", ())
    assert result.limits_mm == pytest.approx((52.0, 162.0), abs=1)


@pytest.mark.parametrize("beyond", [BEYOND_CLICKS_MM, 22.0, 30.0])
def test_a_curve_from_clicks_reaches_the_next_vertebrae_and_none_that_its_end_cuts_is_graded(
    models, phantom, monkeypatch, beyond
):
    monkeypatch.setattr(analysis.curve_finding, "BEYOND_CLICKS_MM", beyond)
    ct, truth = phantom
    result = analysis.analyze_along(ct, models, truth.keypoints.mean((1, 2))[1:-1])
    found = np.stack([v.keypoints for v in result.vertebrae])
    matching = match(found, truth.keypoints)
    if beyond == BEYOND_CLICKS_MM:
        assert not matching.missed and not matching.false  # the first and the last one too
    curve = SpineCurve(result.curve)
    rows = -Straightening(curve).to_straight(found)[..., 2]
    assert rows.min() >= 2.0 and rows.max() <= curve.length - 2.0
    errors = [
        abs(result.vertebrae[i].measurement.genant_ratio - measure(truth.keypoints[j]).genant_ratio)
        for i, j in matching.pairs
    ]
    assert max(errors) < 0.15


def test_detections_that_reach_to_an_end_of_the_curve_are_left_out():
    curve = SpineCurve(np.column_stack([np.zeros(101), np.zeros(101), -np.arange(101.0)]))
    box = np.array([[[a, s] for s in (-10.0, 10.0)] for a in (15.0, 0.0, -15.0)])
    found = Detections(box + np.array([[0, 11.0], [0, 50.0], [0, 89.0]])[:, None, None], np.ones(3), np.ones(3))
    kept = whole_along(curve, found)
    assert kept.keypoints[..., 1].mean((1, 2)).tolist() == [50.0] and len(kept.scores) == len(kept.spreads) == 1


def test_one_click_repairs_a_curve_that_was_pulled_aside(models, phantom):
    """It would be measured up to 15 mm beside the bodies' middles."""
    ct, truth = phantom
    right = analysis.analyze(ct, models)
    middles = truth.keypoints.mean((1, 2))
    at = len(middles) // 2
    near = np.linalg.norm(right.curve - middles[at], axis=1)
    pulled = fit_curve(right.curve - np.outer(15 * np.exp(-((near / 35) ** 2)), [1.0, 0.0, 0.0]))
    present = PresentCurve(pulled, right.limits_mm)
    assert pulled.distance_to(middles).max() > 12
    result = analysis.analyze_along(ct, models, middles[[at]], present=present)
    repaired = SpineCurve(result.curve)
    assert repaired.distance_to(middles[[at]])[0] < 1.0 and repaired.distance_to(middles).max() < 4.0
    assert result.limits_mm == pytest.approx(right.limits_mm, abs=15)
    found = np.stack([v.keypoints for v in result.vertebrae])
    matching = match(found, truth.keypoints)
    assert not matching.missed and point_errors(found, truth.keypoints, matching).mean() < 2.0
    assert [v.level for v in result.vertebrae] == [v.level for v in right.vertebrae]


def test_a_repaired_curve_reaches_beyond_a_click_at_its_end(models, phantom):
    ct, truth = phantom
    middles = truth.keypoints.mean((1, 2))
    curve = fit_curve(middles[:-2])
    result = analysis.analyze_along(ct, models, middles[[-1]], present=PresentCurve(curve, (0.0, curve.length)))
    end = SpineCurve(result.curve).points[-1]
    assert np.linalg.norm(end - middles[-1]) == pytest.approx(BEYOND_CLICKS_MM, abs=1.5)
    assert result.limits_mm[1] == pytest.approx(len(result.curve) - 1 - BEYOND_CLICKS_MM, abs=1.5)


def test_a_drawn_curve_passes_its_clicks_within_a_millimetre_and_is_smooth():
    s = np.arange(0, 400, 45.0)
    clicks = np.column_stack([25 * np.sin(s / 90), 18 * np.cos(s / 70), -s])
    curve = analysis.curve_finding.drawn_curve(np.random.default_rng(0).permutation(clicks))
    assert curve.distance_to(clicks).max() < 1.0
    assert curve.points[0] == pytest.approx(clicks[0], abs=1e-6)
    assert np.linalg.norm(curve.curvatures, axis=1).max() < 1 / 25


@pytest.mark.parametrize(
    "points",
    [
        np.empty((0, 3)),
        [[0, 0, 0], [0, 0, -100]],
        [[0, 0, 0], [0, 0, -1], [0, 0, -100], [0, 0, -100.5]],  # two places, clicked twice
        [[0, 0, 0], [0, 0, -8], [0, 0, -16]],
        [[0, 0, 0], [15, 0, -1], [0, 0, -2]],  # to and fro adds no length
        [[-30, 0, 0], [0, 0, 0], [30, 0, 0]],  # nor does width
    ],
)
def test_too_few_or_too_close_clicks_are_a_coded_refusal(points):
    with pytest.raises(VFQError, match="too few for a curve") as caught:
        analysis.curve_finding.drawn_curve(np.array(points, float))
    assert caught.value.code == "too_few_points"


def test_clicks_beside_one_another_are_refused():
    folded = np.array([[0, 0, 0], [0, 25, -1], [0, 0, -60], [0, 0, -120]], float)
    with pytest.raises(VFQError) as caught:
        analysis.curve_finding.drawn_curve(folded)
    assert caught.value.code == "not_along_spine"
    bent = np.array([[40 * np.sin(s / 60), 0, -s] for s in range(0, 300, 30)])  # 67 degrees of scoliosis
    assert analysis.curve_finding.drawn_curve(bent).length > 270


def test_a_stroke_of_many_close_points_is_a_curve():
    assert analysis.curve_finding.drawn_curve(np.column_stack([np.zeros((90, 2)), -1.0 * np.arange(90)])).length > 80


def test_a_click_on_a_vertebra_proposes_its_points(models, phantom):
    ct, _ = phantom
    result = analysis.analyze(ct, models)
    curve = SpineCurve(result.curve)
    wanted = result.vertebrae[len(result.vertebrae) // 2]
    _, anterior, minus_arc = Straightening(curve).to_straight(wanted.keypoints.mean((0, 1)))
    slab = analysis.detection.straightened_slab(ct, curve)
    proposed = analysis.detection.propose_vertebra(ct, curve, models, anterior, -minus_arc, slab)
    assert np.linalg.norm(proposed.keypoints - wanted.keypoints, axis=-1).mean() < 1.0
    assert (proposed.origin, proposed.level, proposed.pinned, proposed.machine_keypoints) == (
        "model",
        None,
        False,
        None,
    )
    assert proposed.measurement == measure_column(proposed.keypoints[None], [proposed.spread])[0]
    unaided = analysis.detection.propose_vertebra(ct, curve, models, anterior, -minus_arc)
    np.testing.assert_array_equal(unaided.keypoints, proposed.keypoints)
    assert analysis.detection.propose_vertebra(ct, curve, models, 0.0, curve.length + 5, slab) is None


def turned(ct, axes, flips):
    """The same patient with the voxel axes permuted and flipped."""
    voxels = ct.voxels.transpose(axes)
    order = [2 - a for a in axes[::-1]]
    matrix = ct.ijk_to_ras.copy()
    matrix[:3, :3] = ct.ijk_to_ras[:3, :3][:, order]
    for axis in flips:  # of k, j, i
        voxels = np.flip(voxels, axis)
        column = matrix[:3, 2 - axis].copy()
        matrix[:3, 3] += column * (voxels.shape[axis] - 1)
        matrix[:3, 2 - axis] = -column
    return CTVolume(np.ascontiguousarray(voxels), matrix, ct.name)


@pytest.mark.parametrize("axes, flips", [((0, 1, 2), (0,)), ((0, 1, 2), (0, 1, 2)), ((2, 0, 1), (1,))])
def test_feet_first_prone_and_sagittal_acquisitions_give_the_same_vertebrae(models, phantom, axes, flips):
    ct, _ = phantom
    straight = analysis.analyze(ct, models)
    other = analysis.analyze(turned(ct, axes, flips), models)
    assert len(other.vertebrae) == len(straight.vertebrae)
    for a, b in zip(other.vertebrae, straight.vertebrae, strict=True):
        assert np.linalg.norm(a.keypoints - b.keypoints, axis=-1).max() < 0.01


def test_a_volume_without_spine_is_refused(models):
    rng = np.random.default_rng(0)
    voxels = (rng.normal(0, 30, (60, 80, 80)) - 50).astype(np.int16)
    with pytest.raises(VFQError) as caught:
        analysis.analyze(CTVolume(voxels, np.diag([2.0, 2.0, 2.5, 1.0]), "soup"), models)
    assert caught.value.code in ("no_spine_found", "no_vertebra_found")


def test_a_requested_device_that_is_absent_is_a_coded_failure():
    if torch.backends.mps.is_available():
        pytest.skip("this computer has mps")
    with pytest.raises(VFQError) as caught:
        analysis.models.choose_device("mps")
    assert caught.value.code == "no_device"


def test_without_torch_the_device_is_the_cpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert analysis.models.choose_device("auto") == analysis.models.choose_device("cpu") == "cpu"
    with pytest.raises(VFQError) as caught:
        analysis.models.choose_device("cuda")
    assert caught.value.code == "no_device"


def test_a_curve_that_the_refiner_leads_beside_the_spine_is_brought_back(models, phantom, monkeypatch):
    """The refiner is made to leave the bodies by 14 mm over five vertebrae, as a bright vessel once made it."""
    ct, truth = phantom
    refined, calls = pipeline.refined_spine, []

    def led_aside(*arguments):
        spine = refined(*arguments)
        calls.append(spine)
        if len(calls) > 1:
            return spine
        arcs = np.arange(len(spine.curve.points)) * spine.curve.step
        bulge = 14 * np.exp(-(((arcs - spine.curve.length / 2) / 60) ** 4))
        return replace(spine, curve=fit_curve(spine.curve.points - bulge[:, None] * spine.curve.frames[:, 0]))

    monkeypatch.setattr(pipeline, "refined_spine", led_aside)
    result = analysis.analyze(ct, models)
    assert len(calls) > 1
    inner = truth.keypoints.mean((1, 2))[1:-1]
    assert fit_curve(result.curve).distance_to(inner).max() < 6
    matching = match(np.stack([v.keypoints for v in result.vertebrae]), truth.keypoints)
    assert len(matching.pairs) == len(truth.keypoints)


@pytest.fixture
def gpu(monkeypatch):
    """A fake CUDA device; the test sets its properties and the architectures that torch was built for."""

    def put(capability=(8, 6), built_for=("sm_80", "sm_90", "compute_90"), free=40e9):
        answers = {
            "is_available": True,
            "get_device_capability": capability,
            "get_device_name": "Quadro K2000",
            "get_arch_list": list(built_for),
            "mem_get_info": (int(free), int(80e9)),
        }
        for name, answer in answers.items():
            monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return put


def test_a_gpu_that_torch_was_built_for_is_chosen(gpu):
    gpu()
    assert analysis.models.choose_device("auto") == analysis.models.choose_device("cuda") == "cuda"


def test_a_gpu_that_torch_was_not_built_for_is_avoided_and_refused_with_the_reason(gpu):
    gpu(capability=(3, 0))
    assert analysis.models.choose_device("auto") == "cpu"
    with pytest.raises(VFQError) as caught:
        analysis.models.choose_device("cuda")
    assert caught.value.code == "no_device"
    assert "Quadro K2000" in caught.value.message and "3.0" in caught.value.message and "sm_80" in caught.value.message
    assert "Install a torch that was built for this GPU" in caught.value.message


def test_a_gpu_that_does_not_start_is_avoided(gpu, monkeypatch):
    def broken(*_):
        raise RuntimeError("CUDA driver version is insufficient\nat somewhere")

    gpu()
    monkeypatch.setattr(torch.cuda, "get_device_capability", broken)
    assert analysis.models.choose_device("auto") == "cpu"
    with pytest.raises(VFQError, match="insufficient") as caught:
        analysis.models.choose_device("cuda")
    assert caught.value.code == "no_device"


def test_a_gpu_with_too_little_free_memory_leaves_the_analysis_to_the_cpu_and_says_so(gpu):
    gpu(free=1e9)
    models = analysis.load_models("cuda")
    assert models.device == "cpu" and {p.device for p in (models.localizer, models.refiner, models.detector)} == {"cpu"}
    (note,) = models.notes
    assert "1.0 GB" in note and "CPU was used instead" in note


def test_a_gpu_whose_memory_runs_out_while_loading_leaves_the_analysis_to_the_cpu(gpu, monkeypatch):
    load = weights.load

    def full(role, device="cpu", path=None):
        if device == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return load(role, device, path)

    gpu()
    monkeypatch.setattr(weights, "load", full)
    models = analysis.load_models("auto")
    assert models.device == "cpu" and "ran out of memory" in models.notes[0]


def test_on_the_cpu_there_are_no_notes(models):
    assert models.notes == ()


def test_without_any_engine_the_failure_says_what_to_install(monkeypatch):
    for engine in ("torch", "openvino"):
        monkeypatch.setitem(sys.modules, engine, None)
    monkeypatch.delitem(sys.modules, "VertebralFractureQuantLib.networks.architectures", raising=False)
    with pytest.raises(VFQError, match="pip install openvino") as caught:
        analysis.load_models("cpu")
    assert caught.value.code == "missing_dependency"


def test_without_shapely_the_failure_comes_before_the_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "shapely", None)
    with pytest.raises(VFQError, match="pip install shapely") as caught:
        analysis.load_models("cpu")
    assert caught.value.code == "missing_dependency"


def test_stray_runs_of_slices_do_not_stretch_the_limits():
    flags = np.zeros(120, bool)
    flags[30:60] = flags[63:100] = True  # one spine with a gap
    flags[5:7] = True  # and a stray speck
    assert analysis.curve_finding.spine_slices(flags) == (30, 100)
    assert analysis.curve_finding.spine_slices(np.zeros(9, bool)) == (0, 0)


def test_slices_far_apart_may_be_spine_each_alone_or_all_together():
    flags = np.zeros(120, bool)
    flags[40:60] = flags[66:90] = True
    assert analysis.curve_finding.spine_candidates(flags, 10) == [(40, 90)]
    flags[8:26] = True  # hips, say
    assert analysis.curve_finding.spine_candidates(flags, 10) == [(40, 90), (8, 26), (8, 90)]
    flags[18:26] = False
    assert analysis.curve_finding.spine_candidates(flags, 10) == [(40, 90), (8, 90)]  # too short beside the other
    assert analysis.curve_finding.spine_candidates(np.zeros(9, bool), 10) == []


def test_vertebrae_count_only_in_columns():
    def vertebrae(*heights):
        points = np.array([[[[a, 10.0, s + d] for d in (10, -10)] for a in (15, 0, -15)] for s in heights])
        return tuple(Vertebra(k, m) for k, m in zip(points, measure_column(points), strict=True))

    assert analysis.pipeline.in_columns(()) == analysis.pipeline.in_columns(vertebrae(0)) == 0
    assert analysis.pipeline.in_columns(vertebrae(0, -30)) == 2
    assert analysis.pipeline.in_columns(vertebrae(0, -30, -60, -120, -260)) == 4  # one is missing, one is no vertebra
    assert analysis.pipeline.in_columns(vertebrae(0, -30, -60, -260, -290)) == 5


def test_the_range_is_widened_only_while_slices_may_contain_spine():
    probability = np.array([0.0, 0.2, 0.01, 0.1, 0.4, 0.9, 0.9, 0.3, 0.04, 0.3])
    assert analysis.curve_finding.followed(probability, 5, 7) == (3, 8)


def test_an_extended_curve_continues_straight():
    curve = fit_curve(np.column_stack([np.zeros(50), np.zeros(50), -np.arange(50.0)]))
    longer = analysis.curve_finding.extended(curve, 20.0)
    assert longer.points[0] == pytest.approx([0, 0, 20]) and longer.length == pytest.approx(curve.length + 40)


def test_points_on_the_outer_half_voxel_are_inside_and_beyond_it_are_not():
    ct = CTVolume(np.zeros((4, 5, 6), np.int16), np.diag([2.0, 2.0, 3.0, 1.0]), "box")
    points = np.array([[-0.9, 0, 0], [-1.1, 0, 0], [10.9, 8.9, 10.4], [0, 0, 10.6]])
    assert inside(ct, points).tolist() == [True, False, True, False]
    assert inside(ct, points, 0.4).tolist() == [True, True, True, True]
    assert inside(ct, points - [0.5, 0, 0], 0.4).tolist() == [True, False, True, True]


@pytest.mark.realct
@pytest.mark.parametrize("case", REFERENCES)
def test_real_ct_agrees_with_the_reference(models, data_dir, case):
    reference = json.loads((data_dir / "reference" / f"{case}.json").read_text())
    result = analysis.analyze(read_ct(data_dir / "ct" / f"{REFERENCES[case]}.nii.gz"), models)
    truth = np.array([v["keypoints"] for v in reference["vertebrae"]])
    partial = np.array([p["center"] for p in reference["partial"]])
    found = np.stack([v.keypoints for v in result.vertebrae])
    matching = match(found, truth)
    false = [i for i in matching.false if np.linalg.norm(partial - found[i].mean((0, 1)), axis=1).min() > 15]
    assert not matching.missed and not false
    assert point_errors(found, truth, matching).mean() < 2.5


def test_points_in_air_that_a_scan_was_padded_with_are_not_in_tissue(phantom):
    ct, truth = phantom
    whole = truth.keypoints[2]
    height = whole[..., 2].mean()
    padded = ct.voxels.copy()
    padded[ct.ijk_to_ras[2, 3] + np.arange(len(padded)) * ct.ijk_to_ras[2, 2] < height] = -1024
    found = analysis.detection.in_tissue(CTVolume(padded, ct.ijk_to_ras, "padded"), truth.keypoints[1:4])
    assert found[0].all() and not found[2].any()
    assert found[1].tolist() == [[True, False]] * 3
    assert analysis.detection.in_tissue(ct, truth.keypoints).all()


def test_a_scan_padded_with_air_is_analysed_as_if_it_were_not(models, phantom):
    ct, _ = phantom
    cut = replace(ct, voxels=ct.voxels[9:])  # in mid-vertebra
    padded = np.pad(cut.voxels, ((6, 2), (0, 5), (3, 0)), constant_values=-1024)
    matrix = ct.ijk_to_ras.copy()
    matrix[:3, 3] -= matrix[:3, :3] @ (3, 0, 6)
    plain, again = (analysis.analyze(c, models) for c in (cut, CTVolume(padded, matrix, "padded")))
    assert again.shape == padded.shape and again.ijk_to_ras is matrix
    assert [v.level for v in again.vertebrae] == [v.level for v in plain.vertebrae]
    for a, b in zip(again.vertebrae, plain.vertebrae, strict=True):
        np.testing.assert_allclose(a.keypoints, b.keypoints, atol=1e-6)


def test_the_place_one_level_beyond_is_right_even_if_a_neighbour_was_not_found():
    arcs = np.array([0.0, 60.0, 95.0])  # one is missing between the first two
    assert analysis.naming._with_next(arcs, np.array([2, 1])).tolist() == [-30.0, 0.0, 60.0, 95.0, 130.0]


@pytest.mark.realct
@pytest.mark.parametrize(("case", "left_out"), [("LungFCP-01-0001", 1), ("CMB-CRC-MSB-01068", 1)])
def test_a_real_column_keeps_its_names_if_the_vertebra_next_to_its_end_is_lost(
    models, data_dir, monkeypatch, case, left_out
):
    ct = read_ct(data_dir / "ct" / f"{REFERENCES[case]}.nii.gz")
    whole = [v.level for v in analysis.analyze(ct, models).vertebrae]
    named = analysis.naming.with_levels
    monkeypatch.setattr(
        analysis.pipeline,
        "with_levels",
        lambda ct, found, spine: named(ct, found[:left_out] + found[left_out + 1 :], spine),
    )
    given = [v.level for v in analysis.analyze(ct, models).vertebrae]
    assert given == whole[:left_out] + whole[left_out + 1 :]


@pytest.mark.realct
@pytest.mark.parametrize(("case", "cut"), [("LungFCP-01-0001", 1), ("TS_example_ct", 3)])
def test_a_vertebra_of_a_real_scan_that_padding_cuts_is_left_out(models, data_dir, case, cut):
    """Padding covers the upper half of the second vertebra of the chest, or the lower half of the abdomen's fourth."""
    ct = read_ct(data_dir / "ct" / f"{REFERENCES[case]}.nii.gz")
    points = [v.keypoints for v in analysis.analyze(ct, models).vertebrae]
    height = points[cut][..., 2].mean()
    s = ct.ijk_to_ras[2, 3] + np.arange(len(ct.voxels)) * ct.ijk_to_ras[2, 2]
    voxels = ct.voxels.copy()
    voxels[s > height if cut == 1 else s < height] = -1024
    found = analysis.analyze(CTVolume(voxels, ct.ijk_to_ras, "padded"), models).vertebrae
    kept = [k[..., 2].max() < height + 1 if cut == 1 else k[..., 2].min() > height - 1 for k in points]
    assert len(found) == sum(kept)
    assert (np.abs([v.keypoints[..., 2].mean() - height for v in found]) > 10).all()


@pytest.mark.realct
@pytest.mark.parametrize("altered", ["hips longer than the spine", "brighter", "thick slices"])
def test_the_lowest_vertebra_of_a_real_abdomen_is_found_in_worse_scans_too(models, data_dir, altered):
    ct = read_ct(data_dir / "ct" / "TS_example_ct.nii.gz")
    reference = json.loads((data_dir / "reference" / "TS_example_ct.json").read_text())
    truth = np.array([v["keypoints"] for v in reference["vertebrae"]])[-2:]
    voxels, matrix = ct.voxels, ct.ijk_to_ras.copy()
    if altered == "brighter":
        voxels = voxels + 60
    elif altered == "thick slices":
        voxels = (voxels[:-1:2] + voxels[1::2]) / 2
        matrix[:3, 3] += matrix[:3, 2] / 2
        matrix[:3, 2] *= 2
    else:
        voxels = voxels[: int(0.63 * len(voxels))]
    found = analysis.analyze(CTVolume(voxels.astype(np.int16), matrix, altered), models)
    assert not match(np.stack([v.keypoints for v in found.vertebrae]), truth).missed


@pytest.mark.realct
def test_a_single_vertebra_is_a_coded_refusal(models, data_dir):
    with pytest.raises(VFQError) as caught:
        analysis.analyze(read_ct(data_dir / "ct" / "TPTBox_label22_ct.nii.gz"), models)
    assert caught.value.code in ("too_few_vertebrae", "no_spine_found", "no_vertebra_found")
