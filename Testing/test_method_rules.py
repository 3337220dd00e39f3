"""`vfq evaluate methods`: rules of grading, height loss, curves, experts, coverage and resumption."""

import json
from dataclasses import replace

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

pytest.importorskip("torch")

from test_expected import bodies, usual
from VertebralFractureQuantLib.cli.app import app
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.evaluation import (
    coverage,
    curves,
    expert_rules,
    graders,
    method_figures,
    method_subjects,
    phantom_cache,
    picture_losses,
)
from VertebralFractureQuantLib.evaluation.graders import GRADERS, UNGRADED
from VertebralFractureQuantLib.evaluation.spines import Spine
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.methods import healthy_picture
from VertebralFractureQuantLib.phantom.options import PhantomOptions
from VertebralFractureQuantLib.phantom.volume import phantom_anatomy, phantom_heights
from VertebralFractureQuantLib.report.schemas import schema
from VertebralFractureQuantLib.spine.genant import heights, measure_column
from VertebralFractureQuantLib.spine.record import ModelStamp, SpineAnalysis, Vertebra

LEVELS = ("T6", "T7", "T8", "T9", "T10", "T11", "T12")
BROKEN = 3


def spine(anterior: float = 1.0, middle: float = 1.0, posterior: float = 1.0, levels=LEVELS) -> Spine:
    """The usual column, in which what remains of T9 is the given share of each height."""
    lengths = usual(levels).copy()
    lengths[BROKEN, :3] *= (anterior, middle, posterior)
    return Spine("one", "one", bodies(lengths), tuple(levels))


def test_a_rule_by_loss_grades_what_was_lost_and_not_what_is_uneven():
    losses = {0.85: "normal", 0.79: "mild", 0.72: "moderate", 0.5: "severe"}
    for left, name in losses.items():
        graded = GRADERS["height loss"](spine(anterior=left))
        assert graded.loss[BROKEN] == pytest.approx([1 - left, 0, 0], abs=1e-6)
        assert graders.GRADES[graded.grade[BROKEN]] == name
        assert graded.score[BROKEN] == pytest.approx(1 - left, abs=1e-6) and not graded.thirds
    crush = GRADERS["height loss"](spine(0.7, 0.7, 0.7))
    assert graders.GRADES[crush.grade[BROKEN]] == "moderate"
    assert graders.GRADES[GRADERS["G"](spine(0.7, 0.7, 0.7)).grade[BROKEN]] == "normal"


def test_the_machine_has_the_losses_of_the_thresholds_and_its_own_grade():
    given = spine(anterior=0.5)
    one, other = GRADERS["height loss"](given), GRADERS["height loss, SVM"](given)
    assert np.array_equal(one.loss, other.loss) and np.array_equal(one.score, other.score)
    assert graders.GRADES[other.grade[BROKEN]] == "severe" and (np.delete(other.grade, BROKEN) == 0).all()


def test_a_wedge_like_its_neighbours_is_mild_by_g_alone():
    lengths = usual(LEVELS).copy()
    lengths[:, 0] *= 0.87  # all are wedged alike; T9 is normal front to back 0.925, here 0.80
    whole = Spine("one", "one", bodies(lengths), LEVELS)
    by_g = GRADERS["G and neighbours"](whole).grade
    mild = np.flatnonzero(by_g == graders.MILD)
    assert len(mild)
    with_loss, loss = GRADERS["G, mild only with height loss"](whole).grade, GRADERS["height loss"](whole).loss
    for i in mild:
        assert (with_loss[i] == graders.NORMAL) == (loss[i].max() < 0.10)
    assert (with_loss[mild] == graders.NORMAL).any()
    alone = spine(anterior=0.84)
    assert alone.levels[BROKEN] == "T9"
    grade = GRADERS["G, mild only with height loss"](alone).grade[BROKEN]
    assert graders.GRADES[grade] == "mild" == graders.GRADES[GRADERS["G"](alone).grade[BROKEN]]


