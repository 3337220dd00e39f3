"""A prior study beside the open one, without a page: match, aligned views, live changes, two journals, the overlay."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from jsonschema import Draft202012Validator, FormatChecker

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install '.[review]'")

from pace import processor_ms, slowness  # noqa: E402
from test_follow_up import again, spine, texture  # noqa: E402
from test_scene import Listening, drag  # noqa: E402
from VertebralFractureQuantLib.errors import VFQError  # noqa: E402
from VertebralFractureQuantLib.followup import comparison  # noqa: E402
from VertebralFractureQuantLib.followup.comparison import Comparison, Examination, aligned, compare  # noqa: E402
from VertebralFractureQuantLib.followup.reader_match import ReaderMatch  # noqa: E402
from VertebralFractureQuantLib.imaging.ct import CTVolume  # noqa: E402
from VertebralFractureQuantLib.phantom import PhantomOptions, make_phantom  # noqa: E402
from VertebralFractureQuantLib.report.comparison_files import read_examination  # noqa: E402
from VertebralFractureQuantLib.report.matches import SCHEMA, read_matches, write_match  # noqa: E402
from VertebralFractureQuantLib.report.outputs import write_outputs, write_straightened  # noqa: E402
from VertebralFractureQuantLib.report.readings import own_folder  # noqa: E402
from VertebralFractureQuantLib.report.schemas import schema  # noqa: E402
from VertebralFractureQuantLib.scene import navigation, pair_match  # noqa: E402
from VertebralFractureQuantLib.scene.keys import KEYS, LAYOUT_KEYS  # noqa: E402
from VertebralFractureQuantLib.scene.opening import prepare  # noqa: E402
from VertebralFractureQuantLib.scene.pair import Pair, PriorReview, column_of, digest_of, examination  # noqa: E402
from VertebralFractureQuantLib.scene.pair_keys import PAIR_KEYS  # noqa: E402
from VertebralFractureQuantLib.scene.pair_match import Column, Match, found, scan_digest, shifted  # noqa: E402
from VertebralFractureQuantLib.scene.pair_overlay import Bend, bent, checkered, rigid  # noqa: E402
from VertebralFractureQuantLib.scene.pair_views import middle_of  # noqa: E402
from VertebralFractureQuantLib.scene.review import Review  # noqa: E402
from VertebralFractureQuantLib.scene.study import StudyScene  # noqa: E402
from VertebralFractureQuantLib.scene.views import NOWHERE, Views  # noqa: E402
from VertebralFractureQuantLib.spine.curve import fit_curve  # noqa: E402
from VertebralFractureQuantLib.spine.genant import measure_column  # noqa: E402
from VertebralFractureQuantLib.spine.record import SpineAnalysis, Vertebra, remeasured  # noqa: E402
from VertebralFractureQuantLib.spine.straightening import Straightening  # noqa: E402

LEVELS = ("T10", "T11", "T12", "L1", "L2")
NO_NETWORKS = VFQError("bad_weights", "-")
MINUS = "\N{MINUS SIGN}"
SAGITTAL = (0, 0, 1, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1)


@pytest.fixture(scope="module")
def ct() -> CTVolume:
    """A gradient in a scan around the spine."""
    voxels = np.add.outer(np.add.outer(np.arange(90), np.arange(80)), np.arange(85)).astype(np.int16) - 200
    matrix = np.diag([2.0, 2.0, 2.8, 1.0])
    matrix[:3, 3] = (-85.0, -80.0, -245.0)
    return CTVolume(voxels, matrix, "gradient")


def body(s: float, i: int) -> np.ndarray:
    """Key points `(3, 2, 3)` straight mm of the `i`-th vertebra of one patient, each of a size of its own."""
    depth, height = 24.0 + 2.5 * i, 20.0 + 1.2 * i
    return np.array([[[0.3, a, s + h] for h in (height / 2, -height / 2)] for a in (depth / 2, 0.0, -depth / 2)])


def record(ct: CTVolume, name: str, bend: float, start: float, ids: range, levels=LEVELS, scale=1.0) -> SpineAnalysis:
    """A scan in which the vertebrae `ids` of the patient lie along a curve; the first one at S = `start`."""
    s = np.linspace(0, -240, 40)
    curve = fit_curve(np.stack([bend * np.sin(s / 60), bend * np.cos(s / 90), s], 1))
    keypoints = np.stack(
        [Straightening(curve).to_patient(scale * body((start - 33.0 * (i - ids[0])) / scale, i)) for i in ids]
    )
    measured = measure_column(keypoints, [0.03] * len(ids))
    vertebrae = tuple(
        Vertebra(k, m, 0.99, levels[i], spread=0.03) for k, m, i in zip(keypoints, measured, ids, strict=True)
    )
    return SpineAnalysis(
        name,
        shape=ct.voxels.shape,
        spacing_mm=ct.spacing_mm,
        ijk_to_ras=ct.ijk_to_ras,
        curve=curve.points,
        limits_mm=(0.0, curve.length),
        vertebrae=vertebrae,
    )


class Face(Listening):
    """A face that reports to a pair, as the page and the panel do."""

    def __init__(self, scene, prior: bool):
        super().__init__(scene)
        self.pair: Pair | None = None
        self.review: Review | None = None
        if prior:
            self.patient = []
        composite = scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
        for node in (self.straightened, composite):
            node.SetLayoutName("Prior" if prior else "Straightened")
        for node in (self.straightened, *self.patient):
            node.GetSliceToRAS().DeepCopy(SAGITTAL)
            node.UpdateMatrices()
            node.SetDimensions(300, 600, 1)

    def changed(self) -> None:
        self.followed(None)

    def followed(self, vertebra_ids: Collection[str] | None) -> None:
        if self.pair and self.review:
            self.pair.follow(self.review, vertebra_ids)


def opened(scene, ct: CTVolume, analysis: SpineAnalysis, folder: Path, prior: bool) -> Review:
    face = Face(scene, prior)
    views = Views((face.straightened.GetID(),), NOWHERE if prior else (face.patient[0].GetID(),))
    face.review = (PriorReview if prior else Review)(StudyScene(scene, views), face, "reader")
    face.review.open(prepare(ct, analysis, analysis.case), folder, NO_NETWORKS)
    return face.review


def paired(prior: Review, current: Review) -> Pair:
    (before, old), (now, new) = examination(prior), examination(current)
    before, now = (replace(each, straightened=None) for each in (before, now))  # a gradient shows no bones
    pair = Pair(prior, current, found(before, now, old, new), scan_digest(before.analysis))
    prior.face.pair = current.face.pair = pair
    return pair


@pytest.fixture
def both(ct, tmp_path) -> Iterator[Pair]:
    """The whole column before, and its four lower vertebrae now, in another posture."""
    scene = slicer.vtkMRMLScene()
    prior = opened(scene, ct, record(ct, "before", 14.0, -20.0, range(5)), tmp_path / "before", True)
    current = opened(scene, ct, record(ct, "now", -10.0, -40.0, range(1, 5)), tmp_path / "now", False)
    pair = paired(prior, current)
    yield pair
    pair.leave()
    for review in (prior, current):
        review.close()


def place_of(review: Review, vertebra_id: str) -> np.ndarray:
    """Where a body's middle lies in its view: (A, S) from the view's middle, in pixels."""
    node = review.face.straightened
    mm = node.GetFieldOfView()[0] / node.GetDimensions()[0]
    return ((review.study.vertebrae[vertebra_id].straight().mean((0, 1)) - middle_of(node)) / mm)[1:]


def of_level(review: Review, level: str) -> str:
    return next(i for i in review.order if review.study.label(i) == level)


def row_of(pair: Pair, level: str) -> dict:
    return next(r for r in pair.rows if r["level"] == level)


def test_the_vertebrae_are_matched_and_unchanged_in_another_posture(both):
    assert [r["level"] for r in both.rows] == list(LEVELS)
    assert [r["verdict"] for r in both.rows] == ["not comparable"] + ["unchanged"] * 4
    assert both.rows[0]["reason"] == "not in the current scan" and both.rows[0]["id"] is None
    assert both.summary == "4 unchanged, 1 not comparable" and both.doubt == ""
    assert row_of(both, "L1")["g"].startswith("0.00 ± ")


@pytest.mark.parametrize("leads", ["current", "prior"])
def test_a_selected_vertebra_is_selected_in_the_other_study_at_the_same_place(both, leads):
    leader, other = (both.current, both.prior) if leads == "current" else (both.prior, both.current)
    for level in ("L2", "T11", "L1"):
        leader.select(of_level(leader, level))
        assert other.study.label(other.selected) == level
        places = [place_of(review, of_level(review, level)) for review in (leader, other)]
        assert np.allclose(*places, atol=0.01), level
    leader.act("toggle_close_up")
    fields = [review.face.straightened.GetFieldOfView()[0] for review in (leader, other)]
    assert fields[0] < 90 and fields[0] == pytest.approx(fields[1])


def test_a_vertebra_without_a_match_deselects_the_other_one(both):
    both.prior.select(of_level(both.prior, "T10"))
    assert both.current.selected is None
    both.current.select(of_level(both.current, "T12"))
    assert both.prior.study.label(both.prior.selected) == "T12"


def test_either_view_scrolls_and_zooms_the_other(both):
    both.current.select(of_level(both.current, "L1"))
    for leader, other in ((both.current, both.prior), (both.prior, both.current)):
        node = leader.face.straightened
        navigation.fit(node, middle_of(node) + [3.0, 5.0, -20.0], 60.0, 120.0)
        places = [place_of(review, of_level(review, "L1")) for review in (leader, other)]
        assert np.allclose(*places, atol=0.01)
        planes = [middle_of(r.face.straightened)[0] - r.study.plane_of(r.selected) for r in (leader, other)]
        assert planes[0] == pytest.approx(planes[1], abs=0.01)


def test_far_from_the_selected_vertebra_the_nearest_ones_align(both):
    both.current.select(of_level(both.current, "T11"))
    node, l2 = both.current.face.straightened, of_level(both.current, "L2")
    navigation.fit(node, both.current.study.vertebrae[l2].straight().mean((0, 1)), 30.0, 30.0)
    assert np.allclose(place_of(both.prior, of_level(both.prior, "L2")), 0.0, atol=0.01)


def test_a_view_of_another_size_follows_the_current_one(both):
    both.current.select(of_level(both.current, "L1"))
    before = middle_of(both.current.face.straightened)
    both.prior.face.straightened.SetDimensions(500, 700, 1)
    assert np.allclose(middle_of(both.current.face.straightened), before)
    assert np.allclose(*(place_of(r, of_level(r, "L1")) for r in (both.current, both.prior)), atol=0.01)


def test_changes_follow_a_drag_in_either_study_and_each_keeps_its_own_undo(both):
    current, prior = both.current, both.prior
    for node in current.study.vertebrae.values():
        assert node.node is not prior.study.vertebrae.get(node.id)
    l1 = of_level(current, "L1")
    drag(current.study, l1, (0.0, 0.0, -9.0))
    row = row_of(both, "L1")
    assert row["verdict"] == "new fracture" and row["kind"] == "worse"
    change = current.study.measurements[l1].heights_mm[0] - prior.study.measurements[row["prior"]].heights_mm[0]
    assert row["ha"] == f"{MINUS}{-100 * change / prior.study.measurements[row['prior']].heights_mm[0]:.0f} %"
    assert f"A {MINUS}{-change:.1f} ± " in row["detail"] and both.summary.startswith("3 unchanged, 1 new fracture (L1)")
    drag(prior.study, row["prior"], (0.0, 0.0, -9.0))
    assert row_of(both, "L1")["verdict"] == "unchanged"
    assert current.editor.journal.undoable == prior.editor.journal.undoable == "move"
    current.act("undo")
    assert row_of(both, "L1")["verdict"] == "better" and current.editor.journal.undoable is None
    prior.act("undo")
    assert row_of(both, "L1")["verdict"] == "unchanged" and prior.editor.journal.undoable is None


def test_a_rejected_and_a_deleted_vertebra_are_not_compared(both):
    both.current.select(of_level(both.current, "T12"))
    both.current.act("reject")
    assert row_of(both, "T12")["reason"] == "rejected now"
    both.current.select(of_level(both.current, "T11"))
    both.current.act("delete")
    assert row_of(both, "T11")["reason"] == "not in the current scan"
    assert row_of(both, "L2")["verdict"] == "unchanged"
    both.current.act("undo")
    assert row_of(both, "T11")["verdict"] == "unchanged"


def test_another_readers_prior_is_only_looked_at(both):
    both.prior.read_only = "This is another reader's reading."
    before = row_of(both, "L1")
    drag(both.prior.study, before["prior"], (0.0, 0.0, -9.0))
    both.prior.select(before["prior"])
    both.prior.act("confirm")
    assert both.prior.face.said == ["This is another reader's reading."] * 2
    assert row_of(both, "L1") == before and both.prior.editor.journal.undoable is None


def test_following_a_drag_costs_little(both):
    ids = both.current.order[:3]
    spent = [processor_ms(lambda: both.follow(both.current, ids)) for _ in range(40)]
    assert np.median(spent) < 2.0 * slowness()


def test_the_window_of_the_current_study_is_that_of_both(both):
    both.current.act("choose_window", "soft")
    assert both.prior.window == both.current.window == (400.0, 40.0)
    shown = [r.study.nodes["straightened"].GetDisplayNode().GetWindow() for r in (both.current, both.prior)]
    assert shown == [400.0, 400.0]


def test_nothing_of_the_prior_is_drawn_in_the_views_of_the_patient(both):
    views = {both.prior.face.straightened.GetID(), *NOWHERE}
    both.prior.select(of_level(both.prior, "L1"))
    nodes = [n for v in both.prior.study.vertebrae.values() for n in (v.node, v.mirror)]
    nodes += [both.prior.study.nodes[role] for role in ("outlines", "outlines-patient")]
    for node in nodes:
        shown = node.GetDisplayNode().GetViewNodeIDs()
        assert shown and set(shown) <= views, node.GetName()


def test_a_saved_scene_holds_the_current_study_alone(both, tmp_path):
    both.leave_out()
    scene, copy = both.current.study.scene, slicer.vtkMRMLScene()
    scene.SetRootDirectory(str(tmp_path))
    scene.SetURL(str(tmp_path / "scene.mrml"))
    scene.Commit()
    copy.SetURL(str(tmp_path / "scene.mrml"))
    copy.Import()
    assert copy.GetNumberOfNodesByClass("vtkMRMLMarkupsClosedCurveNode") == 2 * len(both.current.order)
    assert copy.GetNumberOfNodesByClass("vtkMRMLGridTransformNode") == 1
    assert copy.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 2


def test_no_key_of_a_pair_has_another_meaning():
    keys = [key for entry in (*KEYS, *PAIR_KEYS, *LAYOUT_KEYS) for key in entry.keys]
    assert len(keys) == len(set(keys))


# --- the match


def test_a_reader_corrects_the_match_and_it_is_kept(both, tmp_path):
    both.shift(-1)
    assert row_of(both, "L1")["prior"] == of_level(both.prior, "T12")
    assert row_of(both, "L1")["was"] == "T12" and "as reader corrected it" in both.doubt
    kept = json.loads((tmp_path / "now" / "matches.json").read_text())
    assert "before" not in json.dumps(kept)
    Draft202012Validator(schema(SCHEMA), format_checker=FormatChecker()).validate(kept)
    both.leave()
    again = paired(both.prior, both.current)
    assert row_of(again, "L1")["was"] == "T12"
    again.shift(1)
    assert row_of(again, "L1")["was"] == ""
    again.leave()


def test_a_kept_match_finds_its_vertebrae_after_one_was_deleted_and_set_again(both):
    both.shift(-1)
    both.leave()
    l1 = of_level(both.current, "L1")
    drag(both.current.study, l1, (0.0, 0.0, -4.0))
    both.current.select(both.current.order[0])
    both.current.act("delete")
    again = paired(both.prior, both.current)
    assert row_of(again, "L1")["was"] == "T12" and "as reader corrected it" in again.doubt
    again.leave()


def test_a_kept_match_that_cannot_be_used_is_said_and_not_used(both, tmp_path):
    both.shift(-1)
    both.leave()
    file = tmp_path / "now" / "matches.json"
    whole = json.loads(file.read_text())
    (prior,) = whole["matches"]
    moved = [{**pair, "prior": [0.0, 0.0, 999.0]} for pair in whole["matches"][prior]["pairs"]]
    for change, said in (
        ({"pairs": moved}, "no longer fits the vertebrae"),
        ({"scan": "0" * 16}, "made in another scan"),
        ({"pairs": {"v1": "v2"}}, "damaged, or of another version"),
    ):
        file.write_text(json.dumps({**whole, "matches": {prior: {**whole["matches"][prior], **change}}}))
        again = paired(both.prior, both.current)
        assert row_of(again, "L1")["was"] == "" and said in again.doubt, change
        again.leave()
    file.write_text("{")
    again = paired(both.prior, both.current)
    assert row_of(again, "L1")["was"] == "" and "the file is damaged" in again.doubt
    again.shift(-1)
    assert (tmp_path / "now" / "matches-damaged.json").read_text() == "{" and prior in json.loads(file.read_text())[
        "matches"
    ]
    again.leave()
    file.write_text("{{")
    again = paired(both.prior, both.current)
    again.shift(-1)
    damaged = [file.with_name(f"matches-damaged{number}.json").read_text() for number in ("", "-2")]
    assert damaged == ["{", "{{"] and prior in json.loads(file.read_text())["matches"]
    again.leave()


@pytest.fixture
def on_disk(tmp_path) -> Iterator[tuple[Review, Review]]:
    """Two examinations of a phantom patient without names, on disk and open for review."""
    scene = slicer.vtkMRMLScene()
    prior, current = spine(shift=None, case="before"), again(spine(first="T9", shift=None), case="after")
    reviews = []
    for analysis in (prior, current):
        write_outputs(analysis, None, tmp_path, pictures=False)
        stored = texture(analysis)
        image = sitk.GetImageFromArray(stored.voxels)  # LPS
        image.SetOrigin((-20.0, -64.0, -479.0))
        sitk.WriteImage(image, str(tmp_path / analysis.case / "straightened.nrrd"))
        ct = CTVolume(np.zeros(analysis.shape, np.int16), analysis.ijk_to_ras, analysis.case)
        reviews.append(opened(scene, ct, analysis, tmp_path / analysis.case, analysis is prior))
    yield reviews[0], reviews[1]
    for review in reviews:
        review.close()


def of_page(prior: Review, current: Review) -> Pair:
    (before, old), (now, new) = examination(prior), examination(current)
    pair = Pair(prior, current, found(before, now, old, new), digest_of(prior))
    prior.face.pair = current.face.pair = pair
    return pair


def on_page(pair: Pair) -> list[tuple[int, int]]:
    """The pairs of a page as indices (prior, current), cranial first."""
    return sorted((pair.prior.order.index(p), pair.current.order.index(c)) for c, p in pair.match.pairs.items())


def of_command(folder: Path) -> Comparison:
    return compare(read_examination(folder / "before"), read_examination(folder / "after"))


def test_page_and_command_find_the_same_match_by_the_same_images(on_disk, tmp_path):
    pair = of_page(*on_disk)
    alignment = of_command(tmp_path).alignment
    assert on_page(pair) == list(alignment.pairs) == [(i + 3, i) for i in range(9)]
    (before, _), (now, _) = map(examination, on_disk)
    told = aligned(before, now)
    assert (told.certainty, told.likeness) == (alignment.certainty, alignment.likeness)
    without = aligned(replace(before, straightened=None), now)
    assert without.likeness != told.likeness  # the images do have a say
    pair.leave()


def test_where_the_command_refuses_the_page_shows_the_match_that_the_command_refused(on_disk, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "LEAST_CERTAINTY", 2.0)
    pair = of_page(*on_disk)
    with pytest.raises(VFQError) as refused:
        of_command(tmp_path)
    examinations = (read_examination(tmp_path / name) for name in ("before", "after"))
    assert refused.value.code == "alignment_uncertain" and "It is not certain" in pair.summary
    assert on_page(pair) == list(aligned(*examinations).pairs)
    pair.leave()


def of_phantom(
    folder: Path, case: str, seed: int, later: int | None
) -> tuple[CTVolume, SpineAnalysis, tuple[str, ...]]:
    """Write the folder of a phantom's examination, measured at its true points without names; return the names too."""
    options = PhantomOptions(field_of_view="spine", spacing_mm=(1.5, 2.5), later=later, pathology=0.0)
    ct, truth = make_phantom(seed, options)
    vertebrae = [Vertebra(points, None, 0.9) for points in truth.keypoints]
    analysis = SpineAnalysis(
        case,
        shape=ct.voxels.shape,
        spacing_mm=ct.spacing_mm,
        ijk_to_ras=ct.ijk_to_ras,
        curve=fit_curve(truth.curve).points,
        limits_mm=truth.limits_mm,
        vertebrae=remeasured(vertebrae),
    )
    write_outputs(analysis, None, folder, pictures=False)
    write_straightened(analysis, ct, folder / case / "straightened.nrrd")
    return ct, analysis, truth.levels


