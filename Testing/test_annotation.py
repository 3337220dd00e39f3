"""Annotation without a browser: time, what is due, what the page refuses, and labels as they are saved."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from label_bench import body, column, dataset_with, made
from typer.testing import CliRunner
from VertebralFractureQuantLib.cli.annotate import readings_to_do
from VertebralFractureQuantLib.cli.app import app
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.labels.assigning import assign
from VertebralFractureQuantLib.labels.dataset import Case, changing, create, load, with_cases, with_readers
from VertebralFractureQuantLib.labels.reading import Label, LabelReading
from VertebralFractureQuantLib.labels.status import due
from VertebralFractureQuantLib.labels.store import history, newest, read_reading, save

slicer = pytest.importorskip("slicer", reason="needs MRML: pip install '.[review]'")

import test_scene  # noqa: E402
from VertebralFractureQuantLib.imaging.files import read_ct  # noqa: E402
from VertebralFractureQuantLib.report.markups import POINT_NAMES  # noqa: E402
from VertebralFractureQuantLib.scene import annotation_keys  # noqa: E402
from VertebralFractureQuantLib.scene.annotating import Annotation  # noqa: E402
from VertebralFractureQuantLib.scene.annotation_review import AnnotationActions, AnnotationReview  # noqa: E402
from VertebralFractureQuantLib.scene.annotation_start import begin, keep_record, load_case, work_folder  # noqa: E402
from VertebralFractureQuantLib.scene.placing import Placing  # noqa: E402
from VertebralFractureQuantLib.scene.stopwatch import IDLE_S, PLACING, Stopwatch  # noqa: E402
from VertebralFractureQuantLib.scene.study import StudyScene  # noqa: E402
from VertebralFractureQuantLib.scene.views import Views  # noqa: E402
from VertebralFractureQuantLib.spine.keypoints import outline  # noqa: E402
from VertebralFractureQuantLib.spine.record import SpineAnalysis, Vertebra  # noqa: E402

NO_NETWORKS = VFQError("bad_weights", "No networks here.")


class Clock:
    """Seconds that a test sets."""

    def __init__(self):
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


# --- time


def test_time_goes_to_the_vertebra_that_was_selected_and_breaks_count_one_minute():
    clock = Clock()
    watch = Stopwatch({"v1": 5.0}, clock)
    watch.touch("v1")
    for at, key in ((103.0, "v1"), (110.0, "v2"), (110.0 + 600, "v2"), (712.0, None), (900.0, "v1")):
        clock.at = at
        watch.touch(key)
    assert watch.seconds("v1") == 5.0 + 3 + 7
    assert watch.seconds("v2") == IDLE_S + 2
    assert watch.seconds("v3") == 0


def test_time_of_placing_belongs_to_the_vertebra_that_was_placed():
    clock = Clock()
    watch = Stopwatch(clock=clock)
    watch.touch(PLACING)
    clock.at += 9
    watch.placed("v4")
    clock.at += 2
    watch.touch(None)
    assert watch.seconds("v4") == 11 and watch.seconds(PLACING) == 0


def test_time_before_the_page_is_shown_and_after_it_is_closed_does_not_count():
    clock = Clock()
    watch = Stopwatch(clock=clock)
    watch.touch("v1")
    clock.at += 30
    watch.start()
    watch.touch("v1")
    clock.at += 4
    watch.pause()
    clock.at += 50
    watch.touch("v1")
    assert watch.seconds("v1") == 4


# --- who reads what


def test_assigned_readings_come_in_their_order_and_second_ones_when_they_are_due(tmp_path):
    dataset = dataset_with(tmp_path / "set", ["a", "b", "c"], ["Anna"])
    with changing(dataset.folder) as held:
        held[0] = assign(held[0], ["Anna"], second=1.0, after_days=0)
    dataset = load(dataset.folder)
    order = [a.case for a in dataset.assignments["Anna"] if a.session == 1]
    assert [slot[1] for slot in due(dataset, "Anna")] == order
    save(dataset, LabelReading(order[1], "Anna", state="final", labels=column(["T8"])))
    found = due(dataset, "Anna")
    assert [slot for slot in found if slot[2] == 2] == [("Anna", order[1], 2)]
    assert [slot[1] for slot in found if slot[2] == 1] == order  # final ones stay in the list
    assert readings_to_do(dataset, "Anna", order[1]) == [("Anna", order[1], 2)]
    assert readings_to_do(dataset, "Anna", order[0]) == [("Anna", order[0], 1)]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--reader", "Anna"], "nothing_assigned"),
        (["--reader", "Carl"], "unknown_reader"),
        (["--reader", "Anna", "--case", "z"], "unknown_case"),
    ],
)
def test_the_command_refuses_what_it_cannot_open(tmp_path, arguments, code):
    dataset = dataset_with(tmp_path / "set", ["a"], ["Anna"])
    found = CliRunner().invoke(app, ["annotate", str(dataset.folder), "--no-browser", *arguments])
    assert found.exit_code == 3 and found.output.startswith(code)


def test_each_key_has_one_action_that_exists():
    keys = [key for entry in annotation_keys.ANNOTATION_KEYS for key in entry.keys]
    assert len(keys) == len(set(keys))
    from VertebralFractureQuantLib.browser.annotation_session import AnnotationSession

    for entry in annotation_keys.ANNOTATION_KEYS:
        assert hasattr(AnnotationActions, entry.action) or hasattr(AnnotationSession, entry.action), entry.action
    assert set(annotation_keys.REASON_KEYS.values()) == {"cut_off", "metal", "artefact", "fused", "other"}


# --- beginning, and labels as they are saved


def opened(dataset, slot, clock=None):
    """A reading as it is opened, and its study in a scene."""
    prepared = load_case(dataset, slot, NO_NETWORKS)
    begun = begin(dataset, slot, prepared)
    study = StudyScene(slicer.vtkMRMLScene(), Views())
    study.open(begun.prepared.ct, begun.prepared.made, begun.prepared.analysis)
    return Annotation(dataset, begun, clock or Clock()), study


def test_without_networks_a_case_opens_on_a_straight_line_and_says_why(tmp_path):
    dataset = made(tmp_path, ["Anna"])
    prepared = load_case(dataset, ("Anna", "scan", 1), NO_NETWORKS)
    assert (prepared.analysis.status, prepared.analysis.message) == ("bad_weights", "No networks here.")
    assert not work_folder(dataset, ("Anna", "scan", 1)).exists()  # the networks may be there next time
    begun = begin(dataset, ("Anna", "scan", 1), prepared)
    assert (begun.reading.mode, begun.reading.revision) == ("blinded", 0)
    assert begun.reading.ct_sha256 == dataset.case("scan").sha256


def test_the_views_show_names_of_levels_and_no_number(tmp_path):
    dataset, slot = made(tmp_path, ["Anna"]), ("Anna", "scan", 1)
    labels = (Label("T8", body(-100, front=12.0)), Label("T9", body(-130)))  # G = 0.55, severe
    save(dataset, LabelReading("scan", "Anna", ct_sha256=dataset.case("scan").sha256, labels=labels))
    _, study = opened(dataset, slot)
    assert study.labels()[0].words == ("T8", "0.55", "severe")
    study.show_colors("plain", numbers=False)
    assert [label.words for label in study.labels()] == [("T8",), ("T9",)]
    assert len({label.color for label in study.labels()}) == 1
    assert [study.vertebrae[i].node.GetName() for i in study.order] == ["T8", "T9"]


def test_a_replaced_or_missing_ct_is_refused(tmp_path):
    dataset = made(tmp_path, ["Anna"])
    made(tmp_path / "other", ["Anna"], value=90)
    (tmp_path / "scan.nii.gz").write_bytes((tmp_path / "other" / "scan.nii.gz").read_bytes())
    with pytest.raises(VFQError) as refused:
        load_case(dataset, ("Anna", "scan", 1), NO_NETWORKS)
    assert refused.value.code == "other_ct"
    (tmp_path / "scan.nii.gz").unlink()
    with pytest.raises(VFQError) as refused:
        load_case(dataset, ("Anna", "scan", 1), NO_NETWORKS)
    assert refused.value.code == "not_found"


def test_a_draft_comes_back_as_it_was_with_all_digits(tmp_path):
    dataset, slot = made(tmp_path, ["Anna"]), ("Anna", "scan", 1)
    digest = dataset.case("scan").sha256
    points = body(-100.123456789, r=1 / 3)
    labels = (
        Label("T8", points, comment="thin", seconds=12.5, machine_points_shown=False),
        Label("T9", not_assessable="metal", comment="screw"),
    )
    save(dataset, LabelReading("scan", "Anna", mode="blinded", ct_sha256=digest, labels=labels, comment="noisy"))
    annotation, study = opened(dataset, slot)
    again = annotation.now(study)
    assert np.array_equal(again.labels[0].keypoints, points)
    assert (again.labels[0].comment, again.labels[0].seconds, again.comment) == ("thin", 12.5, "noisy")
    assert (again.labels[1].level, again.labels[1].not_assessable, again.labels[1].comment) == ("T9", "metal", "screw")
    point, normal = again.labels[0].plane
    assert np.abs((points - point) @ normal).max() < 0.02 and np.linalg.norm(normal) == pytest.approx(1)
    written = save(dataset, again)
    assert (written.revision, newest(dataset, slot).revision) == (2, 2)


def test_points_from_a_mask_wait_for_the_reader_and_stay_in_the_draft(tmp_path):
    dataset, slot = made(tmp_path, ["Anna"]), ("Anna", "scan", 1)
    labels = (Label("T8", body(-100), source="mask"), Label("T9", body(-130)))
    save(dataset, LabelReading("scan", "Anna", ct_sha256=dataset.case("scan").sha256, labels=labels))
    annotation, study = opened(dataset, slot)
    assert annotation.waiting(study) == ["v1"]
    assert [(v.level, v.source) for v in annotation.now(study).labels] == [("T8", "mask"), ("T9", "reader")]
    state = study.vertebrae["v1"].state()
    study.put({"v1": {**state, "review": "confirmed"}})
    assert annotation.waiting(study) == []


def test_a_centre_is_replaced_by_the_vertebra_that_is_placed_on_it(tmp_path):
    dataset, slot = made(tmp_path, ["Anna"]), ("Anna", "scan", 1)
    labels = (Label("T8", body(-100)), Label(None, center=np.array([0.0, 2, -103])), Label("T9", center=np.zeros(3)))
    save(dataset, LabelReading("scan", "Anna", ct_sha256=dataset.case("scan").sha256, labels=labels))
    annotation, study = opened(dataset, slot)
    assert [(v.level, v.center is None) for v in annotation.now(study).labels] == [("T8", True), ("T9", False)]


def test_automatic_vertebrae_wait_in_an_assisted_reading_only(tmp_path):
    dataset, slot = made(tmp_path, ["Anna"]), ("Anna", "scan", 1)
    case = dataset.case("scan")
    prepared = load_case(dataset, slot, NO_NETWORKS)
    found = tuple(Vertebra(body(s), None, 0.9, level) for s, level in ((-70, "T7"), (-100, "T8")))
    record = replace(prepared.analysis, status="ok", message="")
    record = replace(record, vertebrae=tuple(replace(v, measurement=_measured(v)) for v in found))
    keep_record(work_folder(dataset, slot), record)
    labels = (Label("T8", body(-101), machine_points_shown=True),)
    save(dataset, LabelReading("scan", "Anna", mode="assisted", ct_sha256=case.sha256, labels=labels))
    annotation, study = opened(dataset, slot)
    assert [study.label(i) for i in annotation.waiting(study)] == ["T7"]  # T8 was read: its own points stand
    assert [v.level for v in annotation.now(study).labels] == ["T8"]
    kept = annotation.remaining(study, study.analysis())
    assert [v.level for v in kept.vertebrae] == ["T7"] and kept.reading is None
    blinded = replace(annotation.reading, mode="blinded")
    save(dataset, blinded)
    annotation, study = opened(dataset, slot)
    assert annotation.waiting(study) == [] and len(study.order) == 1


def _measured(vertebra: Vertebra):
    from VertebralFractureQuantLib.spine.genant import measure

    return measure(vertebra.keypoints)


def test_a_level_is_not_assessable_once_and_only_with_a_name(tmp_path):
    dataset = made(tmp_path, ["Anna"])
    annotation, study = opened(dataset, ("Anna", "scan", 1))
    for level in (None, "T99"):
        with pytest.raises(VFQError) as refused:
            annotation.mark("metal", level)
        assert refused.value.code == "bad_labels"
    annotation.mark("fused", "T8", seconds=3.0)
    with pytest.raises(VFQError):
        annotation.mark("metal", "T8")
    assert [(v.level, v.not_assessable, v.seconds) for v in annotation.now(study).labels] == [("T8", "fused", 3.0)]
    annotation.unmark("T8")
    assert annotation.now(study).labels == ()


def test_the_work_folder_is_no_reading(tmp_path):
    dataset = made(tmp_path, ["Anna"])
    keep_record(work_folder(dataset, ("Anna", "scan", 1)), SpineAnalysis("scan", status="no_spine_found", message="x"))
    assert newest(dataset, ("Anna", "scan", 1)) is None
    assert read_ct(tmp_path / "scan.nii.gz").voxels.shape == dataset.case("scan").shape
    assert CliRunner().invoke(app, ["dataset", "status", str(dataset.folder)]).exit_code == 0


# --- acts on an open reading, without a page


@pytest.fixture
def annotate(tmp_path):
    """Open the reading of a label set in a window of its own."""
    opened = []

    def open_one(dataset, slot) -> AnnotationReview:
        scene = slicer.vtkMRMLScene()
        review = AnnotationReview(StudyScene(scene, Views()), test_scene.Listening(scene), slot[0])
        review.begin(dataset, begin(dataset, slot, load_case(dataset, slot, NO_NETWORKS)), NO_NETWORKS)
        opened.append(review)
        return review

    yield open_one
    for review in opened:
        review.close()


def labelled(tmp_path):
    dataset, slot = made(tmp_path, ["Anna"]), ("Anna", "scan", 1)
    labels = (Label("T8", body(-100)), Label("T9", body(-130)))
    save(dataset, LabelReading("scan", "Anna", mode="blinded", ct_sha256=dataset.case("scan").sha256, labels=labels))
    return dataset, slot


@pytest.fixture
def clicks(monkeypatch):
    """Click points in straight mm, as MRML's place mode would report them."""
    monkeypatch.setattr(Placing, "_place_mode", lambda self, on: None)

    def click(review, straight) -> None:
        for point in straight:
            node = review._actions.clicking._placing.node
            node.AddControlPointWorld(*point)
            node.InvokeEvent(slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent)

    return click


