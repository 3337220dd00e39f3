"""The module's adjudication: readers without names, the worst disagreement first, one key or button for a decision."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install '.[review]'")
pytest.importorskip("PySide6", reason="needs Qt: pip install '.[test]'")

from desktop_bench import NO_NETWORKS, Bench, library_kept, make_analysis, make_ct  # noqa: E402
from PySide6 import QtWidgets  # noqa: E402
from test_formats import validated  # noqa: E402
from VertebralFractureQuantLib.desktop.labels import BREAK  # noqa: E402
from VertebralFractureQuantLib.imaging.files import write_ct  # noqa: E402
from VertebralFractureQuantLib.labels.adding import add_cases  # noqa: E402
from VertebralFractureQuantLib.labels.consensus import letters  # noqa: E402
from VertebralFractureQuantLib.labels.dataset import changing, create, load, with_readers  # noqa: E402
from VertebralFractureQuantLib.labels.reading import Label, LabelReading  # noqa: E402
from VertebralFractureQuantLib.labels.store import history, newest, save, work_folder  # noqa: E402
from VertebralFractureQuantLib.scene.adjudication_review import AdjudicationActions  # noqa: E402
from VertebralFractureQuantLib.scene.annotation_keys import ADJUDICATION_KEYS  # noqa: E402
from VertebralFractureQuantLib.scene.annotation_start import keep_record  # noqa: E402

NAMES = ("Anna", "Bob", "Carla")
LEVELS = ("T9", "T10", "T11")


class Disputes:
    """A label set whose cases "a" and "b" Anna and Bob read otherwise, and the section of the panel."""

    def __init__(self, bench: Bench, folder: Path):
        self.bench, self.ui, self.folder = bench, bench.ui, folder / "set"
        for name in ("a", "b"):
            write_ct(replace(make_ct(), name=name, voxels=make_ct().voxels + (name == "b")), folder / f"{name}.nii.gz")
        create(self.folder, "set", {"mode": "assisted", "text": "Mark the outer edges."})
        add_cases(self.folder, sorted(folder.glob("*.nii.gz")))
        with changing(self.folder) as held:
            held[0] = with_readers(held[0], NAMES)
        record = make_analysis(make_ct())
        true = [v.keypoints for v in record.vertebrae[:3]]
        low = true[1].copy()
        low[0, 0, 2] -= 10.0  # a wedge for Bob: the worst
        self.points = {
            ("Anna", "a"): true,
            ("Bob", "a"): [true[0], low, true[2] + (0, 2.5, 0)],
            ("Anna", "b"): true,
            ("Bob", "b"): [true[0], true[1] + (0, 2.2, 0), true[2]],
        }
        for (reader, case), points in self.points.items():
            labels = tuple(Label(level, each) for level, each in zip(LEVELS, points, strict=True))
            digest = self.dataset.case(case).sha256
            save(self.dataset, LabelReading(case, reader, state="final", ct_sha256=digest, labels=labels))
            keep_record(work_folder(self.dataset, (reader, case, 1)), replace(record, case=case, vertebrae=()))
        self.called = letters("a", ["Anna", "Bob"], self.dataset.seed)
        bench.widget.labels._models = lambda: NO_NETWORKS

    dataset = property(lambda self: load(self.folder))
    panel = property(lambda self: self.bench.widget.labels)
    review = property(lambda self: self.panel.review)

    def choose(self, reader: str = "Carla") -> None:
        """Choose the label set and its reader, who decides."""
        self.ui.labelSetPathLineEdit.currentPath = str(self.folder)
        self.ui.labelAdjudicateCheckBox.checked = True
        self.bench.desktop.events()
        self.ui.labelReaderComboBox.currentText = reader
        self.ui.labelReaderComboBox._real.textActivated.emit(reader)
        self.bench.desktop.events()

    def open(self, row: int = 0, case: str = "a") -> None:
        """Open a case of the list, and wait until it is shown."""
        self.ui.labelCaseTable.selectRow(row)
        self.bench.desktop.press("labelOpenButton")
        self.opened(case)

    def opened(self, case: str) -> None:
        """Wait until a case is open."""
        self.bench.desktop.wait(lambda: self.review.annotation and self.review.annotation.reading.case == case)
        self.bench.desktop.events()

    def texts(self, table: str) -> list[list[str]]:
        """Return the texts of a table, without its buttons."""
        widget = getattr(self.ui, table)
        cells = [[widget.item(row, column) for column in range(widget.columnCount)] for row in range(widget.rowCount)]
        return [[cell.text() for cell in row if cell] for row in cells]

    def rows(self) -> list[tuple[str, str]]:
        return [(row[0], row[1]) for row in self.texts("labelTable")]

    def take(self, letter: str) -> Any:
        """Return the button that takes a reader's points."""
        row = [text[0][-1] for text in self.texts("labelOpinionTable")].index(letter)
        return self.ui.labelOpinionTable.cellWidget(row, 2)

    def saved(self, condition: Any, case: str = "a") -> LabelReading:
        """Wait until the adjudication on disk fulfils a condition, and return it."""

        def found() -> bool:
            reading = newest(self.dataset, ("Carla", case, 1))
            return reading is not None and condition(reading)

        self.bench.desktop.wait(found)
        return newest(self.dataset, ("Carla", case, 1))