def test_a_physiologic_shape_is_normal_and_without_a_level_none_is():
    l5 = usual(("L1", "L2", "L3", "L4")).copy()
    l5[3, 2] *= 0.78  # lower behind, as L5 is
    named = Spine("one", "one", bodies(l5), ("L2", "L3", "L4", "L5"))
    rule = GRADERS["G, physiologic shapes normal"]
    assert graders.GRADES[GRADERS["G"](named).grade[3]] != "normal" and rule(named).grade[3] == 0
    unnamed = replace(named, levels=(None,) * 4)
    assert rule(unnamed).grade[3] == GRADERS["G and neighbours"](unnamed).grade[3] > 0


def test_without_neighbours_a_rule_by_loss_has_no_answer():
    lone = Spine("one", "one", bodies(usual(("T9",))), ("T9",))
    for name in ("height loss", "height loss, SVM"):
        graded = GRADERS[name](lone)
        assert graded.grade.tolist() == [UNGRADED] and np.isnan(graded.score).all() and np.isnan(graded.loss).all()
    assert GRADERS["G, mild only with height loss"](lone).grade.tolist() == GRADERS["G"](lone).grade.tolist()


def test_the_true_grade_by_loss_is_that_of_the_largest_and_normal_without_a_fracture():
    loss = np.array([[0.1, 0.21, 0.0], [0.3, 0.0, 0.0], [0.0, 0.0, 0.45], [0.3, 0.0, 0.0], [np.nan] * 3])
    fractured = np.array([True, True, True, False, False])
    assert graders.loss_grades(loss, fractured).tolist() == [1, 2, 3, 0, UNGRADED]


def test_heights_of_thirds_are_means_of_the_parabola():
    assert method_subjects.third_heights([20.0, 20, 20]).tolist() == [20, 20, 20]
    assert method_subjects.third_heights([24.0, 21, 18]) == pytest.approx([23, 21, 19])
    x = np.linspace(-1, 1, 300_001)  # from behind to the front
    profile = np.polyval(np.polyfit([1, 0, -1], [15.0, 11, 20], 2), x)
    ahead = [profile[(x >= low) & (x <= low + 2 / 3)].mean() for low in (1 / 3, -1 / 3, -1)]
    assert method_subjects.third_heights([15.0, 11, 20]) == pytest.approx(ahead, abs=1e-4)


def trial_of(graded: graders.Graded, found: Spine, true_loss: np.ndarray, fractured: np.ndarray):
    known = method_figures.Truth(GRADERS["G and neighbours"](found).grade, fractured, true_loss)
    return method_figures.trial(found, found, graded, known, 1.0)


def test_errors_of_the_loss_are_those_that_were_made():
    given, true = spine(anterior=0.7), np.zeros((7, 3))
    true[BROKEN] = (0.25, 0.02, -0.01)
    fractured = np.arange(7) == BROKEN
    figures = method_figures.loss_figures([trial_of(GRADERS["height loss"](given), given, true, fractured)])
    assert figures["loss", "fractured", "bias", "anterior"] == pytest.approx(0.05, abs=1e-6)
    assert figures["loss", "fractured", "bias", "middle"] == pytest.approx(-0.02, abs=1e-6)
    assert figures["loss", "fractured", "error", "all"] == pytest.approx((0.05 + 0.02 + 0.01) / 3, abs=1e-6)
    silent = method_figures.loss_figures([trial_of(GRADERS["G"](given), given, true, fractured)])
    assert np.isnan(silent["loss", "fractured", "bias", "all"])


def test_the_truth_by_loss_decides_where_g_shows_nothing():
    """A crush has a normal G: by G there is nothing to find, by loss the rule must find it."""
    given, true = spine(0.65, 0.65, 0.65), np.zeros((7, 3))
    true[BROKEN] = 0.35
    fractured = np.arange(7) == BROKEN
    found = {
        name: method_figures.method_figures([trial_of(rule(given), given, true, fractured)])
        for name, rule in GRADERS.items()
    }
    assert found["height loss"]["by_loss", "auc", "vertebra"] == found["height loss"]["by_loss", "accuracy"] == 1
    assert found["G"]["by_loss", "auc", "vertebra"] < 1 and found["G"]["by_loss", "accuracy"] == pytest.approx(6 / 7)
    assert np.isnan(found["G"]["auc", "vertebra"])
    assert np.isnan(found["G, physiologic shapes normal"]["by_loss", "auc", "patient"])  # it gives no scores