def begins(tmp_path, **protocol):
    """A label set of Anna whose reading of "scan" has not begun, with this protocol."""
    dataset = made(tmp_path, ["Anna"])
    with changing(dataset.folder) as held:
        held[0] = replace(held[0], protocol={**held[0].protocol, **protocol})
    return load(dataset.folder), ("Anna", "scan", 1)


def straight(review, keypoints):
    return outline(review.study.straightening.to_straight(keypoints)) * (0, 1, 1)


def test_the_protocol_orders_the_six_points(tmp_path, annotate, clicks):
    order = ["P-", "M-", "A-", "A+", "M+", "P+"]
    review = annotate(*begins(tmp_path, points=order))
    review.act("start_placing")
    wanted = straight(review, body(-100, front=20.0, middle=18.0))
    named = dict(zip(POINT_NAMES, wanted, strict=True))
    for i, name in enumerate(order):
        assert review.placing.startswith(f"Next: {name} ") and f"({i + 1} of 6)" in review.placing
        assert f"Click {name} " in review.hint
        clicks(review, [named[name]])
    placed = outline(review.study.vertebrae["v1"].straight())
    assert placed == pytest.approx(wanted, abs=0.01)
    assert review.point == "P+"  # the point that was clicked last is the one that arrow keys move


@pytest.mark.parametrize("points", [["A+", "M+"], ["A+", "A+", "P+", "P-", "M-", "A-"], "A+ M+"])
def test_an_order_of_other_points_is_refused(tmp_path, points):
    with pytest.raises(VFQError) as refused:
        create(tmp_path / "new", "new", {"points": points})
    assert refused.value.code == "bad_labels"
    dataset = made(tmp_path, ["Anna"])
    data = json.loads((dataset.folder / "dataset.json").read_text())
    data["protocol"]["points"] = points
    (dataset.folder / "dataset.json").write_text(json.dumps(data))
    with pytest.raises(VFQError) as refused:
        load(dataset.folder)
    assert refused.value.code == "not_a_dataset"


