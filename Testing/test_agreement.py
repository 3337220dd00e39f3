"""Agreement of readers: the right figures for readings of known error, and for the public annotations."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from label_bench import body, column, dataset_with, made, saved_ct
from test_formats import box, validated
from test_labels import refused, run, snapshot
from typer.testing import CliRunner
from VertebralFractureQuantLib.cli.app import app
from VertebralFractureQuantLib.evaluation.annotations import read_annotations
from VertebralFractureQuantLib.evaluation.experts import scatter
from VertebralFractureQuantLib.evaluation.metrics import Estimates
from VertebralFractureQuantLib.labels.adding import add_cases
from VertebralFractureQuantLib.labels.agreement import AUTOMATIC, Agreement, measure_agreement
from VertebralFractureQuantLib.labels.agreement_page import counts, page
from VertebralFractureQuantLib.labels.consensus import CONSENSUS, read_consensus, write_consensus
from VertebralFractureQuantLib.labels.dataset import Assignment, Dataset, changing, create, load, with_readers
from VertebralFractureQuantLib.labels.disputes import adjudications_to_do
from VertebralFractureQuantLib.labels.exporting import export
from VertebralFractureQuantLib.labels.importing import Settings, import_files
from VertebralFractureQuantLib.labels.reading import Label, LabelReading, correction
from VertebralFractureQuantLib.labels.statistics import fleiss_kappa, icc_a1, weighted_kappa
from VertebralFractureQuantLib.labels.store import save

LEVELS = ("T8", "T9", "T10", "T11", "T12", "L1")


def read(dataset: Dataset, case: str, reader: str, labels: Sequence[Label], **keys) -> LabelReading:
    return save(dataset, LabelReading(case, reader, state="final", labels=tuple(labels), **keys))


def values(estimates: Estimates) -> dict[str, float]:
    return {key[0]: e.value for key, e in estimates.items()}


def moved(labels: Sequence[Label], shift: Callable[[int], np.ndarray]) -> list[Label]:
    return [replace(v, keypoints=np.asarray(v.keypoints) + shift(i)) for i, v in enumerate(labels)]


def agreed(dataset: Dataset, **keys) -> Agreement:
    return measure_agreement(load(dataset.folder), **{"repeats": 0, **keys})


@pytest.fixture
def two(tmp_path):
    return dataset_with(tmp_path / "set", ["c0", "c1", "c2"], ("Anna", "Bob"))


# --- figures


def test_a_known_shift_of_the_points_and_of_the_plane_is_measured(two):
    """Bob places each point 0.9 mm to the front and 1.2 mm up, in a plane 2 mm to the right."""
    for case in two.cases:
        read(two, case, "Anna", column(LEVELS))
        read(two, case, "Bob", moved(column(LEVELS), lambda i: np.array([2.0, 0.9, 1.2])))
    (found,) = agreed(two).compared
    assert counts(found) == "18 vertebrae, patients: 3; with fewer than 10 patients the intervals are too narrow"
    figures = values(found.estimates)
    assert (found.kind, found.sources, found.patients, found.vertebrae) == ("readers", ("Anna", "Bob"), 3, 18)
    assert figures["point_in_plane_mm"] == pytest.approx(1.5)
    assert figures["point_to_mean_in_plane_mm"] == pytest.approx(0.75)
    assert figures["point_mm"] == pytest.approx(2.5) and figures["planes_apart_mm"] == pytest.approx(2.0)
    for zero in ("ratio_sd", "mean_ratio_sd", "height_sd_mm", "ratio_difference_bias", "height_mm_difference_sd"):
        assert figures[zero] == pytest.approx(0, abs=1e-9)
    assert figures["raw_agreement"] == figures["precision"] == figures["recall"] == 1


def test_known_differences_of_g_give_their_standard_deviation_and_limits(two):
    """G of Anna is 1; that of Bob is 0.95 or 0.85, by turns."""
    for case in two.cases:
        read(two, case, "Anna", column(LEVELS))
        heights = [22 * (0.95 if i % 2 else 0.85) for i in range(6)]
        read(two, case, "Bob", [Label(LEVELS[i], body(-30.0 * i, front=h)) for i, h in enumerate(heights)])
    figures = values(agreed(two).compared[0].estimates)
    differences = np.array([0.15, 0.05] * 9)
    assert figures["ratio_difference_bias"] == pytest.approx(0.10)
    assert figures["ratio_difference_sd"] == pytest.approx(differences.std(ddof=1))
    assert figures["ratio_difference_high"] == pytest.approx(0.10 + 1.96 * differences.std(ddof=1))
    assert figures["ratio_sd"] == pytest.approx(np.sqrt((differences**2 / 2).mean()))
    assert figures["mean_ratio_sd"] == pytest.approx((differences / 2).mean())
    assert figures["height_mm_difference_bias"] == pytest.approx(22 * 0.10 / 3)


def test_a_normal_error_of_known_size_is_found_within_its_interval(tmp_path):
    rng = np.random.default_rng(3)
    dataset = dataset_with(tmp_path / "set", [f"c{i}" for i in range(40)], ("Anna", "Bob", "Cleo"))
    for case in dataset.cases:
        for reader in dataset.readers:
            read(dataset, case, reader, moved(column(LEVELS), lambda i: rng.normal(0, 0.5, (3, 2, 3)) * (0, 1, 1)))
    found = agreed(dataset, repeats=200).compared[0].estimates
    height = found[("height_sd_mm",)]  # of the difference of two points, and a little of their tilt
    assert height.low < 0.5 * np.sqrt(2) * 1.005 < height.high and height.high - height.low < 0.1
    away = found[("point_to_mean_in_plane_mm",)]  # a Rayleigh distribution, from the mean of three
    assert away.low < 0.5 * np.sqrt(2 / 3) * np.sqrt(np.pi / 2) < away.high


def test_vertebrae_that_one_reader_missed_count_and_those_not_assessable_do_not(two):
    read(two, "c0", "Anna", column(LEVELS))
    read(two, "c0", "Bob", [*column(LEVELS)[:4], Label("L1", not_assessable="metal")])
    read(two, "c1", "Anna", column(LEVELS))  # Bob did not read it, so he missed nothing
    found = agreed(two)
    figures = values(found.compared[0].estimates)
    assert figures["precision"] == pytest.approx(4 / 5) and figures["recall"] == 1
    assert found.compared[0].patients == 1
    assert "Bob, vertebrae that are not assessable (metal): 1." in found.left_out


def test_of_several_readers_the_one_who_could_not_see_a_vertebra_missed_nothing(tmp_path):
    dataset = dataset_with(tmp_path / "set", ["c0"], ("Anna", "Bob", "Cleo"))
    read(dataset, "c0", "Anna", column(LEVELS))
    read(dataset, "c0", "Bob", column(LEVELS))
    read(dataset, "c0", "Cleo", [*column(LEVELS)[:5], Label("L1", not_assessable="cut_off")])
    assert values(agreed(dataset).compared[0].estimates)["found_by_both"] == 1
    read(dataset, "c0", "Cleo", column(LEVELS)[:5], session=2)
    repeated = agreed(dataset).compared[-1]
    assert repeated.kind == "repeated" and values(repeated.estimates)["recall"] == 1


def test_a_reader_who_is_off_by_one_level_is_compared_at_the_same_place(two):
    read(two, "c0", "Anna", column(LEVELS))
    read(two, "c0", "Bob", moved(column(("T7", *LEVELS[:5])), lambda i: np.array([0.0, 3.0, 0.0])))
    found = agreed(two)
    assert values(found.compared[0].estimates)["point_in_plane_mm"] == pytest.approx(3.0)
    assert found.worst[0].levels["Anna"] != found.worst[0].levels["Bob"]


def test_the_protocol_says_which_levels_count(two):
    for reader in two.readers:
        read(two, "c0", reader, column(LEVELS))
    with changing(two.folder) as held:
        held[0] = replace(held[0], protocol={**held[0].protocol, "levels": ["T8", "T9"]})
    assert agreed(two).compared[0].vertebrae == 2
    write_consensus(load(two.folder), "mean")
    assert [v.level for v in read_consensus(two)[0].labels] == ["T8", "T9"]


def test_drafts_and_earlier_versions_do_not_count(two):
    read(two, "c0", "Anna", column(LEVELS))
    wrong = read(two, "c0", "Bob", moved(column(LEVELS), lambda i: np.array([0.0, 5.0, 0.0])))
    save(two, replace(correction(wrong), labels=tuple(column(LEVELS)), state="final"))
    save(two, LabelReading("c1", "Bob", labels=column(LEVELS)))
    found = agreed(two)
    assert values(found.compared[0].estimates)["point_mm"] == 0 and found.compared[0].vertebrae == 6
    assert found.left_out == ("Readings that are not finished (drafts): 1.",)


def test_a_second_reading_measures_how_well_a_reader_repeats(two):
    read(two, "c0", "Anna", column(LEVELS))
    read(two, "c0", "Anna", moved(column(LEVELS), lambda i: np.array([0.0, 0.0, 0.7])), session=2)
    (found,) = agreed(two).compared
    assert found.kind == "repeated" and values(found.estimates)["point_mm"] == pytest.approx(0.7)


def test_regions_and_shapes_are_measured_apart(two):
    """Bob is 1 mm off in the thoracic spine, 2 mm in the lumbar one, and at a wedge."""
    labels = [Label("T8", body(0.0, front=14, middle=18)), *column(("T9", "L1"), at=-30.0)]
    for case in two.cases:
        read(two, case, "Anna", labels)
        read(two, case, "Bob", moved(labels, lambda i: np.array([0.0, 1.0 if i == 1 else 2.0, 0.0])))
    found = agreed(two).compared[0]
    regions = {name: (count, values(e)["point_mm"]) for name, (count, e) in found.by_region.items()}
    assert regions == {"T7 to T12": (6, pytest.approx(1.5)), "lumbar": (3, pytest.approx(2.0))}
    shapes = {name: (count, values(e)["point_mm"]) for name, (count, e) in found.by_shape.items()}
    assert shapes == {"wedge": (3, pytest.approx(2.0)), "normal": (6, pytest.approx(1.5))}


def test_intervals_draw_patients_not_vertebrae(tmp_path):
    """Two patients, each with one error in all vertebrae: the interval reaches from one to the other."""
    dataset = dataset_with(tmp_path / "set", ["a", "b", "c", "d"], ("Anna", "Bob"))
    for i, case in enumerate(dataset.cases):
        read(dataset, case, "Anna", column(LEVELS))
        shift = np.array([0.0, 1.0 + i, 0.0])
        read(dataset, case, "Bob", moved(column(LEVELS), lambda _, shift=shift: shift))
    found = agreed(dataset, repeats=400).compared[0].estimates[("point_mm",)]
    assert found.value == pytest.approx(2.5) and found.low < 1.6 and found.high > 3.4
    with changing(dataset.folder) as held:  # all four scans are of one patient
        held[0] = replace(held[0], cases={n: replace(c, patient="p") for n, c in held[0].cases.items()})
    one = agreed(dataset, repeats=50).compared[0]
    assert one.patients == 1 and np.isnan(one.estimates[("point_mm",)].low)


def test_the_worst_disagreements_come_first_with_the_command_that_opens_them(tmp_path):
    dataset = made(tmp_path, ["Anna", "Bob"])
    labels = column(("T9", "T10", "T11"), at=-20.0)
    read(dataset, "scan", "Anna", labels)
    wedge = replace(labels[1], keypoints=body(-50.0, front=12))
    read(dataset, "scan", "Bob", [moved(labels[:1], lambda i: np.array([0.0, 2.5, 0.0]))[0], wedge, labels[2]])
    found = agreed(dataset).worst
    assert [(d.level, d.steps) for d in found] == [("T10", 3), ("T9", 0)]
    assert found[0].grades == {"Anna": "normal", "Bob": "severe"} and found[1].point_mm == pytest.approx(2.5)
    assert found[0].command is None, "both readers of the label set read the case, so nobody can decide"
    page_text = page(agreed(dataset))
    assert "no third\nreader" in page_text and "no CT" not in page_text


def served(command: str, monkeypatch) -> tuple[list, object]:
    """Run a printed command without its page; return the cases and the settings that the page gets."""
    from VertebralFractureQuantLib.browser import serve

    given = []
    monkeypatch.setattr(serve, "serve", lambda cases, settings, build: given.append((cases, settings)))
    program, *arguments = shlex.split(command)
    result = CliRunner().invoke(app, [*arguments, "--no-browser"])
    assert program == "vfq" and result.exit_code == 0, result.output
    return given[0]


def test_the_command_of_a_disagreement_of_readers_opens_its_adjudication_as_it_is_printed(tmp_path, monkeypatch):
    folder = tmp_path / "a set of O'Hara"
    create(folder, "set", {})
    add_cases(folder, [saved_ct(tmp_path / f"{name}.nii.gz", 40 + i) for i, name in enumerate(("scan", "other"))])
    with changing(folder) as held:  # Carla is to read the case herself
        held[0] = with_readers(held[0], ["Anna", "Bob", "Carla", "Dr. Ann Lee"])
        held[0] = replace(held[0], assignments={"Carla": (Assignment("scan"),)})
    dataset, labels = load(folder), column(("T9", "T10", "T11"), at=-20.0)
    for case in ("scan", "other"):
        read(dataset, case, "Anna", labels)
        read(dataset, case, "Bob", [replace(labels[0], keypoints=body(-20.0, front=12)), *labels[1:]])
    read(dataset, "other", "Carla", labels[:1])
    commands = {d.case: d.command for d in agreed(dataset).worst}
    for case, command in commands.items():
        words = shlex.split(command)
        assert words[:2] == ["vfq", "annotate"] and words[words.index("--reader") + 1] == "Dr. Ann Lee"
        assert "--adjudicate" in words and words[-2:] == ["--case", case]
        assert adjudications_to_do(dataset, "Dr. Ann Lee", case) == [("Dr. Ann Lee", case, 1)]
    pytest.importorskip("trame_slicer", reason="needs the review page: pip install '.[review]'")
    cases, settings = served(commands["scan"], monkeypatch)
    assert len(cases) == 1 and settings.who == "Dr. Ann Lee"

    begun = LabelReading("scan", "Carla", mode="adjudication", ct_sha256=dataset.case("scan").sha256)
    save(dataset, begun)
    again = {d.case: d.command for d in agreed(dataset, readers=["Anna", "Bob"]).worst}
    assert "--reader Carla --adjudicate" in again["scan"], "who began the adjudication goes on with it"
    assert agreed(dataset).to_json()["worst"][0]["command"] in again.values()


def test_a_reader_who_differs_from_an_own_second_reading_opens_that(tmp_path, monkeypatch):
    dataset = made(tmp_path, ["Anna", "Bob"])
    labels = column(("T9", "T10"), at=-20.0)
    read(dataset, "scan", "Anna", labels)
    save(dataset, LabelReading("scan", "Anna", 2, state="final", mode="blinded",
                               ct_sha256=dataset.case("scan").sha256, labels=tuple(
                                   moved(labels, lambda _: np.array([0.0, 2.5, 0.0])))))  # fmt: skip
    command = agreed(dataset).worst[0].command
    assert command.startswith("vfq annotate ") and command.endswith(" --reader Anna --case scan")


# --- against the automatic result


def test_the_automatic_result_is_compared_with_readers_and_consensus(tmp_path):
    from test_formats import analysis_of
    from VertebralFractureQuantLib.report.outputs import write_outputs

    dataset = made(tmp_path, ["Anna", "Bob"])
    case = dataset.cases["scan"]
    found = analysis_of([box(-30.0 * i, 21) for i in range(4)], ("T9", "T10", "T11", "T12"))
    spacing = (2.5, 2.0, 2.0)
    found = replace(found, shape=case.shape, ijk_to_ras=case.ijk_to_ras, spacing_mm=spacing)
    write_outputs(found, None, tmp_path / "results", pictures=False)
    true = [Label(v.level, v.keypoints) for v in found.vertebrae[:3]]
    read(dataset, "scan", "Anna", moved(true, lambda i: np.array([0.0, 1.0, 0.0])))
    read(dataset, "scan", "Bob", moved(true, lambda i: np.array([0.0, -1.0, 0.0])))
    result = agreed(dataset, analyses=tmp_path / "results")
    by = {c.sources: values(c.estimates) for c in result.compared}
    assert by[(AUTOMATIC, "Anna")]["point_mm"] == pytest.approx(1.0)
    assert by[(AUTOMATIC, CONSENSUS)]["point_mm"] == pytest.approx(0.0, abs=1e-9)
    assert by[(AUTOMATIC, CONSENSUS)]["precision"] == pytest.approx(3 / 4)
    assert by[(AUTOMATIC, CONSENSUS)]["recall"] == 1 and by[("Anna", "Bob")]["point_mm"] == pytest.approx(2.0)
    other = replace(
        found, ijk_to_ras=case.ijk_to_ras + np.diag([0, 0, 0, 0.0]) + np.eye(4)[:, [3]] @ np.eye(4)[[3]] * 0
    )
    shifted = other.ijk_to_ras.copy()
    shifted[2, 3] += 5
    write_outputs(replace(found, ijk_to_ras=shifted), None, tmp_path / "results", overwrite=True, pictures=False)
    result = agreed(dataset, analyses=tmp_path / "results")
    assert [c.kind for c in result.compared] == ["readers"]
    assert "belongs to another CT" in result.left_out[0]


# --- consensus


def test_the_consensus_keeps_every_reading_and_says_where_a_third_reader_must_decide(two):
    labels = column(LEVELS)
    read(two, "c0", "Anna", labels)
    other = moved(labels, lambda i: np.array([0.0, 0.4, 0.0]))
    other[1] = replace(other[1], keypoints=body(-30.0, front=15))  # another grade
    other[2] = moved(labels, lambda i: np.array([0.0, 3.0, 0.0]))[2]  # 3 mm
    other[3] = replace(other[3], level="L2")
    read(two, "c0", "Bob", other[:5])
    before = snapshot(two.folder / "readings")
    assert write_consensus(load(two.folder), "mean") == 4
    assert snapshot(two.folder / "readings") == before
    data = validated(json.loads((two.folder / "consensus" / "c0.json").read_text()), "vfq-consensus/1")
    doubts = [v["doubts"] for v in data["vertebrae"]]
    assert doubts == [[], ["grade", "points"], ["points"], ["level"], [], ["not_all_readers"]]
    first = np.array(data["vertebrae"][0]["keypoints"])
    np.testing.assert_allclose(first, np.asarray(labels[0].keypoints) + [0, 0.2, 0])
    assert sorted(r["called"] for r in data["readings"]) == ["A", "B"]


def test_the_median_resists_one_reader_and_an_adjudication_decides(tmp_path):
    dataset = dataset_with(tmp_path / "set", ["c0"], ("Anna", "Bob", "Cleo", "Dora"))
    labels = column(("T9", "T10"))
    for reader, shift in (("Anna", 0.0), ("Bob", 0.2), ("Cleo", 9.0)):
        read(dataset, "c0", reader, moved(labels, lambda i, shift=shift: np.array([0.0, shift, 0.0])))
    assert write_consensus(load(dataset.folder), "median") == 2
    (found,) = read_consensus(dataset)
    np.testing.assert_allclose(found.labels[0].keypoints, np.asarray(labels[0].keypoints) + [0, 0.2, 0])
    read(dataset, "c0", "Dora", moved(labels[:1], lambda i: np.array([0.0, 1.0, 0.0])), mode="adjudication")
    assert write_consensus(load(dataset.folder), "median") == 1
    (found,) = read_consensus(dataset)
    np.testing.assert_allclose(found.labels[0].keypoints, np.asarray(labels[0].keypoints) + [0, 1.0, 0])
    result = agreed(dataset)
    assert {s for c in result.compared for s in c.sources} == {"Anna", "Bob", "Cleo"}
    (file,), _ = export(load(dataset.folder), tmp_path / "out", "reference", consensus=True)
    assert len(json.loads(file.read_text())["vertebrae"]) == 2


def test_readers_have_other_letters_in_other_cases(tmp_path):
    dataset = dataset_with(tmp_path / "set", [f"c{i}" for i in range(8)], ("Anna", "Bob"))
    for case in dataset.cases:
        for reader in dataset.readers:
            read(dataset, case, reader, column(("T9",)))
    write_consensus(load(dataset.folder), "mean")
    texts = [json.loads(path.read_text()) for path in (dataset.folder / "consensus").iterdir()]
    assert {r["called"] for data in texts for r in data["readings"] if r["reader"] == "Anna"} == {"A", "B"}


# --- statistics, against other programs


def ratings(seed: int, raters: int = 3, n: int = 60) -> np.ndarray:
    rng = np.random.default_rng(seed)
    true = rng.normal(0.8, 0.12, n)
    return true[:, None] + rng.normal(0, 0.04, (n, raters)) + rng.normal(0, 0.01, raters)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("raters", [2, 3, 5])
def test_the_icc_is_that_of_pingouin(seed, raters):
    pingouin, pandas = pytest.importorskip("pingouin"), pytest.importorskip("pandas")
    found = ratings(seed, raters)
    n = len(found)
    long = {"s": np.repeat(np.arange(n), raters), "r": np.tile(np.arange(raters), n), "v": found.ravel()}
    table = pingouin.intraclass_corr(pandas.DataFrame(long), "s", "r", "v").set_index("Type")
    assert icc_a1(found) == pytest.approx(float(table.loc["ICC(A,1)", "ICC"]), abs=1e-9)


def test_the_icc_of_shrout_and_fleiss():
    """The example of Shrout & Fleiss 1979: six subjects, four judges, ICC(2,1) = 0.29."""
    judged = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)
    assert icc_a1(judged) == pytest.approx(0.2898, abs=5e-5)
    assert np.isnan(icc_a1(judged[:1])) and np.isnan(icc_a1(np.ones((3, 2))))


def test_weighted_kappa_is_that_of_its_definition_and_of_statsmodels():
    from statsmodels.stats.inter_rater import cohens_kappa

    one, other = (np.digitize(ratings(5)[:, i], [0.6, 0.75, 0.8]) for i in (0, 1))
    counts = np.zeros((4, 4))
    np.add.at(counts, (one, other), 1)
    weights = (np.arange(4)[:, None] - np.arange(4)) ** 2
    chance = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
    expected = 1 - (weights * counts).sum() / (weights * chance).sum()
    assert weighted_kappa(one, other, 4) == pytest.approx(expected)
    assert cohens_kappa(counts, weights=np.arange(4), wt="quadratic").kappa == pytest.approx(expected)
    assert np.isnan(weighted_kappa(np.zeros(5, int), np.zeros(5, int), 4)) and weighted_kappa(one, one, 4) == 1


def test_fleiss_kappa_is_that_of_its_paper():
    """The example of Fleiss 1971, as in textbooks: ten subjects, fourteen raters, five categories, kappa 0.210."""
    counts = [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1], [7, 7, 0, 0, 0],
              [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]]  # fmt: skip
    rated = np.array([np.repeat(np.arange(5), row) for row in counts])
    assert fleiss_kappa(rated, 5) == pytest.approx(0.210, abs=5e-4)
    assert np.isnan(fleiss_kappa(np.zeros((3, 3), int), 4))


# --- the public annotations


@pytest.mark.thorough
def test_the_public_annotations_give_the_known_agreement_of_experts(tmp_path, data_dir):
    """Experts 1 to 3: the mean SD of G is .018, and points are .47 mm from the mean, as measured before."""
    files = sorted((data_dir / "annotations").glob("*.json"))
    create(tmp_path / "set", "public", {})
    import_files(tmp_path / "set", files, Settings())
    found = measure_agreement(load(tmp_path / "set"), None, ("expert1", "expert2", "expert3"), repeats=0)
    figures = values(found.compared[0].estimates)
    assert figures["mean_ratio_sd"] == pytest.approx(0.018, abs=5e-4)
    assert figures["point_to_mean_in_plane_mm"] == pytest.approx(0.47, abs=5e-3)
    known = scatter(read_annotations(data_dir / "annotations")[0])
    assert found.compared[0].vertebrae == known.vertebrae
    assert figures["ratio_sd"] == pytest.approx(known.ratio_sd, rel=1e-9)
    assert figures["height_sd_mm"] == pytest.approx(known.height_sd_mm, rel=1e-9)
    assert figures["point_to_mean_in_plane_mm"] == pytest.approx(known.point_mm, rel=1e-9)


# --- the command


def test_the_command_writes_a_page_of_its_own_and_json(two, tmp_path):
    odd = "<b>Zo\N{LATIN SMALL LETTER E WITH DIAERESIS}</b> [/x] $\\y$"
    with changing(two.folder) as held:
        held[0] = replace(held[0], readers=(*held[0].readers, odd))
    dataset = load(two.folder)
    for i, case in enumerate(dataset.cases):
        for j, reader in enumerate(dataset.readers):
            fronts = [22 - 0.75 * k * (i + j) for k in range(6)]
            labels = [Label(LEVELS[k], body(-30.0 * k, front=h), seconds=10.0 + k) for k, h in enumerate(fronts)]
            read(dataset, case, reader, labels)
    out = tmp_path / "out"
    code, text = run("agreement", dataset.folder, "-o", out, "--repeats", 20, "--consensus", "mean")
    assert code == 0, text
    data = validated(json.loads((out / "agreement.json").read_text(encoding="utf-8")), "vfq-agreement/1")
    assert [c["kind"] for c in data["compared"]] == ["readers", "pair", "pair", "pair"]
    assert data["effort"]["Anna"] == {"readings": 3, "vertebrae": 18, "median_seconds": 12.5, "blinded": 0}
    assert "[/x] $\\y$" in text and "[/x]" in run("dataset", "status", dataset.folder)[1]
    html = (out / "agreement.html").read_text(encoding="utf-8")
    assert odd not in html and "&lt;b&gt;Zo" in html and html.count("<svg") == 4
    assert "src=" not in html.replace('src="data:', "") and "<script" not in html
    assert html == page(measure_agreement(load(dataset.folder), repeats=20))  # the same each time
    assert run("agreement", dataset.folder, "-o", out)[0] == 3


def test_a_set_with_nothing_to_compare_is_refused(two, tmp_path):
    message = refused("nothing_to_evaluate", agreed, two)
    assert "Finish readings" in message
    read(two, "c0", "Anna", column(LEVELS))
    refused("nothing_to_evaluate", agreed, two)
    refused("unknown_reader", agreed, two, readers=["Nobody"])
    assert not Path(tmp_path / "agreement").exists()


def test_a_missing_package_is_named(two, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    read(two, "c0", "Anna", column(LEVELS))
    assert "[agreement]" in refused("missing_dependency", agreed, two)