def test_a_rule_without_an_answer_is_counted_and_not_right():
    lone = Spine("one", "one", bodies(usual(("T9",))), ("T9",))
    one = trial_of(GRADERS["height loss"](lone), lone, np.zeros((1, 3)), np.array([False]))
    figures = method_figures.grade_figures([one])
    assert figures["graded",] == 0 and np.isnan(figures["accuracy",])


def test_the_heights_before_the_fractures_are_those_of_the_healed_phantom():
    options = PhantomOptions(fracture_rate=0.5, field_of_view="spine")
    _, truth = phantom_anatomy(11, options)
    now, before = phantom_heights(11, options), phantom_heights(11, replace(options, healed=True))
    assert [now[level].tolist() for level in truth.levels] == heights(truth.keypoints).tolist()
    lost = np.array([(1 - now[level] / before[level]).max() for level in truth.levels])
    broken = np.array([kind is not None for kind in truth.fractures])
    assert broken.any() and (~broken).any() and lost[broken].min() > 0.1 and lost[~broken].max() < 0.05


# what is kept for a resumed run


@pytest.fixture
def painter(monkeypatch):
    painted = []

    def paint(seed, options):
        painted.append(seed)
        return CTVolume(np.full((2, 3, 4), seed, np.int16), np.diag([0.5, 0.5, 2.0, 1.0]), f"phantom-{seed}"), None

    monkeypatch.setattr(phantom_cache, "make_phantom", paint)
    return painted


def test_a_phantom_is_painted_once(painter, tmp_path, monkeypatch):
    options = PhantomOptions()
    first, again = (phantom_cache.cached_phantom(7, options, tmp_path) for _ in range(2))
    assert painter == [7] and again.name == "phantom-7"
    assert np.array_equal(first.voxels, again.voxels) and np.array_equal(first.ijk_to_ras, again.ijk_to_ras)
    assert [path.name for path in tmp_path.iterdir()] == ["phantom-7.npz"]
    (tmp_path / "phantom-7.npz").write_bytes(b"half a file")
    phantom_cache.cached_phantom(7, options, tmp_path)
    assert painter == [7, 7]
    monkeypatch.setattr(phantom_cache, "painted_by", lambda: "other code")
    phantom_cache.cached_phantom(7, options, tmp_path)
    assert painter == [7, 7, 7]


@pytest.fixture
def analyser(monkeypatch):
    seen = []

    def analyze(ct, networks):
        seen.append(ct)
        if ct == "broken":
            raise VFQError("no_spine_found", "Nothing.")
        return SpineAnalysis("one", models=networks.stamps)

    monkeypatch.setattr("VertebralFractureQuantLib.analysis.analyze", analyze)
    return seen


def test_an_analysis_is_resumed_only_for_the_same_scan_code_and_networks(analyser, tmp_path, monkeypatch):
    stamp = ModelStamp("detector", "d", "a" * 64, None)
    networks = type("Networks", (), {"stamps": (stamp,)})()
    scan = method_subjects.Scanned("one", lambda: "ct", "voxels 1")
    for _ in range(2):
        assert method_subjects.analysis_of(scan, "anchor-free", networks, tmp_path).status == "ok"
    assert analyser == ["ct"]
    method_subjects.analysis_of(replace(scan, made_from="voxels 2"), "anchor-free", networks, tmp_path)
    assert len(analyser) == 2
    networks.stamps = (replace(stamp, sha256="b" * 64),)
    method_subjects.analysis_of(replace(scan, made_from="voxels 2"), "anchor-free", networks, tmp_path)
    assert len(analyser) == 3
    (tmp_path / "anchor-free" / "one.json").write_text("{")
    method_subjects.analysis_of(replace(scan, made_from="voxels 2"), "anchor-free", networks, tmp_path)
    assert len(analyser) == 4
    monkeypatch.setattr(phantom_cache, "code_of", lambda *rooms: "other code")
    method_subjects.analysis_of(replace(scan, made_from="voxels 2"), "anchor-free", networks, tmp_path)
    assert len(analyser) == 5


def record(keypoints: np.ndarray, levels) -> SpineAnalysis:
    vertebrae = zip(keypoints, measure_column(keypoints), levels, strict=True)
    curve = np.stack([np.zeros(300), np.zeros(300), 30.0 - np.arange(300)], 1)
    return SpineAnalysis("one", curve=curve, vertebrae=tuple(Vertebra(k, m, 0.9, level) for k, m, level in vertebrae))