def test_a_level_is_chosen_before_its_points_and_a_proposal_is_always_named(tmp_path, annotate, clicks):
    review = annotate(*begins(tmp_path, levels=["T8", "T9", "T10"]))
    assert review.annotation.next_level(review.study) == "T8"
    review.act("place_next")
    assert review.placing.endswith("of T8")
    review.act("level_down")
    assert review.placing.endswith("of T9")
    review.act("level_up")
    clicks(review, straight(review, body(-100)))
    assert [v.level for v in review.annotation.now(review.study).labels] == ["T8"]
    review.act("place_level", "T8")
    assert "there already" in review.face.said[-1] and review.mode is None
    assert review.annotation.next_level(review.study) == "T9"
    review.act("place_level", "T10")  # but the body below T8 is clicked
    clicks(review, straight(review, body(-130)))
    assert [v.level for v in review.annotation.now(review.study).labels] == ["T8", "T10"]
    assert "It is T10, as you chose; T9 would follow" in review.face.said[-1]
    review.act("start_placing")
    assert " of T" not in review.placing  # b names nothing by itself


def test_a_blinded_reading_proposes_the_level_of_the_last_case_only_before_any_is_named(tmp_path, annotate, clicks):
    dataset, slot = begins(tmp_path)
    review = annotate(dataset, slot)
    assert review.annotation.next_level(review.study) is None
    review.act("place_next")  # without a proposal it names nothing
    clicks(review, straight(review, body(-100)))
    assert [v.level for v in review.annotation.now(review.study).labels] == [None]
    review.close()
    with changing(dataset.folder) as held:
        held[0] = with_cases(with_readers(held[0], ["Bob"]), [Case("other", "other")])
    dataset = load(dataset.folder)
    save(dataset, LabelReading("other", "Anna", labels=column(["T11", "T12"])))
    save(dataset, LabelReading("other", "Bob", labels=column(["L3"])))
    review = annotate(dataset, slot)
    assert review.annotation.next_level(review.study) == "T11"  # Anna's own last case
    review.act("place_next")
    clicks(review, straight(review, body(-100)))
    assert [v.level for v in review.annotation.now(review.study).labels] == ["T11"]
    assert review.annotation.next_level(review.study) is None


