"""`vfq evaluate methods`: the figures of methods, of rules that read masks and of rules of grading."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

pytest.importorskip("torch")

from VertebralFractureQuantLib.cli.app import app
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.evaluation import method_figures, method_subjects, methods
from VertebralFractureQuantLib.evaluation.coverage import Cell
from VertebralFractureQuantLib.evaluation.graders import GRADERS
from VertebralFractureQuantLib.evaluation.severity import severity_figures
from VertebralFractureQuantLib.evaluation.spines import Spine
from VertebralFractureQuantLib.phantom.masks import LINES, THIRDS, mask_keypoints
from VertebralFractureQuantLib.phantom.options import PhantomOptions
from VertebralFractureQuantLib.phantom.volume import make_phantom, phantom_anatomy
from VertebralFractureQuantLib.report.methods_curves import write_methods_curves
from VertebralFractureQuantLib.report.methods_table import methods_tables, write_methods_figure
from VertebralFractureQuantLib.report.schemas import schema
from VertebralFractureQuantLib.spine.record import ModelStamp


def column(heights: list[tuple[float, float, float]]) -> np.ndarray:
    """Vertebrae 30 mm apart with these anterior, middle and posterior heights, mm."""
    points = [
        [[[0, 15 - 15 * p, -30 * i + sign * h / 2] for sign in (1, -1)] for p, h in enumerate(each)]
        for i, each in enumerate(heights)
    ]
    return np.array(points, float)


def trial_of(found: np.ndarray, truth: np.ndarray, grader: str = "G", broken: tuple[int, ...] = ()):
    spines = [Spine(n, n, points, (None,) * len(points)) for n, points in (("found", found), ("truth", truth))]
    fractured = np.isin(np.arange(len(truth)), broken)
    known = method_figures.Truth(
        GRADERS["G and neighbours"](spines[1]).grade, fractured, np.full((len(truth), 3), np.nan)
    )
    return method_figures.trial(*spines, GRADERS[grader](spines[0]), known, 2.0)


NORMAL = (20.0, 20.0, 20.0)


def test_the_truth_itself_has_no_error():
    truth = column([NORMAL, (14.0, 18, 20), NORMAL, (11.0, 15, 20)])
    figures = method_figures.method_figures([trial_of(truth, truth, broken=(1, 3))])
    assert figures["recall",] == figures["precision",] == figures["accuracy",] == figures["macro_f1",] == 1
    assert figures["auc", "vertebra"] == 1 and figures["kappa",] == 1 and figures["seconds",] == 2
    assert figures["point_mm",] == figures["centre_mm",] == figures["ratio",] == figures["outliers", "4"] == 0


def test_outliers_count_true_vertebrae_without_a_centre_near_them():
    truth = column([NORMAL] * 4)
    found = truth[:3] + np.array([[0, 0, 0], [0, 6, 0], [0, 0, 0]])[:, None, None]
    figures = method_figures.method_figures([trial_of(found, truth)])
    assert [figures["outliers", mm] for mm in ("4", "10", "20")] == [0.5, 0.25, 0.25]
    assert figures["recall",] == 0.75 and figures["centre_mm",] == pytest.approx(2.0)


def test_nothing_found_is_the_worst_and_no_error():
    truth = column([NORMAL] * 3)
    figures = method_figures.method_figures([trial_of(methods.EMPTY, truth)])
    assert figures["recall",] == 0 and figures["outliers", "20"] == 1 and np.isnan(figures["point_mm",])


def test_only_the_rule_with_neighbours_finds_a_crush():
    truth = column([NORMAL, NORMAL, (12.0, 12, 12), NORMAL, NORMAL])
    by_ratio, by_neighbours = (
        method_figures.grade_figures([trial_of(truth, truth, grader, broken=(2,))])
        for grader in ("G", "G and neighbours")
    )
    assert by_ratio["crushes",] == 0 and by_neighbours["crushes",] == 1


def test_an_unbroken_wedge_called_mild_is_not_called_normal():
    truth = column([NORMAL, (15.6, 18, 20), NORMAL, NORMAL])
    assert method_figures.grade_figures([trial_of(truth, truth)])["physiologic",] == 0
    assert method_figures.grade_figures([trial_of(column([NORMAL] * 4), truth)])["physiologic",] == 1


def test_kappa_and_f1_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    true = rng.integers(0, 4, 300)
    seen = np.clip(true + rng.integers(-1, 2, 300), 0, 3)
    expected = metrics.cohen_kappa_score(seen, true, weights="quadratic")
    assert method_figures.weighted_kappa(seen, true) == pytest.approx(expected)
    assert method_figures.macro_f1(seen, true) == pytest.approx(metrics.f1_score(true, seen, average="macro"))


def test_masks_give_heights_near_those_of_the_key_points():
    options = PhantomOptions(fracture_rate=0.0, scoliosis_deg=0.0, field_of_view="whole", pathology=0)
    anatomy, truth = phantom_anatomy(5, options)
    tall = np.linalg.norm(truth.keypoints[:, :, 0] - truth.keypoints[:, :, 1], axis=-1)
    for rule in (THIRDS, LINES):
        points = mask_keypoints(anatomy, truth.levels, rule)
        assert points.shape == truth.keypoints.shape
        assert np.linalg.norm(points.mean((1, 2)) - truth.keypoints.mean((1, 2)), axis=-1).max() < 3
        difference = np.linalg.norm(points[:, :, 0] - points[:, :, 1], axis=-1) - tall
        # The middle is lower by what readers see outside the bone; in front and behind, columns miss the high rims.
        assert -1.2 < difference[:, 1].mean() < -0.3 and -3.5 < difference[:, [0, 2]].mean() < -0.7
        assert difference.max() < 0.5 and (points[:, 0, 0, 1] > points[:, 2, 0, 1]).all()


@pytest.mark.thorough
def test_the_truth_without_painting_is_that_of_the_painted_phantom():
    options = PhantomOptions(field_of_view="spine", spacing_mm=(2.0, 5.0))
    _, truth = make_phantom(7, options)
    _, same = phantom_anatomy(7, options)
    assert np.array_equal(truth.keypoints, same.keypoints) and truth.levels == same.levels


def test_auc_by_the_score_of_g_is_that_of_the_published_tables():
    rng = np.random.default_rng(3)
    trials = []
    for _ in range(8):
        truth = column([tuple(rng.uniform(12, 20, 3)) for _ in range(6)])
        found = truth[: rng.integers(0, 7)] + rng.normal(0, 0.8, (6, 3, 2, 3))[: len(truth)][: len(truth)][:1]
        trials.append(trial_of(found, truth))
    published = severity_figures([t.scan for t in trials])
    figures = method_figures.score_figures(trials)
    for kind in ("vertebra", "patient"):
        for name in ("auc", "sensitivity"):
            assert figures[name, kind] == pytest.approx(published["severity", kind, "G0-1 vs G2-3", name])


@pytest.fixture
def compared(tmp_path):
    """One phantom of three vertebrae, one of them broken, measured perfectly by ours; another method has no weights."""
    truth = column([NORMAL, (12.0, 17, 20), NORMAL])
    spine = Spine("one", "one", truth, ("T7", "T8", "T9"))
    source = method_subjects.Scanned("one", lambda: None, "paint")
    subject = method_subjects.Subject(
        "one", source, spine, np.array([False, True, False]), np.full((3, 3), 20.0), {"mask: thirds": truth + 0.1}
    )
    networks = type("Networks", (), {"stamps": ()})()
    (tmp_path / "anchor-free").mkdir()
    from VertebralFractureQuantLib.spine.genant import measure_column
    from VertebralFractureQuantLib.spine.record import SpineAnalysis, Vertebra
    from VertebralFractureQuantLib.spine.record_json import to_json

    vertebrae = tuple(Vertebra(k, m, 0.9) for k, m in zip(truth, measure_column(truth), strict=True))
    record = to_json(SpineAnalysis("one", vertebrae=vertebrae, timing_s={"total": 3.0}))
    record["evaluation"] = method_subjects._key(source, [])
    (tmp_path / "anchor-free" / "one.json").write_text(json.dumps(record))
    systems = methods.Systems({"anchor-free": networks, "m-scn": VFQError("no_method_weights", "Train it.")})
    block = methods.compare_methods([subject], "phantoms", systems, tmp_path, lambda case: None, 5, 0)
    covered = {"scan": {"anchor-free": Cell("ok", 3), "m-scn": Cell("no_method_weights", message="Train it.")}}
    return methods.Comparison([block], {"anchor-free": []}, 5, 0, covered)


def test_the_table_has_a_row_for_every_method_rule_and_grader(compared, tmp_path):
    stamp = ModelStamp("healthy", "healthy-1", "c" * 64, None)
    data = replace(compared, generator=stamp).to_json()
    assert data["synthetic_picture"] == {"name": "healthy-1", "sha256": "c" * 64}
    assert compared.to_json()["synthetic_picture"] is None
    Draft202012Validator(schema("vfq-methods/1")).validate(data)
    rows = {row["name"]: row for row in data["blocks"][0]["rows"]}
    assert list(rows)[:3] == ["anchor-free", "m-scn", "mask: thirds"] and len(rows) == 3 + 2 * len(GRADERS)
    assert rows["m-scn"]["missing"] == "no_method_weights" and rows["m-scn"]["figures"] == {}
    assert rows["m-scn"]["patients"] == 0 and rows["anchor-free"]["patients"] == 1
    assert rows["anchor-free"]["figures"]["recall"]["value"] == 1
    assert rows["anchor-free"]["figures"]["seconds"]["value"] == 3
    assert "recall" not in rows["mask: thirds"]["figures"] and "ratio" in rows["mask: thirds"]["figures"]
    assert set(rows["anchor-free, G"]["figures"]) == set(methods.OF_GRADES)
    assert data["blocks"][0]["status"] == {"anchor-free": {"one": "ok"}}
    assert data["coverage"][0]["systems"]["anchor-free"]["vertebrae"] == 3
    for write, name in ((write_methods_figure, "methods.png"), (write_methods_curves, "curves.png")):
        write(compared, tmp_path / name)
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"


def test_the_loss_of_the_true_points_is_known_from_the_heights_before(compared):
    """The broken vertebra lost 8, 3 and 0 mm of 20: a grade 3 by loss; its rule grades by G 12 / 20, also severe."""
    row = next(row for row in compared.blocks[0].rows if row.name == "true points, G")
    (trial,) = row.trials
    assert trial.truth.loss[1] == pytest.approx([0.4, 0.15, 0.0]) and trial.lost.tolist() == [0, 3, 0]
    assert compared.blocks[0].estimates[row.name]["by_loss", "accuracy"].value == 1


def test_the_printed_table_shows_only_what_a_row_has(compared):
    from rich.console import Console

    console = Console(width=300, record=True)
    console.print(methods_tables(compared))
    lines = console.export_text().splitlines()
    finding = next(line for line in lines if "mask: thirds" in line)
    assert finding.count(" - ") >= 7
    assert any(line.startswith("m-scn is left out (no_method_weights): Train it.") for line in lines)
    assert sum("anchor-free, G, phys" in line for line in lines) == 2  # by both truths, and not among the finders
    coverage = next(line for line in lines if "scan" in line and "no_method_weights" in line)
    assert " 3 " in coverage


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [(("--phantoms", "0"), 3, "nothing_to_evaluate"), (("--method", "yolo"), 3, "unknown_method")],
)
def test_an_evaluation_of_nothing_is_refused(options, code, words, tmp_path: Path):
    result = CliRunner().invoke(app, ["evaluate", "methods", "--output", str(tmp_path / "out"), *options])
    assert result.exit_code == code and words in result.output