def test_who_measures_what_has_a_number_or_a_code(analyser, tmp_path):
    networks = type("Networks", (), {"stamps": ()})()
    methods = {"anchor-free": networks, "m-scn": VFQError("no_method_weights", "Train it.")}
    scan = method_subjects.Scanned("one", lambda: "broken", "x")
    table = coverage.coverage([scan], methods, "anchor-free", None, tmp_path, lambda text: None)
    assert list(table["one"]) == ["anchor-free", "m-scn", "expected heights"]
    assert {name: cell.status for name, cell in table["one"].items()} == {
        "anchor-free": "no_spine_found",
        "m-scn": "no_method_weights",
        "expected heights": "no_spine_found",
    }


def test_expected_heights_are_counted_and_the_rest_has_a_reason():
    levels = ("C2", "C3", "C4", "C5")
    whole = coverage.expected_cell(record(bodies(usual(levels)), levels))
    assert (whole.status, whole.vertebrae, whole.refused) == ("ok", 3, {"unmeasured_level": 1})
    alone = coverage.expected_cell(record(bodies(usual(("T9",))), ("T9",)))
    assert (alone.status, alone.vertebrae, alone.refused) == ("no_neighbour", 0, {"no_neighbour": 1})


def test_losses_of_pictures_are_kept_and_those_that_fail_have_a_code(monkeypatch, tmp_path):
    drawn = []

    def picture(healer, image, points, index):
        drawn.append(index)
        if index == 1:
            raise VFQError("no_synthetic_body", "None.")
        return type("Picture", (), {"loss": np.array([0.3, 0.1, 0.0]), "grade": "moderate"})()

    monkeypatch.setattr(healthy_picture, "healthy_picture", picture)
    ct = CTVolume(np.zeros((160, 30, 30), np.int16), np.diag([-4.0, -4.0, 2.0, 1.0]), "one")
    scan = method_subjects.Scanned("one", lambda: ct, "x")
    healer = type("Healer", (), {"stamp": ModelStamp("healthy", "h", "c" * 64, None)})()
    measured = record(bodies(usual(("T8", "T9", "T10"))), ("T8", "T9", "T10"))
    for _ in range(2):
        graded = picture_losses.as_graded(method_subjects.pictures_of(scan, measured, healer, tmp_path))
        assert drawn == [0, 1, 2] and graded.thirds
        assert graded.grade.tolist() == [2, UNGRADED, 2] and graded.loss[0].tolist() == [0.3, 0.1, 0.0]
        assert graded.score[0] == 0.3 and np.isnan(graded.score[1])
    rejected = replace(measured, vertebrae=(measured.vertebrae[0], replace(measured.vertebrae[1], review="rejected")))
    first, second = picture_losses.picture_losses(healer, rejected, ct)
    assert first.code == "no_neighbour" and second.code == "no_synthetic_body"  # the rejected one has a neighbour
    lone = record(bodies(usual(("T9",))), ("T9",))
    assert picture_losses.picture_losses(healer, lone, ct)[0].code == "no_neighbour"


# curves


def scored(scores, ratios, away=()):
    """A trial with these scores and true G; the rest does not matter."""
    count = len(scores)
    empty = np.full((count, 3), np.nan)
    truth = method_figures.Truth(np.zeros(count, int), np.zeros(count, bool), empty)
    one = np.array(scores, float)
    return method_figures.Trial(
        None,
        truth,
        np.array(away, float),
        np.ones(count, bool),
        np.zeros(count, int),
        one,
        0.0,
        empty,
        np.array(ratios),
        0.0,
    )


def test_the_roc_curve_has_the_sensitivity_of_each_specificity():
    ratios = [0.6, 0.7, 0.9, 0.9, 0.9, 0.9]
    perfect = curves.roc_band([scored([6, 5, 4, 3, 2, 1], ratios)] * 3, False, 20, 0)
    assert (perfect.y == 1).all() and (perfect.low == 1).all()
    mixed = curves.roc_band([scored([6, 3.5, 4, 3, 2, 1], ratios)], False, 20, 0)
    assert mixed.y[[0, 24, 25, 26, 100]].tolist() == [0.5, 0.5, 1, 1, 1]  # one of four negatives is above the second
    assert np.isnan(mixed.low).all()  # a single patient
    assert np.isnan(curves.roc_band([scored([1, 2], [0.9, 0.9])] * 2, False, 5, 0).y).all()