@pytest.mark.thorough
@pytest.mark.parametrize(("other", "later", "code"), [(12, 3, ""), (31, None, "alignment_uncertain")])
def test_page_and_command_match_phantoms_alike_before_and_after_a_review(tmp_path, other, later, code):
    scene = slicer.vtkMRMLScene()
    cases = of_phantom(tmp_path, "before", 12, None), of_phantom(tmp_path, "after", other, later)
    levels = [names for *_, names in cases]
    reviews = [opened(scene, ct, a, tmp_path / a.case, a.case == "before") for ct, a, _ in cases]

    def alike() -> list[tuple[int, int]]:
        pair, told = of_page(*reviews), ""
        before, after = (read_examination(tmp_path / name) for name in ("before", "after"))
        try:
            pairs = compare(before, after).alignment.pairs
        except VFQError as error:
            told, pairs = error.code, aligned(before, after).pairs
        assert told == code and bool(pair.match.problem) == bool(code)
        assert on_page(pair) == list(pairs)
        pair.leave()
        return list(pairs)

    found = alike()
    if not code:
        assert len(found) >= 3 and all(levels[0][i] == levels[1][j] for i, j in found)
    for review in reviews:
        review.select(review.order[0])
        review.act("confirm")
        assert review.saving()() == ""
    assert (tmp_path / "after" / "machine-straightened.nrrd").exists() and alike() == found
    for review in reviews:
        review.close()