def test_arrow_keys_move_one_point_by_a_tenth_of_a_millimetre(tmp_path, annotate):
    dataset, slot = labelled(tmp_path)
    review = annotate(dataset, slot)
    before = review.study.vertebrae["v1"].straight()
    review.act("nudge_up")  # no point was touched yet: it chooses the first one
    assert review.point == "A+" and not review.editor.journal.trail()
    for action in ("nudge_up", "nudge_up", "nudge_left"):
        review.act(action)
    shift = review.study.vertebrae["v1"].straight() - before
    assert shift[0, 0] == pytest.approx((0, 0.1, 0.2), abs=0.005)
    shift[0, 0] = 0
    assert np.abs(shift).max() < 1e-6
    review.act("next_point")
    review.act("nudge_down")
    assert (review.study.vertebrae["v1"].straight() - before)[1, 0] == pytest.approx((0, 0, -0.1), abs=0.005)
    review.act("undo")
    assert np.abs((review.study.vertebrae["v1"].straight() - before)[1, 0]).max() < 1e-6


def test_a_vertebra_moves_into_the_plane_that_is_shown(tmp_path, annotate):
    review = annotate(*labelled(tmp_path))
    before = review.study.vertebrae["v1"].straight()
    review._actions.viewpoint.lateral = -6.5
    review.act("to_plane")
    after = review.study.vertebrae["v1"].straight()
    assert after[..., 0] == pytest.approx(-6.5, abs=0.005)
    assert after[..., 1:] == pytest.approx(before[..., 1:], abs=0.005)
    point = review.annotation.now(review.study).labels[0].plane[0]
    assert review.study.straightening.to_straight(point)[0] == pytest.approx(-6.5, abs=0.005)


