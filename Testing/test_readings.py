"""Readings of several readers: signatures, own readings beside the first one, and what nobody can overwrite.

The scene is real, without a program around it; the files are those of a case's folder.
"""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core")

import test_scene  # noqa: E402
from test_scene import LEVELS, Listening, drag, reviews_of  # noqa: E402
from VertebralFractureQuantLib.cohort.worklist import Case, case_status  # noqa: E402
from VertebralFractureQuantLib.errors import VFQError  # noqa: E402
from VertebralFractureQuantLib.report import reviews  # noqa: E402
from VertebralFractureQuantLib.report.document import make_report, report_text  # noqa: E402
from VertebralFractureQuantLib.report.readings import own_folder, readings  # noqa: E402
from VertebralFractureQuantLib.report.wording import Wording  # noqa: E402
from VertebralFractureQuantLib.scene.opening import read_study  # noqa: E402
from VertebralFractureQuantLib.scene.readings import begin_own, folder_to_open  # noqa: E402
from VertebralFractureQuantLib.scene.review import Review  # noqa: E402
from VertebralFractureQuantLib.scene.study import StudyScene  # noqa: E402
from VertebralFractureQuantLib.scene.views import Views  # noqa: E402
from VertebralFractureQuantLib.spine.reading import Reading, content_digest  # noqa: E402
from VertebralFractureQuantLib.spine.record_json import read_analysis  # noqa: E402

ct, analysis, case = test_scene.ct, test_scene.analysis, test_scene.case  # fixtures

Reading_as = Callable[..., Review]


@pytest.fixture
def read(case: Case) -> Iterator[Reading_as]:
    """Return a function that opens the reading of a reader, or that in a given folder."""
    opened: list[Review] = []

    def begin(who: str, folder: Path | None = None) -> Review:
        scene = slicer.vtkMRMLScene()
        opened.append(Review(StudyScene(scene, Views()), Listening(scene), who))
        folder = folder or folder_to_open(case.folder, who)
        assert folder is not None, f"{who} would be asked"
        opened[-1].open(read_study(case.source, case.folder, case.name), folder, VFQError("bad_weights", "-"))
        return opened[-1]

    yield begin
    for review in opened:
        if review.editor:
            review.close()


def signed(review: Review, close: bool = True) -> str:
    """Confirm what is open, sign and save; return the report's text."""
    for each in review.order:
        if review.study.vertebra(each).review == "open":
            review.editor.review(each, "confirmed")
    text, _ = review.completed()
    assert review.saving()() == ""
    if close:
        review.close()
    return text


def saved(folder: Path):
    return read_analysis(folder / "analysis.json")


def test_a_digest_follows_points_levels_and_verdicts_and_not_rounding(analysis):
    rows = [(v.keypoints, v.level, v.review) for v in analysis.vertebrae]
    whole = content_digest(rows)
    points, level, review = rows[0]
    center = np.round(points, 2)
    assert content_digest([(center + 0.004, level, review)]) == content_digest([(center - 0.004, level, review)])
    for changed in ((points + 0.02, level, review), (points, "T8", review), (points, level, "rejected")):
        assert content_digest([changed, *rows[1:]]) != whole
    assert content_digest([(points * 0 - 0.001, level, review)]) == content_digest([(points * 0, level, review)])


def test_the_first_to_sign_is_the_reader_and_nobody_signs_twice():
    reading = Reading("A", "t0").signed("A", "t1", "x").signed("B", "t2", "x")
    assert [(s.reader, s.role) for s in reading.signatures] == [("A", "reader"), ("B", "countersigner")]
    assert reading.signed("A", "t3", "x") is reading
    again = reading.signed("A", "t3", "y")
    assert [(s.reader, s.role, s.at) for s in again.holding("y")] == [("A", "reader", "t3")]
    assert again.holding("x") == reading.signatures