def test_the_curve_of_distances_is_the_share_beyond_each():
    band = curves.distance_band([scored([0, 0], [1, 1], [3.0, 30.0]), scored([0, 0], [1, 1], [1.0, 0.0])], 50, 0)
    at = {mm: float(y) for mm, y in zip(band.x, band.y, strict=True)}
    assert at[0.0] == 0.75 and at[1.0] == 0.5 and at[3.0] == 0.25 and at[20.0] == 0.25
    assert (band.low <= band.y).all() and (band.y <= band.high).all()


def test_the_curve_of_losses_is_the_mean_in_each_bin():
    one = scored([0] * 4, [1.0] * 4, [0] * 4)
    truth = replace(one.truth, loss=np.array([[0.0] * 3, [0.0] * 3, [0.3] * 3, [0.3] * 3]))
    trial = replace(one, truth=truth, loss=truth.loss + np.array([0.02, 0.04, 0.1, 0.1])[:, None])
    band = curves.loss_band([trial, trial], 20, 0)
    assert band.x[[0, 3]] == pytest.approx([0.0, 0.3]) and band.y[[0, 3]] == pytest.approx([0.03, 0.4])
    assert np.isnan(band.y[[1, 2, 4, 5]]).all()


# experts


def read(shares) -> Spine:
    """One expert's column, with what each vertebra keeps of its anterior height."""
    lengths = usual(LEVELS).copy()
    lengths[:, 0] *= np.array(shares)
    return Spine("p", "p", bodies(lengths), LEVELS)


def patient(*columns: Spine):
    """The readings of one patient, one column for each expert, by every rule."""
    graded = [{name: rule(c) for name, rule in GRADERS.items()} for c in columns]
    count = len(LEVELS)
    key = np.tile(np.arange(count), len(columns))
    pairs = [(i, j) for i in range(len(key)) for j in range(i + 1, len(key)) if key[i] == key[j]]
    return expert_rules.Readings(
        key=key,
        ratio=np.concatenate([-g["G"].score for g in graded]),
        grade={name: np.concatenate([g[name].grade for g in graded]) for name in GRADERS},
        score={name: np.concatenate([g[name].score for g in graded]) for name in GRADERS},
        expected_off=np.zeros((len(key), 3)),
        pairs=np.array(pairs),
    )


def test_experts_who_agree_have_a_kappa_of_one_and_find_all():
    reading = read([1, 1, 1, 0.6, 1, 1, 1])
    figures = expert_rules.rule_figures([patient(reading, reading)])
    for rule in ("G", "height loss"):
        assert figures[rule, "kappa", "mild"] == figures[rule, "kappa", "grades"] == figures[rule, "agreement"] == 1
        assert figures[rule, "kappa_same_share", "moderate"] == 1
        assert figures[rule, "correlation"] == pytest.approx(1)
        assert figures[rule, "sensitivity", "moderate"] == figures[rule, "specificity", "moderate"] == 1
        assert figures[rule, "auc"] == 1 and figures[rule, "share", "moderate"] == pytest.approx(1 / 7)
    assert figures["height loss", "more_than_by_g", "kappa", "mild"] == 0


def test_agreement_of_experts_is_that_of_the_textbook():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(2)
    one, other = rng.integers(0, 4, (2, 200))
    other[:120] = one[:120]
    pairs = np.stack([np.arange(200), 200 + np.arange(200)], 1)
    score = np.r_[one, other].astype(float)
    figures = expert_rules.agreement_figures(np.r_[one, other], score, 1 - score / 10, pairs)
    assert figures["kappa", "grades"] == pytest.approx(metrics.cohen_kappa_score(one, other, weights="quadratic"))
    for name, least in (("mild", 1), ("moderate", 2)):
        assert figures["kappa", name] == pytest.approx(metrics.cohen_kappa_score(one >= least, other >= least))
    assert figures["correlation",] == pytest.approx(np.corrcoef(one, other)[0, 1])
    assert figures["agreement",] == (one == other).mean()