def test_the_command_takes_the_match_that_a_reader_corrected_on_the_page(on_disk, tmp_path):
    pair = of_page(*on_disk)
    pair.shift(1)
    found = of_command(tmp_path)
    assert list(found.alignment.pairs) == on_page(pair) == [(i + 4, i) for i in range(8)]
    assert found.alignment.reader == "reader" and found.alignment.certainty < 0.01 and not found.other_match
    assert [(c.prior, c.current) for c in found.compared] == list(found.alignment.pairs)
    pair.shift(-1)
    assert of_command(tmp_path).alignment.pairs[0] == (3, 0)
    pair.leave()


def test_the_command_finds_a_corrected_match_after_a_review_was_saved(on_disk, tmp_path):
    prior, current = on_disk
    pair = of_page(prior, current)
    pair.shift(1)
    current.select(current.order[0])
    current.act("delete")
    prior.select(prior.order[-1])
    prior.act("confirm")
    for review in on_disk:
        assert review.saving()() == ""
    assert (tmp_path / "before" / "machine.json").exists()
    found = of_command(tmp_path)
    assert list(found.alignment.pairs) == on_page(pair) == [(i + 5, i) for i in range(7)]
    pair.leave()


def test_a_match_is_not_changed_in_a_signed_reading_of_another_reader(both, monkeypatch):
    monkeypatch.setattr(Review, "locked", property(lambda _: "Signed by B."))
    with pytest.raises(VFQError) as refused:
        both.shift(1)
    assert refused.value.code == "signed_reading" and row_of(both, "L1")["was"] == ""