def test_a_vertebra_that_is_not_assessable_loses_its_points_and_undo_brings_them_back(tmp_path, annotate):
    review = annotate(*labelled(tmp_path))
    review.select("v2")
    review.act("not_assessable", "fused")
    assert [(v.level, v.not_assessable) for v in review.annotation.now(review.study).labels] == [
        ("T8", None),
        ("T9", "fused"),
    ]
    review.act("undo")
    assert [(v.level, v.not_assessable) for v in review.annotation.now(review.study).labels] == [
        ("T8", None),
        ("T9", None),
    ]
    assert "T9" in review.face.said[-1]
    review.act("not_assessable", "metal", "T8")
    assert "has key points" in review.face.said[-1]  # T9 is selected


def test_nothing_is_saved_before_an_act_and_a_final_reading_is_not_followed_by_a_draft(tmp_path, annotate):
    dataset, slot = labelled(tmp_path)
    review = annotate(dataset, slot)
    assert review.drafting() is None
    review.act("comment", " thin ")
    review.saved(review.drafting()())
    assert newest(dataset, slot).labels[0].comment == "thin"
    review.saved(review.drafting("final")())
    assert (newest(dataset, slot).state, review.drafting(), review.drafting("final")) == ("final", None, None)
    review.act("comment", "thick")
    review.saved(review.drafting()())
    assert [(r.version, r.state, r.labels[0].comment) for r in history(dataset, slot)] == [
        (1, "final", "thin"),
        (2, "draft", "thick"),
    ]


def test_of_two_windows_the_second_is_refused_and_its_labels_are_kept_in_a_file(tmp_path, annotate):
    dataset, slot = labelled(tmp_path)
    one, other = annotate(dataset, slot), annotate(dataset, slot)
    one.act("comment", "first")
    one.saved(one.drafting()())
    other.act("comment", "second")
    with pytest.raises(VFQError) as refused:
        other.drafting()()
    assert refused.value.code == "labels_changed"
    other.unsaved()
    other.close()
    assert newest(dataset, slot).labels[0].comment == "first"
    kept = read_reading(other.elsewhere)
    assert kept.labels[0].comment == "second" and np.array_equal(kept.labels[1].keypoints, body(-130))
    one.close()
    assert one.elsewhere is None