def test_a_finding_is_judged_by_the_other_experts():
    """Of two experts, one calls two vertebrae moderate, the other one of them and another."""
    ratio = np.array([0.7, 0.7, 0.9, 0.9, 0.7, 0.9, 0.7, 0.9])
    grade, whose = np.where(ratio < 0.75, 2, 0), np.tile(np.arange(4), 2)
    pairs = np.stack([np.arange(4), 4 + np.arange(4)], 1)
    figures = expert_rules.finding_figures(grade, -ratio, ratio, whose, pairs)
    assert figures["sensitivity", "moderate"] == 0.5  # of the four readings whose partner is moderate, two are
    assert figures["specificity", "moderate"] == 0.5
    assert figures["auc",] == pytest.approx(0.5)
    assert np.isnan(expert_rules.kappa(np.zeros(3, bool), np.zeros(3, bool)))


def test_the_same_share_is_called_whatever_the_scores_are():
    """Scores that rank as G does call the same vertebrae as G, so that their kappa is the same."""
    rng = np.random.default_rng(5)
    ratio = rng.uniform(0.5, 1, 400)
    pairs = np.stack([np.arange(200), 200 + np.arange(200)], 1)
    grade = np.where(ratio <= 0.8, 1, 0)
    figures = expert_rules.agreement_figures(grade, 100 * (1 - ratio) ** 3, ratio, pairs)
    assert figures["kappa_same_share", "mild"] == pytest.approx(figures["kappa", "mild"])


def test_the_command_grades_annotations_without_any_scan(tmp_path):
    from test_evaluation import annotation, column, on_clicks

    folder = tmp_path / "annotations"
    folder.mkdir()
    points = on_clicks(column(12), 2)
    for name in ("p", "q"):
        (folder / f"{name}.json").write_text(json.dumps(annotation(points, points)))
    options = ["--phantoms", "0", "--annotations", folder, "--output", tmp_path / "out", "--repeats", "5"]
    done = CliRunner().invoke(app, ["evaluate", "methods", "--method", "anchor-free", *map(str, options)])
    assert done.exit_code == 0, done.output
    data = json.loads((tmp_path / "out" / "methods.json").read_text())
    Draft202012Validator(schema("vfq-methods/1")).validate(data)
    (block,) = data["blocks"]
    assert block["name"] == "experts' annotations" and block["patients"] == 2
    assert [row["name"] for row in block["rows"]] == list(GRADERS)
    assert block["rows"][0]["figures"]["kappa"]["moderate"]["value"] == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"methods.json", "methods.png", "methods-curves.png"}


def test_the_command_says_which_files_it_left_out(tmp_path):
    from test_evaluation import annotation, column, on_clicks

    annotations, references, scans = (tmp_path / name for name in ("annotations", "references", "scans"))
    for folder in (annotations, references, scans):
        folder.mkdir()
    points = on_clicks(column(12), 2)
    (annotations / "p.json").write_text(json.dumps(annotation(points, points)))
    (annotations / "q.json").write_text("{")
    (references / "broken.json").write_text("{}")
    reference = {"case": "lost", "ct_file": "lost.nii.gz", "partial": [], "centerline": []}
    entries = [{"keypoints": v.tolist(), "level": None, "level_certain": False} for v in column()]
    (references / "lost.json").write_text(json.dumps({**reference, "vertebrae": entries}))
    (references / "single.json").write_text(json.dumps({**reference, "vertebrae": entries[:1]}))
    (scans / "broken.nii.gz").write_bytes(b"no CT")
    options = ["--annotations", annotations, "--references", references, "--scans", scans, "--output", tmp_path / "out"]
    call = ["evaluate", "methods", "--method", "anchor-free", "--phantoms", "0", "--repeats", "0"]
    done = CliRunner().invoke(app, [*call, *map(str, options)])
    assert done.exit_code == 3, done.output
    data = json.loads((tmp_path / "out" / "methods.json").read_text())
    Draft202012Validator(schema("vfq-methods/1")).validate(data)
    found = {p["file"]: p["code"] for p in data["problems"]}
    assert found == {
        "q.json": "not_json",
        "broken.json": "wrong_schema",
        "lost.json": "no_scan",
        "single.json": "no_vertebra",
        "broken": "not_measured",
    }
    assert "Put the CT into the folder of --scans" in done.output and "What to do:" in done.output