def columns() -> tuple[Column, Column]:
    return Column(("a", "b", "d"), (0, 1, 3)), Column(("1", "2", "3"), (0, 1, 2))


def test_a_match_is_an_offset_so_gaps_and_new_vertebrae_keep_their_places():
    before, now = columns()
    match = Match({"1": "b", "3": "d"})
    assert pair_match.followed(match, before, now).pairs == {"1": "b", "3": "d"}
    more = Column(("0", "1", "2", "3"), (0, 1, 2, 3))
    assert pair_match.followed(match, before, more).pairs == {"0": "a", "1": "b", "3": "d"}
    assert shifted(match, -1, before, now, "A").pairs == {"1": "a", "2": "b"}
    with pytest.raises(VFQError) as refused:
        shifted(Match({"3": "a"}), -1, before, now, "A")
    assert refused.value.code == "no_level_in_common"
    assert shifted(Match({}), 1, before, now, "A").pairs == {"3": "a"}
    assert shifted(Match({}), -1, before, now, "A").pairs == {"1": "d"}


def test_the_same_study_twice_is_refused(ct, tmp_path):
    one = Examination(record(ct, "one", 14.0, -20.0, range(5)))
    column = Column(tuple("abcde"), tuple(range(5)))
    with pytest.raises(VFQError) as refused:
        found(one, replace(one, analysis=replace(one.analysis, case="copy")), column, column)
    assert refused.value.code == "same_study"