@pytest.fixture
def disputes(empty, tmp_path):
    made = Disputes(empty, tmp_path)
    made.choose()
    return made


def test_the_worst_case_and_vertebra_come_first_and_each_is_decided_by_one_key_or_button(disputes):
    called, desktop = disputes.called, disputes.bench.desktop
    assert [row[0] for row in disputes.texts("labelCaseTable")] == ["a", "b"]
    disputes.open()
    assert disputes.ui.labelProtocolLabel.text == "Adjudication. Mark the outer edges."
    assert disputes.rows() == [("T10", "?"), ("T11", "?"), ("T9", "agreed")]
    assert disputes.ui.labelLeftLabel.text == "2 to be decided, the worst first"
    assert "grades differ" in disputes.texts("labelTable")[0][2] and "2.5 mm" in disputes.texts("labelTable")[1][2]
    assert [row[0][-1] for row in disputes.texts("labelOpinionTable")] == ["A", "B"]
    desktop.key("e")
    assert "Not finished yet" in disputes.bench.said and "T10" in disputes.bench.said

    keys = {name: str("AB".index(letter) + 1) for name, letter in called.items()}
    desktop.key(keys["Bob"])
    assert disputes.rows()[0] == ("T10", f"reader {called['Bob']}")
    assert disputes.review.study.label(disputes.review.selected) == "T11"
    desktop.key("u")
    assert disputes.rows()[0] == ("T10", "?") and disputes.review.study.label(disputes.review.selected) == "T10"
    assert disputes.take(called["Anna"]).text == f"Take {called['Anna']} ({keys['Anna']})"
    disputes.take(called["Anna"]).click()
    assert disputes.rows()[0] == ("T10", f"reader {called['Anna']}")
    desktop.press("labelMeanButton")
    assert disputes.rows()[1] == ("T11", "mean")
    assert disputes.ui.labelLeftLabel.text == "All disagreements are decided"

    disputes.saved(lambda r: len(r.labels) == 2)
    assert not (disputes.folder / "consensus" / "a.json").exists(), "a draft decides nothing"
    desktop.press("labelCompleteButton")
    disputes.opened("b")
    final = disputes.saved(lambda r: r.state == "final")
    assert (final.mode, [v.level for v in final.labels]) == ("adjudication", ["T10", "T11"])
    assert final.labels[0].keypoints == pytest.approx(disputes.points["Anna", "a"][1], abs=1e-9)
    halfway = (disputes.points["Anna", "a"][2] + disputes.points["Bob", "a"][2]) / 2
    assert final.labels[1].keypoints == pytest.approx(halfway, abs=1e-6)
    data = validated(json.loads((disputes.folder / "consensus" / "a.json").read_text()), "vfq-consensus/1")
    decisions = [(v["level"], v["decision"]) for v in data["vertebrae"]]
    assert decisions == [("T9", None), ("T10", called["Anna"]), ("T11", "mean")]
    for reader in ("Anna", "Bob"):  # the originals stay
        (kept,) = history(disputes.dataset, (reader, "a", 1))
        assert [np.array_equal(v.keypoints, p) for v, p in
                zip(kept.labels, disputes.points[reader, "a"], strict=True)] == [True] * 3  # fmt: skip
    assert disputes.texts("labelCaseTable") == [["a", "complete"], ["b", ""]]


def test_no_name_grade_or_height_of_the_readers_is_shown_anywhere(disputes):
    disputes.open()
    chooser = disputes.ui.labelReaderComboBox._real
    shown = [
        widget.text().replace(BREAK, "")
        for kind in (QtWidgets.QLabel, QtWidgets.QAbstractButton, QtWidgets.QLineEdit)
        for widget in disputes.ui.labelsCollapsibleButton._real.findChildren(kind)
        if not chooser.isAncestorOf(widget)
    ]
    shown += [text for name in ("labelTable", "labelOpinionTable") for row in disputes.texts(name) for text in row]
    nodes = [slicer.mrmlScene.GetNthNode(i).GetName() or "" for i in range(slicer.mrmlScene.GetNumberOfNodes())]
    for name in ("Anna", "Bob"):
        assert not any(name in text for text in (*shown, *nodes))
    assert not any(word in text for text in shown for word in ("mild", "moderate", "severe", "normal", "G ="))
    assert {"Reader A", "Reader B"} <= set(nodes), "their points are drawn"
    drawn = [slicer.mrmlScene.GetFirstNodeByName(f"Reader {letter}") for letter in disputes.called.values()]
    assert not any(node.GetSaveWithScene() for node in drawn)
    assert disputes.review.study.nodes["measurements"].GetHideFromEditors()