def test_a_signed_reading_names_its_reader_in_record_table_and_worklist(read, case):
    assert "Signed by A on " in signed(read("A"))
    record = saved(case.folder)
    (signature,) = record.signatures
    assert record.reading.reader == "A" and (signature.reader, signature.role) == ("A", "reader")
    assert json.loads((case.folder / "analysis.json").read_text())["reading"]["signatures"][0]["holds"] is True
    with (case.folder / "measurements.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(r["reader"], r["signed_by"], r["signed_at"]) for r in rows} == {("A", "A", signature.at)}
    status = case_status(case)
    assert status.readers == ("A",) and status.signed == f"signed by A on {signature.at[:10]}"
    assert json.loads((case.folder / "machine.json").read_text()).get("reading") is None


def test_a_change_by_the_reader_ends_the_signature_until_it_is_signed_again(read, case):
    review = read("A")
    signed(review, close=False)
    review.act("reopen")
    assert review.saving()() == "" and saved(case.folder).signatures == ()
    assert "sign it again" in review.standing
    review.act("undo")  # what was signed is there again
    assert review.saving()() == "" and [s.reader for s in saved(case.folder).signatures] == ["A"]
    drag(review.study, review.order[2], (0, 0, -4))
    signed(review)
    record = saved(case.folder)
    assert len(record.reading.signatures) == 2 and [s.reader for s in record.signatures] == ["A"]


def test_what_another_reader_signed_cannot_be_changed_by_any_action_or_drag(read, case):
    signed(read("A"))
    before = {p.name: p.read_bytes() for p in case.folder.iterdir() if p.suffix in (".json", ".csv")}
    assert folder_to_open(case.folder, "B") is None and folder_to_open(case.folder, "A") == case.folder
    review = read("B", case.folder)
    assert "signed by A" in review.face.said[-1] and "Counter-sign" in review.face.said[-1]
    acts = len(review.editor.journal.trail())
    points = review.study.vertebrae[review.order[2]].keypoints()
    for action in ("reopen", "reject", "undo", "delete", "level_up", "toggle_pin", "confirm"):
        review.face.said.clear()
        review.act(action)
        assert "cannot be changed" in review.face.said[-1], action
    review.face.said.clear()
    for mirror in (False, True):
        drag(review.study, review.order[2], (0, 0, -5), mirror=mirror)
    assert len(review.face.said) == 2 and "cannot be changed" in review.face.said[-1]
    np.testing.assert_allclose(review.study.vertebrae[review.order[2]].keypoints(), points, atol=1e-9)
    assert len(review.editor.journal.trail()) == acts
    assert review.saving()() == ""
    assert {name: (case.folder / name).read_bytes() for name in before} == before


def test_a_counter_signature_is_kept_beside_the_signature_and_closes_the_reading_for_both(read, case):
    signed(read("A"))
    text = signed(read("B", case.folder))
    assert "Signed by A on " in text and "Counter-signed by B on " in text
    record = saved(case.folder)
    assert [(s.reader, s.role) for s in record.signatures] == [("A", "reader"), ("B", "countersigner")]
    with (case.folder / "measurements.csv").open() as file:
        assert {(r["reader"], r["signed_by"], r["reviewer"]) for r in csv.DictReader(file)} == {("A", "A; B", "A")}
    for who in ("A", "B"):
        review = read(who)
        review.act("reopen")
        assert "cannot be changed" in review.face.said[-1]
        review.close()
    assert saved(case.folder).signatures == record.signatures


def test_an_own_reading_begins_blind_with_the_automatic_points_and_leaves_the_first_one(read, case, analysis):
    first = read("A")
    drag(first.study, first.order[2], (0, 0, -5))
    signed(first)
    before = {p.name: p.read_bytes() for p in case.folder.iterdir()}
    folder = begin_own(case.folder, "B", from_reading=False)
    assert folder == own_folder(case.folder, "B") == folder_to_open(case.folder, "B")
    review = read("B")
    assert reviews_of(review) == ["open"] * len(LEVELS) and not review.face.said
    for mine, automatic in zip(review.study.analysis().vertebrae, analysis.vertebrae, strict=True):
        np.testing.assert_allclose(mine.keypoints, automatic.keypoints, atol=1e-9)
    drag(review.study, review.order[3], (0, 0, -6))
    signed(review)
    assert {name: (case.folder / name).read_bytes() for name in before} == before
    own, others = saved(folder), saved(case.folder)
    assert (own.reading.reader, own.reading.begun_from, own.reading.begun_from_reader) == ("B", "automatic", None)
    assert [v.origin for v in own.vertebrae] == ["reader" if i == 3 else "model" for i in range(len(LEVELS))]
    assert [v.origin for v in others.vertebrae] == ["reader" if i == 2 else "model" for i in range(len(LEVELS))]
    assert {v.reviewer for v in own.vertebrae} == {"B"} and {v.reviewer for v in others.vertebrae} == {"A"}
    assert json.loads((folder / "machine.json").read_text()) == json.loads((case.folder / "machine.json").read_text())
    assert [f.record.reading.reader for f in readings(case.folder)] == ["A", "B"]
    assert case_status(case, "B").readers == ("A", "B") and "signed by B" in case_status(case, "A").signed


def test_an_own_reading_can_begin_with_the_points_of_the_first_one(read, case):
    first = read("A")
    drag(first.study, first.order[2], (0, 0, -5))
    first.act("level_up")
    signed(first)
    folder = begin_own(case.folder, "B", from_reading=True)
    status = case_status(case, "B")
    assert (status.state, status.open) == ("in review", len(LEVELS)) and case_status(case, "A").state == "reviewed"
    review = read("B")
    assert reviews_of(review) == ["open"] * len(LEVELS)
    for mine, others in zip(review.study.analysis().vertebrae, saved(case.folder).vertebrae, strict=True):
        np.testing.assert_allclose(mine.keypoints, others.keypoints, atol=1e-9)
        assert mine.level == others.level and mine.reviewer is None
    assert saved(folder).reading.begun_from_reader == "A" and "begun from the points of A" in review.standing
    review.act("undo")  # goes back to the automatic points
    np.testing.assert_allclose(
        review.study.vertebrae[review.order[2]].keypoints(),
        np.asarray(json.loads((case.folder / "machine.json").read_text())["vertebrae"][2]["keypoints"]),
        atol=1e-9,
    )


def test_two_readers_at_the_same_vertebra_at_the_same_time_lose_nothing(read, case):
    first = read("A")
    first.act("confirm")
    assert first.saving()() == ""
    with pytest.raises(VFQError) as in_use:
        read("B", case.folder)
    assert in_use.value.code == "study_in_use"
    begin_own(case.folder, "B", from_reading=False)
    second = read("B")  # beside the first one, which is still open
    for review, lower in ((first, -4), (second, -6), (first, -3)):
        drag(review.study, review.order[2], (0, 0, lower))
    for review in (first, second):
        assert review.saving()() == ""
    moved = [saved(f).vertebrae[2].keypoints for f in (case.folder, own_folder(case.folder, "B"))]
    assert not np.allclose(moved[0], moved[1], atol=0.3)
    assert [act.who for act in second.editor.journal.trail()] == ["B"]
    assert [act.who for act in first.editor.journal.trail()] == ["A"] * 3


@pytest.mark.parametrize(
    ("names", "same"),
    [(("Anna", "anna"), False), (("Dr. B", "Dr B"), False), (("../x", "..-x"), False), (("\u0394", "\u0394"), True)],
)
def test_readers_of_different_names_have_different_folders_in_the_cases_own(tmp_path, names, same):
    one, other = (own_folder(tmp_path, name) for name in names)
    assert (str(one).lower() == str(other).lower()) is same
    assert one.parent == other.parent == tmp_path / "readings" and one.resolve().parent == one.parent.resolve()


def test_a_half_written_own_reading_is_never_opened(read, case, monkeypatch):
    signed(read("A"))
    with monkeypatch.context() as full:
        full.setattr("VertebralFractureQuantLib.scene.readings.open_journal", _no_space)
        with pytest.raises(VFQError) as refused:
            begin_own(case.folder, "B", from_reading=False)
    assert refused.value.code == "output_not_writable" and "No space left" in refused.value.message
    assert folder_to_open(case.folder, "B") is None and not any((case.folder / "readings").iterdir())
    assert begin_own(case.folder, "B", from_reading=False).is_dir()


def _no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_signature_that_the_full_disk_refuses_is_told_and_written_later(read, case, monkeypatch):
    review = read("A")
    for each in review.order:
        review.editor.review(each, "confirmed")
    assert review.saving()() == ""
    review.completed()
    with monkeypatch.context() as full:
        full.setattr(reviews, "write_record", _no_space)
        assert "No space left" in review.saving()()
        assert saved(case.folder).signatures == () and case_status(case).signed == ""
    assert review.saving()() == ""
    assert [s.reader for s in saved(case.folder).signatures] == ["A"]


def test_a_case_deleted_under_the_review_is_told_and_its_actions_are_recovered(read, case, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    original = (case.folder / "analysis.json").read_bytes()
    review = read("A")
    review.act("confirm")
    assert review.saving()() == "" and not review.is_gone
    case.folder.rename(tmp_path / "deleted")
    review.act("reject")
    assert review.is_gone and "deleted or moved" in review.saving()()
    with pytest.raises(VFQError, match=r"2 actions could not be written to the case's folder"):
        review.abandon()
    assert review.editor is None and not case.folder.exists()
    case.folder.mkdir()  # analysed again
    (case.folder / "analysis.json").write_bytes(original)
    (kept,) = tmp_path.glob("vfq-unsaved-*.json")
    kept.rename(case.folder / "review-unsaved.json")
    again = read("A")
    assert reviews_of(again)[:2] == ["confirmed", "rejected"] and "2 actions" in again.face.said[-1]


def test_an_older_review_without_a_reading_belongs_to_its_first_reader(read, case):
    signed(read("A"))
    file = case.folder / "analysis.json"
    older = json.loads(file.read_text())
    del older["reading"]
    file.write_text(json.dumps(older))
    assert folder_to_open(case.folder, "A") == case.folder and folder_to_open(case.folder, "B") is None
    assert case_status(case).readers == ("A",) and case_status(case).signed == ""


def test_a_reader_who_continues_an_unsigned_reading_takes_part_in_it(read, case):
    review = read("A")
    review.act("confirm")
    assert review.saving()() == ""
    review.close()
    assert folder_to_open(case.folder, "B") is None
    review = read("B", case.folder)
    review.act("confirm")
    assert review.saving()() == ""
    assert review.face.said == ["Reading of A: not signed. What you do is recorded under your name."]
    assert folder_to_open(case.folder, "B") == case.folder
    record = saved(case.folder)
    assert record.reading.reader == "A" and [v.reviewer for v in record.vertebrae][:2] == ["A", "B"]
    assert "Reviewed by A, B, last on " in report_text(make_report(record, Wording()))


# --- certain vertebrae together


def test_certain_vertebrae_are_confirmed_by_two_presses_and_undone_by_one(read):
    review = read("A")
    low = review.order[3]
    drag(review.study, low, (0, 0, -9.0))
    review.act("toggle_overlay")
    review.act("toggle_close_up")
    review.act("confirm_rest")
    assert not review.close_up and "hidden" not in review.note  # all of them are in view
    others = [i for i in review.order if i != low]
    assert reviews_of(review) == ["open"] * len(LEVELS)
    told = review.face.said[-1]
    assert f"Confirm {len(others)} vertebrae together" in told and "one by one: T12." in told
    acts = len(review.editor.journal.trail())
    review.act("confirm_rest")
    assert reviews_of(review) == ["open" if i == low else "confirmed" for i in review.order]
    assert review.selected == low and len(review.editor.journal.trail()) == acts + 1
    assert {review.study.vertebra(i).reviewer for i in others} == {"A"}
    review.act("undo")
    assert reviews_of(review) == ["open"] * len(LEVELS)


def test_after_anything_else_the_question_is_asked_again(read):
    review = read("A")
    review.act("confirm_rest")
    review.act("reject")
    review.act("confirm_rest")
    assert "Confirm 5 vertebrae together" in review.face.said[-1]
    assert reviews_of(review).count("confirmed") == 0
    review.select(review.order[0])
    review.act("confirm_rest")
    assert reviews_of(review).count("confirmed") == 0


def test_no_vertebra_in_doubt_is_ever_confirmed_together_with_others(read, monkeypatch):
    review = read("A")
    editor, study = review.editor, review.study
    whole = study.vertebra
    a = study.order[0]
    assert editor.certain() == study.order
    doubtful = {
        "borderline": lambda v: replace(v, measurement=replace(v.measurement, borderline=True)),
        "mild": lambda v: replace(v, measurement=replace(v.measurement, grade="mild")),
        "flagged": lambda v: replace(v, quality=(SimpleNamespace(code="metal", message="-"),)),
        "unnamed": lambda v: replace(v, level=None),
        "weak": lambda v: replace(v, score=0.89),
        "rejected": lambda v: replace(v, review="rejected"),
    }
    for name, spoiled in doubtful.items():
        with monkeypatch.context() as one:
            one.setattr(study, "vertebra", lambda i, spoiled=spoiled: spoiled(whole(i)) if i == a else whole(i))
            assert editor.certain() == study.order[1:], name
            with pytest.raises(VFQError) as refused:
                editor.confirm_all(study.order)
            assert refused.value.code == "not_certain"
    with monkeypatch.context() as named:
        named.setattr(study, "doubts", lambda: {a: 0.7})
        assert editor.certain() == study.order[1:]
    drag(study, a, (0, 0, 40.0), point=None)  # out of the scan
    assert a in study.impossible and a not in editor.certain()
    assert reviews_of(review) == ["open"] * len(LEVELS)