def test_scans_of_different_weights_are_compared_with_a_doubt(ct):
    from VertebralFractureQuantLib.spine.record import ModelStamp

    stamps = [(ModelStamp("detector", "detector", 64 * letter),) for letter in "12"]
    before, now = record(ct, "before", 14.0, -20.0, range(5)), record(ct, "now", -10.0, -40.0, range(5))
    column = Column(tuple("abcde"), tuple(range(5)))
    one, other = (Examination(replace(each, models=m)) for each, m in zip((before, now), stamps, strict=True))
    match = found(one, other, column, column)
    assert match.holds and "different weights of detector" in match.doubt
    same = replace(other, analysis=replace(other.analysis, models=stamps[0]))
    assert found(one, same, column, column).doubt == ""


def test_what_may_not_be_compared_is_said_until_a_reader_matches_it(ct, tmp_path):
    scene = slicer.vtkMRMLScene()
    cervical = ("C3", "C4", "C5", "C6", "C7")
    prior = opened(scene, ct, record(ct, "before", 14.0, -20.0, range(5), cervical, scale=0.6), tmp_path / "a", True)
    current = opened(scene, ct, record(ct, "now", -10.0, -40.0, range(1, 5)), tmp_path / "b", False)
    pair = paired(prior, current)
    assert pair.rows == [] and "no vertebra is in both scans" in pair.summary
    current.select(current.order[0])
    pair.shift(1)
    assert len(pair.rows) == 8 and "as reader corrected it" in pair.doubt and "no vertebra" in pair.doubt
    pair.leave()
    prior.close()
    current.close()