def test_own_points_a_reason_and_a_reader_chosen_in_turn_decide_as_well(disputes):
    desktop = disputes.bench.desktop
    disputes.open()
    desktop.key("Up")
    desktop.key("Up")
    assert disputes.rows()[0] == ("T10", "own")
    desktop.press("labelAcceptButton")
    assert disputes.ui.labelAcceptButton.text == "As shown"
    assert disputes.review.study.label(disputes.review.selected) == "T11"
    desktop.key("i")
    assert "Reader A is chosen" in disputes.bench.said and disputes.take("A").text == "Take A (1, F)"
    desktop.key("i")
    desktop.key("f")
    assert disputes.rows()[1] == ("T11", "reader B")
    disputes.review.select(disputes.review.order[2])
    desktop.press("labelReasonButton")
    desktop.key("f")  # here it is a reason
    kept = disputes.saved(lambda r: any(v.not_assessable for v in r.labels))
    assert [(v.level, v.not_assessable) for v in kept.labels][-1] == ("T9", "fused")
    assert disputes.rows()[-1] == ("T9", "fused")
    disputes.review.select("v2")
    desktop.key("i")
    assert disputes.review.chosen == "A"
    desktop.key(".")
    disputes.opened("b")
    disputes.review.select("v2")  # the same id as in the other case
    assert disputes.review.chosen == "" and not any("F" in disputes.take(letter).text for letter in "AB")


def test_a_reader_who_did_not_mark_a_vertebra_cannot_be_taken(empty, tmp_path):
    disputes = Disputes(empty, tmp_path)
    anna = newest(disputes.dataset, ("Anna", "b", 1))
    save(disputes.dataset, replace(anna, version=2, revision=0, labels=anna.labels[:2]))
    called = letters("b", ["Anna", "Bob"], disputes.dataset.seed)
    disputes.choose()
    disputes.open([row[0] for row in disputes.texts("labelCaseTable")].index("b"), "b")
    missed = next(i for i in disputes.review.order if disputes.review.study.label(i) == "T11")
    disputes.review.select(missed)
    said = dict((row[0][-1], row[1]) for row in disputes.texts("labelOpinionTable"))
    assert said == {called["Anna"]: "not marked", called["Bob"]: "T11"}
    assert not disputes.take(called["Anna"]).enabled and disputes.take(called["Bob"]).enabled
    empty.desktop.key(str("AB".index(called["Anna"]) + 1))
    assert "did not mark this vertebra" in empty.said


def test_a_draft_comes_back_after_the_scene_was_closed_and_the_module_reloaded(disputes):
    called = disputes.called["Bob"]
    disputes.open()
    disputes.take(called).click()
    disputes.saved(lambda r: [v.level for v in r.labels] == ["T10"])
    disputes.bench.desktop.close_scene()
    assert not disputes.panel.is_open and not disputes.texts("labelOpinionTable")
    disputes.open()
    assert disputes.rows()[:2] == [("T10", f"reader {called}"), ("T11", "?")]
    with library_kept():
        disputes.bench.desktop.reload()
        assert not disputes.bench.said and len(newest(disputes.dataset, ("Carla", "a", 1)).labels) == 1


def test_what_a_reader_may_not_decide_is_said_and_unticking_lists_the_own_cases_again(disputes):
    desktop, ui = disputes.bench.desktop, disputes.ui
    disputes.choose("Anna")
    assert "Anna has nothing to decide" in disputes.bench.said and disputes.texts("labelCaseTable") == []
    disputes.choose()
    disputes.open()
    ui.labelAdjudicateCheckBox.checked = False
    desktop.events()
    assert not disputes.panel.is_open and "No case is assigned to Carla" in disputes.bench.said
    for name in ("labelMeanButton", "labelOpinionTable", "labelLeftLabel"):
        assert not getattr(ui, name).visible
    assert ui.labelTable.columnCount == 4
    assert slicer.mrmlScene.GetFirstNodeByName("Reader A") is None
    ui.labelAdjudicateCheckBox.checked = True
    desktop.events()
    assert len(disputes.texts("labelCaseTable")) == 2 and ui.labelTable.columnCount == 3


def test_the_keys_are_those_of_the_page_and_only_of_what_is_open(disputes):
    bench = disputes.bench
    for entry in ADJUDICATION_KEYS:
        assert entry.action in disputes.panel._own or hasattr(AdjudicationActions, entry.action), entry.action
    bench.add_volume(make_ct())
    bench.analyze()
    bench.desktop.key("1")
    assert not bench.said
    bench.desktop.key("m")
    assert "nothing to restore" in bench.said, "m is here that of the review"
    disputes.open()
    assert bench.editor is None
    bench.desktop.press("helpButton")
    (told,) = [m.text for m in bench.desktop.messages if m.title == "Keys"]
    assert "reader A" in told and "synthetic picture" not in told