def test_scans_of_two_patients_are_said(ct, tmp_path):
    scene = slicer.vtkMRMLScene()
    analysis = record(ct, "before", 14.0, -20.0, range(5), scale=0.8)
    order = (2, 0, 4, 1, 3)  # sizes that fit at no level
    shapes = [0.8 * body((-20.0 - 33.0 * i) / 0.8, size) for i, size in enumerate(order)]
    keypoints = Straightening(fit_curve(analysis.curve)).to_patient(np.stack(shapes))
    other = [replace(v, keypoints=k) for v, k in zip(analysis.vertebrae, keypoints, strict=True)]
    prior = opened(scene, ct, replace(analysis, vertebrae=tuple(other)), tmp_path / "a", True)
    current = opened(scene, ct, record(ct, "now", -10.0, -20.0, range(5)), tmp_path / "b", False)
    pair = paired(prior, current)
    assert pair.rows == [] and "unlikely to be those of one patient" in pair.summary
    pair.leave()
    prior.close()
    current.close()


def test_a_study_without_vertebrae_is_said(ct, tmp_path):
    scene = slicer.vtkMRMLScene()
    failed = replace(record(ct, "before", 14.0, -20.0, range(5)), vertebrae=(), status="no_vertebra_found", message="-")
    prior = opened(scene, ct, failed, tmp_path / "a", True)
    current = opened(scene, ct, record(ct, "now", -10.0, -40.0, range(1, 5)), tmp_path / "b", False)
    pair = paired(prior, current)
    assert pair.rows == [] and "the analysis failed" in pair.summary
    pair.leave()
    prior.close()
    current.close()


# --- the overlay


def test_bodies_are_moved_as_rigid_bones_onto_their_matches():
    rng = np.random.default_rng(3)
    now = np.stack([body(-40.0 - 34.0 * i, i) for i in range(4)])[::-1]
    before = np.empty_like(now)
    for i, points in enumerate(now):
        turn, shift = rng.uniform(-0.3, 0.3), rng.uniform(-10, 10, 2)
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        before[i, ..., 1:] = points[..., 1:] @ matrix.T + shift
        before[i, ..., 0] = points[..., 0] + 2.0
        assert np.allclose(rigid(points[..., 1:], before[i, ..., 1:]), np.column_stack([matrix, shift]))
    bend = Bend.of(now, before)
    points, goal = now.reshape(-1, 3), before.reshape(-1, 3)
    moves, aside = bend.at(points[:, 2])
    moved = np.einsum("nij,nj->ni", moves, np.column_stack([points[:, 1:], np.ones(len(points))]))
    assert np.allclose(moved, goal[:, 1:], atol=1e-6) and np.allclose(points[:, 0] + aside, goal[:, 0])


def test_a_lost_height_stays_visible_in_the_overlay():
    whole, crushed = body(-40.0, 2), body(-40.0, 2)
    crushed[:, 0, 2] -= 8.0
    move = rigid(crushed[..., 1:], whole[..., 1:])
    assert np.allclose(np.linalg.det(move[:, :2]), 1.0)
    moved = crushed[..., 1:] @ move[:, :2].T + move[:, 2]
    assert np.ptp(moved[..., 1]) == pytest.approx(np.ptp(crushed[..., 2]))


def test_the_prior_image_is_bent_onto_the_current_one():
    place = np.diag([1.0, 0.75, 0.75, 1.0])
    place[:3, 3] = (-4.0, -30.0, -120.0)
    shape = (161, 81, 9)
    k, j, _ = np.indices(shape)
    prior = (3 * (place[2, 3] + 0.75 * k) + 2 * (place[1, 3] + 0.75 * j)).astype(np.int16)
    now = np.stack([body(-80.0, 0), body(-40.0, 1)])
    before = now + [0.0, 3.0, -6.0]
    image = bent(prior, place, shape, place, Bend.of(now, before))
    wanted = 3 * (place[2, 3] + 0.75 * k - 6.0) + 2 * (place[1, 3] + 0.75 * j + 3.0)
    shown = np.isfinite(image)
    assert 0.8 < shown.mean() < 1.0 and np.abs(image - wanted)[shown].max() < 2.0


def test_a_checkerboard_has_squares_of_both_images():
    image = checkered(np.zeros((64, 64, 2)), np.ones((64, 64, 2)), 0.75)
    assert image.mean() == pytest.approx(0.5) and image[0, 0, 0] == 0 and image[0, 16, 0] == image[16, 0, 0] == 1


def test_the_overlay_is_a_foreground_of_the_straightened_view(both):
    compute = both.overlay.prepare("fade")
    image = compute()
    assert image.dtype == np.int16
    both.overlay.show("fade", image, both.current.window)
    composite = slicer.vtkMRMLSliceLogic.GetSliceCompositeNode(both.current.face.straightened)
    assert composite.GetForegroundOpacity() == 0.5
    assert both.current.study.scene.GetNodeByID(composite.GetForegroundVolumeID()).GetName() == "Prior"
    count = both.current.study.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    both.overlay.hide()
    assert both.current.study.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == count - 1
    assert not composite.GetForegroundVolumeID()


def test_own_readings_keep_their_own_matches(tmp_path):
    own = own_folder(tmp_path, "B")
    own.mkdir(parents=True)
    match = ReaderMatch("A", (((0.0, 1.0, 2.0), (3.0, 4.0, 5.0)),))
    write_match(tmp_path, "1", "x", match)
    assert read_matches(tmp_path, "1").of("x") == match and read_matches(own, "1").of("x") is None


def test_the_column_of_a_study_is_that_of_its_record(both):
    column = column_of(both.current.study)
    assert column.ids == tuple(both.current.order) and column.slots == (0, 1, 2, 3)
