"""A review in Slicer: dragged points, keys, buttons and clicks, and what the views show."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install '.[review]'")
pytest.importorskip("PySide6", reason="needs Qt: pip install '.[test]'")

from desktop_bench import COLUMN, LEVELS, Bench, box, make_analysis, make_ct, pixel  # noqa: E402
from harness.drag import move, where  # noqa: E402
from pace import processor_ms  # noqa: E402
from PySide6 import QtCore, QtTest  # noqa: E402
from VertebralFractureQuantLib.desktop.labels import BREAK  # noqa: E402
from VertebralFractureQuantLib.scene.keys import KEYS  # noqa: E402
from VertebralFractureQuantLib.scene.outlines import COLORS, PALETTES  # noqa: E402
from VertebralFractureQuantLib.spine.genant import measure_column, ratio_text  # noqa: E402
from VertebralFractureQuantLib.spine.keypoints import outline  # noqa: E402
from vtkmodules.util.numpy_support import vtk_to_numpy  # noqa: E402
from vtkmodules.vtkRenderingCore import vtkWindowToImageFilter  # noqa: E402

DRAG_MS, DRAG_CALLS = 2.0, 2700  # processor time on an idle computer, and the functions called in it
BUSY = 2.0  # how many times longer the same work takes beside other programs, which share the processor's caches
NO_COHORT = "No cohort is open. Choose a folder of scans in the section Cohort."
ALL_BUT_T11 = ["confirmed", "confirmed", "open", "confirmed", "confirmed", "confirmed"]
FREE = (0.0, 0.0, -212.0)  # a point without a vertebra, below L2, in straight mm
QT_KEYS = {"ArrowDown": "Down", "ArrowUp": "Up", "ArrowLeft": "Left", "ArrowRight": "Right", " ": "Space"}
QT_KEYS |= {"Delete": "Del", "Escape": "Esc", "Enter": "Return", "PageDown": "PgDown", "PageUp": "PgUp"}


# -- each action, called by a key or a button


@dataclass
class Deed:
    """How to test an action: `before` prepares it; `holds` is true after the action, and false before it."""

    before: Callable[[Bench], object]
    holds: Callable[[Bench], object]


def pick(bench: Bench, row: int) -> None:
    bench.review.select(bench.study.order[row])


def acted(*actions: str, row: int = 0) -> Callable[[Bench], None]:
    """Return a preparation: select the row, then do these actions, each on that row."""

    def do(bench: Bench) -> None:
        for action in actions or (None,):
            pick(bench, row)
            if action:
                bench.review.act(action)
        if not bench.review.mode:
            pick(bench, row)

    return do


def dragged(bench: Bench) -> None:
    pick(bench, 1)
    bench.desktop.drag("Straightened", bench.markups(1).node, 1, (0, -8))


def three_clicks(bench: Bench) -> None:
    bench.review.act("start_rescue")
    for row in (0, 2, 4):
        bench.click("Yellow", bench.markups(row).keypoints().mean((0, 1)))
    assert bench.review.clicks == 3


def zoomed(bench: Bench) -> None:
    bench.widget.face.straightened.SetFieldOfView(30.0, 30.0, 1.0)


def review(bench: Bench, row: int = 0) -> str:
    return bench.markups(row).details["review"]


def level(row: int, name: str, bench: Bench) -> bool:
    return bench.markups(row).details["level"] == name and bench.cell(row, 0).startswith(name)


def stands_at(row: int, bench: Bench) -> bool:
    return bench.ui.vertebraTable.currentRow() == row and bench.review.selected == bench.study.order[row]


def last_act(bench: Bench) -> str:
    return bench.editor.journal.trail()[-1].kind if bench.editor.journal.trail() else ""


def shows_the_synthetic_picture(bench: Bench) -> bool:
    shown = [m for m in bench.desktop.messages if m.title.endswith("synthetic picture")]
    return len(shown) == 1 and "<img src=" in shown[0].text and "Loss against the synthetic body" in shown[0].text


def told_the_keys(bench: Bench) -> bool:
    return any("confirm, and go to the next" in message.text for message in bench.desktop.messages)


def window(bench: Bench) -> list[float]:
    return [bench.study.nodes[role].GetDisplayNode().GetWindow() for role in ("ct", "straightened")]


def asks_for(what: str, bench: Bench) -> bool:
    return bench.ui.hintLabel.visible and what in bench.ui.hintLabel.text


def field(bench: Bench) -> float:
    return bench.widget.face.straightened.GetFieldOfView()[1]


def points_of(bench: Bench) -> list:
    return [node for v in bench.study.vertebrae.values() for node in (v.node, v.mirror)]


def lists_the_readings(bench: Bench) -> bool:
    label = bench.ui.askLabel
    return label.visible and str(bench.review.folder) in label.text.replace(BREAK, "")


def nothing(bench: Bench) -> None:
    """Prepare nothing."""


DEEDS = {
    "next_vertebra": Deed(acted(), partial(stands_at, 1)),
    "previous_vertebra": Deed(acted(row=1), partial(stands_at, 0)),
    "toggle_order": Deed(nothing, lambda b: b.cell(0, 0) == "T11" and b.ui.orderButton.checked),
    "confirm": Deed(acted(), lambda b: review(b) == "confirmed" and stands_at(1, b)),
    "confirm_rest": Deed(acted("confirm_rest"), lambda b: [review(b, i) for i in range(6)] == ALL_BUT_T11),
    "reject": Deed(acted(), lambda b: review(b) == "rejected" and stands_at(1, b)),
    "reopen": Deed(acted("confirm"), lambda b: review(b) == last_act(b) == "open"),
    "undo": Deed(acted("confirm"), lambda b: review(b) == "open" and last_act(b) == "undo"),
    "redo": Deed(acted("confirm", "undo"), lambda b: review(b) == "confirmed" and last_act(b) == "redo"),
    "level_up": Deed(acted(row=2), partial(level, 2, "T10")),
    "level_down": Deed(acted(row=2), partial(level, 2, "T12")),
    "toggle_pin": Deed(acted(row=2), lambda b: b.markups(2).details["pinned"] and b.ui.pinButton.checked),
    "start_adding": Deed(nothing, partial(asks_for, "Click the middle of the vertebra")),
    "start_placing": Deed(nothing, partial(asks_for, "Click A+ upper anterior")),
    "start_rescue": Deed(nothing, partial(asks_for, "one or more vertebral bodies")),
    "finish_clicks": Deed(three_clicks, lambda b: last_act(b) == "rescue"),
    "cancel": Deed(acted("start_rescue"), lambda b: not (b.review.mode or b.ui.hintLabel.visible)),
    "reset": Deed(dragged, lambda b: b.markups(1).details["origin"] == "model" and last_act(b) == "reset"),
    "delete": Deed(acted(row=3), lambda b: b.ui.vertebraTable.rowCount == 5 and b.cell(3, 0) == "L1"),
    "lateral_left": Deed(nothing, lambda b: (b.review.lateral, b.ui.lateralSlider.value) == (-1.0, -1.0)),
    "lateral_right": Deed(nothing, lambda b: (b.review.lateral, b.ui.lateralSlider.value) == (1.0, 1.0)),
    "toggle_window": Deed(nothing, lambda b: window(b) == [400.0] * 2 and b.ui.windowComboBox.currentText == "soft"),
    "toggle_close_up": Deed(nothing, lambda b: b.review.close_up and 20 < field(b) < 100),
    "own_plane": Deed(acted("lateral_left", "lateral_left"), lambda b: b.review.lateral == pytest.approx(0, abs=0.1)),
    "toggle_overlay": Deed(nothing, lambda b: not any(n.GetDisplayNode().GetVisibility() for n in points_of(b))),
    "toggle_expected": Deed(nothing, lambda b: bool(b.study.nodes["expected"].GetDisplayNode().GetVisibility())),
    "fit_views": Deed(zoomed, lambda b: b.widget.face.straightened.GetFieldOfView()[1] > 200),
    "next_case": Deed(nothing, lambda b: b.said == NO_COHORT),
    "previous_case": Deed(nothing, lambda b: b.said == NO_COHORT),
    "next_open": Deed(nothing, lambda b: b.said.startswith("No other analysed case")),
    "complete_study": Deed(nothing, lambda b: b.said.startswith("The study is not complete")),
    "toggle_case": Deed(nothing, lists_the_readings),
    "toggle_healthy": Deed(lambda b: b.desktop.messages.clear(), shows_the_synthetic_picture),
    "toggle_help": Deed(lambda b: b.desktop.messages.clear(), told_the_keys),
}
BUTTONS_OF_DEEDS = {
    "previousButton": "previous_vertebra",
    "nextButton": "next_vertebra",
    "confirmButton": "confirm",
    "rejectButton": "reject",
    "reopenButton": "reopen",
    "undoButton": "undo",
    "redoButton": "redo",
    "levelUpButton": "level_up",
    "levelDownButton": "level_down",
    "pinButton": "toggle_pin",
    "addButton": "start_adding",
    "placeButton": "start_placing",
    "annotateButton": "start_placing",
    "deleteButton": "delete",
    "resetButton": "reset",
    "rescueButton": "start_rescue",
    "drawCurveButton": "start_rescue",
    "finishButton": "finish_clicks",
    "leaveButton": "cancel",
    "orderButton": "toggle_order",
    "fitButton": "fit_views",
    "helpButton": "toggle_help",
    "completeButton": "complete_study",
    "readingsButton": "toggle_case",
}


def does(bench: Bench, action: str, trigger: Callable[[], None]) -> None:
    """Assert that `trigger` does the action, then restore the previous state."""
    deed = DEEDS[action]
    deed.before(bench)
    assert not deed.holds(bench), f"{action}: the result holds before the action"
    trigger()
    bench.rest()
    assert deed.holds(bench), f"{action}: not done; said {bench.said!r}"
    bench.review.cancel()
    bench.widget.signing.close_question()
    while bench.editor.undo():
        pass
    if bench.review.doubtful_first:
        bench.review.act("toggle_order")
    if bench.review.preset != "bone":
        bench.review.act("toggle_window")
    if any(not node.GetDisplayNode().GetVisibility() for node in points_of(bench)):
        bench.review.act("toggle_overlay")
    if bench.study.nodes["expected"].GetDisplayNode().GetVisibility():
        bench.review.act("toggle_expected")
    bench.review.face.tell("")
    bench.review.act("fit_views")
    pick(bench, 0)


def test_every_button_does_what_it_says(opened):
    for button, action in BUTTONS_OF_DEEDS.items():
        does(opened, action, lambda button=button: opened.desktop.press(button))


def test_every_key_does_what_the_list_of_keys_says(opened):
    for entry in KEYS:
        for key in set(entry.keys) - {" "}:
            does(opened, entry.action, lambda key=key: opened.desktop.key(QT_KEYS.get(key, key)))


# -- dragged points


def agree(bench: Bench) -> None:
    """Assert that panel, MRML table and record have the library's measurements of the points in the nodes."""
    order = bench.study.order
    spreads = [bench.study.vertebra(i).spread for i in order]
    expected = measure_column(np.stack([bench.study.vertebrae[i].keypoints() for i in order]), spreads)
    ratios = [m.genant_ratio for m in expected]
    assert bench.shown_ratios() == pytest.approx(ratios, abs=1e-9)
    assert [v["genant_ratio"] for v in bench.saved()["vertebrae"]] == pytest.approx(ratios, abs=1e-9)
    for row, m in enumerate(expected):
        assert ratio_text(m.genant_ratio) in bench.cell(row, 4) and m.grade in bench.cell(row, 5)
        assert bench.cell(row, 1) == f"{m.heights_mm[0]:.1f}"
        assert float(bench.ui.vertebraTable.item(row, 4).toolTip()) == m.genant_ratio


def test_a_dragged_point_gives_the_librarys_measurement_everywhere(opened):
    before = opened.shown_ratios()
    opened.desktop.drag("Straightened", opened.markups(3).node, 1, (0, -10))
    assert opened.shown_ratios()[3] < before[3] - 0.05
    assert opened.review.selected == opened.study.order[3] and opened.ui.vertebraTable.currentRow() == 3
    agree(opened)


def test_a_drag_in_a_patient_view_is_an_action_too(opened):
    pick(opened, 3)
    opened.desktop.drag("Yellow", opened.markups(3).mirror, 4, (0, 10))
    assert opened.editor.journal.undoable == "move"
    agree(opened)


def test_measurements_follow_before_the_button_is_released(opened):
    opened.desktop.drag("Straightened", opened.markups(3).node, 1, (0, -10), release=False)
    assert f"{opened.shown_ratios()[3]:.2f}" in opened.cell(3, 4).replace("~", "")
    assert not opened.ui.undoButton.enabled
    slicer.app.layoutManager().sliceWidget("Straightened").sliceView().interactor().InvokeEvent(
        "LeftButtonReleaseEvent"
    )
    assert opened.ui.undoButton.enabled


@pytest.mark.parametrize(("undo", "redo"), [("Ctrl+Z", "Ctrl+Y"), ("u", "r")])
def test_keys_undo_and_redo_a_drag(opened, undo, redo):
    before = opened.study.state()
    opened.desktop.drag("Straightened", opened.markups(1).node, 0, (3, -8))
    after = opened.study.state()
    assert opened.ui.undoButton.toolTip == "Undo: move"
    opened.desktop.key(undo)
    assert opened.study.state() == before and not opened.ui.undoButton.enabled
    agree(opened)
    opened.desktop.key(redo)
    assert opened.study.state() == after and not opened.ui.redoButton.enabled
    agree(opened)


def test_a_middle_button_drag_moves_all_six_points_as_one_action(opened):
    before = opened.markups(1).straight()
    opened.desktop.drag("Straightened", opened.markups(1).node, 1, (0, 8), button="Middle")
    shift = opened.markups(1).straight() - before
    assert shift[..., 2].min() > 1.0 and np.ptp(shift[..., 2]) < 0.1
    assert [act.kind for act in opened.editor.journal.trail()] == ["move"]


@pytest.mark.parametrize("point", [2, None])
def test_a_pan_that_begins_on_a_vertebra_in_a_patient_view_moves_the_image_only(opened, point):
    pick(opened, 2)
    mirror, before = opened.markups(2).mirror, opened.study.state()
    view = slicer.app.layoutManager().sliceWidget("Yellow")
    node = view.mrmlSliceNode()
    view.sliceView().forceRender()
    start = where("Yellow", mirror, 2) if point else (where("Yellow", mirror, 2) + where("Yellow", mirror, 3)) / 2
    center = node.GetXYToRAS().GetElement(2, 3)
    move("Yellow", start)
    active = mirror.GetDisplayNode().GetActiveComponentType()
    assert active in (mirror.GetDisplayNode().ComponentControlPoint, mirror.GetDisplayNode().ComponentLine)
    interactor = view.sliceView().interactor()
    interactor.InvokeEvent("MiddleButtonPressEvent")
    for by in (8, 16, 24):
        move("Yellow", start + [0, by])
    interactor.InvokeEvent("MiddleButtonReleaseEvent")
    opened.desktop.events()
    assert opened.study.state() == before and not opened.editor.journal.trail()
    assert abs(node.GetXYToRAS().GetElement(2, 3) - center) > 3.0
    opened.desktop.drag("Yellow", mirror, 1, (0, -8))  # the points can be dragged as before
    assert [act.kind for act in opened.editor.journal.trail()] == ["move"]


def test_undo_and_redo_go_to_what_they_changed(opened):
    opened.desktop.drag("Straightened", opened.markups(4).node, 1, (0, -8))
    for key in ("Ctrl+Z", "Ctrl+Y"):
        pick(opened, 0)
        opened.desktop.key(key)
        assert stands_at(4, opened), key
    pick(opened, 3)
    opened.desktop.press("deleteButton")
    pick(opened, 0)
    opened.desktop.press("undoButton")
    assert stands_at(3, opened)
    opened.editor.redo()
    pick(opened, 0)
    opened.desktop.press("undoButton")
    pick(opened, 0)
    opened.desktop.press("redoButton")  # it is gone again: the nearest one is shown
    assert opened.cell(opened.ui.vertebraTable.currentRow(), 0) in ("T11", "L1")


def test_the_journal_has_the_readers_name_for_each_action(opened):
    opened.ui.readerLineEdit.text = "Ada"
    opened.ui.readerLineEdit._real.editingFinished.emit()
    opened.desktop.drag("Straightened", opened.markups(1).node, 1, (0, -8))
    opened.desktop.key("c")
    assert {act.who for act in opened.editor.journal.trail()} == {"Ada"}
    assert opened.saved()["vertebrae"][1]["reviewer"] == "Ada"


def test_a_drag_in_a_whole_column_is_measured_within_two_milliseconds(empty):
    ct = make_ct(23 * 20 + 60)
    empty.children.analysis = lambda ct: make_analysis(ct, levels=COLUMN, pitch=20.0)
    empty.add_volume(ct)
    empty.analyze()
    assert len(empty.study.order) == 23
    node, follow = empty.markups(11).node, empty.study.follow
    recompute, panel, calls = [], [], []
    empty.study.follow = timed(follow, recompute)
    empty.widget.face.followed = timed(empty.widget.face.followed, panel)
    for batch in range(12):
        moves(node, 25)
        assert len(recompute) == 25 * (batch + 1) <= len(panel)
    best = min(np.median(recompute[i : i + 25]) for i in range(0, 300, 25))  # other programs come and go
    print(f"recompute {best:.2f} ms, panel {np.median(panel):.2f} ms")
    assert best < BUSY * DRAG_MS
    empty.study.follow = counted(follow, calls)
    moves(node, 25)
    print(f"{np.median(calls):.0f} calls")
    assert len(calls) == 25 and np.median(calls) < DRAG_CALLS


def counted(do: Callable, calls: list[int]) -> Callable:
    """Wrap `do` and append the number of functions that each call of it calls, which no other program changes."""

    def counting(*args: Any) -> None:
        seen: Counter[str] = Counter()
        sys.setprofile(lambda _frame, event, _function: seen.update((event,)))
        try:
            do(*args)
        finally:
            sys.setprofile(None)
        calls.append(seen["call"] + seen["c_call"])

    return counting


def moves(node: Any, count: int) -> None:
    """Drag the upper middle point down, in `count` steps of 0.05 mm."""
    position = np.zeros(3)
    node.GetNthControlPointPositionWorld(1, position)
    node.InvokeEvent(node.PointStartInteractionEvent)
    for i in range(count):
        node.SetNthControlPointPositionWorld(1, *(position - [0, 0, 0.05 * (i + 1)]))
    node.InvokeEvent(node.PointEndInteractionEvent)


def timed(do: Callable, milliseconds: list[float]) -> Callable:
    """Wrap `do` (which returns None) and append the duration of each call to `milliseconds`."""
    return lambda *args: milliseconds.append(processor_ms(partial(do, *args)))


# -- the keyboard


def test_keys_do_nothing_while_another_module_is_shown(opened):
    opened.desktop.select("Data")
    for key in ("c", "x", "Del", "[", "t", "w", "a", "b", "s", "?"):
        opened.desktop.key(key)
    assert not opened.editor.journal.trail() and opened.review.preset == "bone" and opened.review.mode is None
    assert not opened.desktop.messages
    opened.desktop.select()
    opened.desktop.key("c")
    assert review(opened) == "confirmed"


def test_keys_do_nothing_while_the_user_types(opened):
    field = opened.ui.readerLineEdit
    field.text = ""
    field._real.setFocus()
    for key in ("c", "x", "?", "m", "Backspace", "Space", "Left", "Del"):
        opened.desktop.key(key)
    assert not opened.editor.journal.trail() and opened.review.lateral == 0 and not opened.desktop.messages
    assert field.text == "cx?"


def test_enter_and_escape_belong_to_slicer_outside_the_click_modes(opened):
    def ours() -> set[str]:
        shortcuts = [each[-1] for each in opened.widget.keyboard._shortcuts]
        return {shortcut.key.toString() for shortcut in shortcuts if shortcut.enabled} & {"Return", "Esc", "C"}

    assert ours() == {"C"}
    opened.desktop.key("s")
    assert ours() == {"Return", "Esc", "C"}
    opened.desktop.key("Esc")
    assert ours() == {"C"}


def test_space_presses_the_focused_button(opened):
    opened.ui.rejectButton._real.setFocus()
    opened.desktop.key("Space")
    assert review(opened) == "rejected"


def test_arrow_keys_belong_to_the_focused_control(opened):
    opened.ui.windowComboBox._real.setFocus()
    opened.desktop.key("Down")
    opened.desktop.key("Right")
    assert stands_at(0, opened) and opened.review.lateral == 0.0


def test_without_a_study_only_the_keys_for_cases_and_help_work(bench):
    bench.desktop.key("a")
    bench.desktop.key("c")
    assert bench.review.mode is None and not bench.said
    bench.desktop.key("PgDown")
    assert bench.said == NO_COHORT


# -- clicks


def test_one_click_adds_a_vertebra(opened):
    opened.desktop.key("a")
    opened.click("Straightened", FREE)
    assert [opened.cell(row, 0) for row in range(7)] == [*LEVELS, "L3"]
    assert opened.review.mode is None and opened.ui.vertebraTable.currentRow() == 6
    assert opened.markups(6).straight().mean((0, 1))[2] == pytest.approx(FREE[2], abs=0.6)
    opened.desktop.key("Ctrl+Z")
    assert opened.ui.vertebraTable.rowCount == 6


def test_clicks_are_taken_without_a_mouse_move_before_them(opened):
    opened.desktop.key("a")
    opened.click("Straightened", FREE, moved=False)
    assert opened.ui.vertebraTable.rowCount == 7 and opened.review.mode is None
    opened.desktop.press("undoButton")
    opened.desktop.key("b")
    opened.click("Straightened", FREE, moved=False)
    assert opened.review.clicks == 1
    opened.desktop.key("s")
    opened.click("Red", opened.markups(2).keypoints().mean((0, 1)), moved=False)
    assert opened.review.clicks == 1 and opened.review.mode == "rescue"


def test_a_click_on_a_vertebra_adds_none_and_says_why(opened):
    opened.desktop.key("a")
    opened.click("Straightened", opened.markups(4).straight().mean((0, 1)))
    assert "is here already" in opened.said and opened.ui.vertebraTable.rowCount == 6


def test_six_clicks_place_a_vertebra_and_delete_removes_the_last_click(opened):
    opened.review.act("fit_views")
    wanted = outline(box(FREE[2]))
    opened.desktop.key("b")
    opened.click("Straightened", wanted[0])
    opened.click("Straightened", wanted[0] + [0, 0, 30.0])
    assert "P+ upper posterior in the straightened image (2 of 6)" in opened.ui.hintLabel.text
    opened.desktop.key("Del")
    assert "M+ upper middle in the straightened image (1 of 6)" in opened.ui.hintLabel.text
    for point in wanted[1:]:
        opened.click("Straightened", point)
    assert opened.ui.vertebraTable.rowCount == 7 and not opened.ui.hintLabel.visible
    np.testing.assert_allclose(outline(opened.markups(6).straight())[:, 1:], wanted[:, 1:], atol=0.6)
    assert opened.markups(6).details["origin"] == "reader"


def test_escape_leaves_the_click_mode_without_a_trace(opened):
    opened.desktop.key("b")
    opened.click("Straightened", FREE)
    opened.desktop.key("Esc")
    assert opened.review.mode is None and not opened.ui.hintLabel.visible
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 0
    opened.click("Straightened", FREE)
    assert opened.ui.vertebraTable.rowCount == 6 and not opened.editor.journal.trail()


def test_a_spine_is_rebuilt_along_clicks_in_the_patients_views(opened):
    seen = []
    along = opened.editor.machine.along
    opened.editor.machine.along = lambda points, present: seen.append(points) or along(points, present)
    wanted = [opened.markups(row).keypoints().mean((0, 1)) for row in (0, 2, 4)]
    opened.desktop.key("s")
    opened.desktop.key("Return")
    assert "No point was clicked" in opened.said
    for point in wanted:
        opened.click("Yellow", point)
    before = opened.study.state()
    opened.desktop.key("Return")
    opened.rest()
    np.testing.assert_allclose(seen[0][:, 1:], np.array(wanted)[:, 1:], atol=0.6)
    assert "3 vertebrae found along your points" in opened.said and opened.ui.vertebraTable.rowCount == 3
    opened.desktop.press("undoButton")
    assert opened.study.state() == before and opened.ui.vertebraTable.rowCount == 6


def test_one_click_leads_the_curve_and_what_the_reader_confirmed_stays(opened):
    opened.review.act("confirm")
    first = opened.study.order[0]
    wanted = opened.markups(3).keypoints().mean((0, 1)) + [0.0, 9.0, 0.0]
    before = opened.study.state()
    opened.desktop.key("s")
    opened.click("Yellow", wanted)
    opened.desktop.key("Return")
    opened.rest()
    curve = opened.study.straightening.curve
    assert np.abs(curve.points[:, 1:] - wanted[1:]).sum(1).min() < 1.5  # a pixel of the view, and half a step
    np.testing.assert_allclose(curve.points[:40], np.array(before["curve"]["curve"])[:40], atol=0.01)
    assert opened.study.vertebrae[first].state() == before[first] and opened.ui.vertebraTable.rowCount == 3
    assert "2 vertebrae found along your points. Kept from before: 1." in opened.said
    opened.desktop.press("undoButton")
    assert opened.study.state() == before


def test_a_click_into_a_vertebra_selects_it(opened):
    opened.click("Straightened", opened.markups(4).straight().mean((0, 1)))
    assert opened.review.selected == opened.study.order[4] and opened.ui.vertebraTable.currentRow() == 4
    pick(opened, 3)
    opened.click("Yellow", opened.markups(2).keypoints().mean((0, 1)))
    assert opened.review.selected == opened.study.order[2]


# -- the panel's other controls


def test_opening_selects_the_worst_vertebra(bench):
    bench.desktop.press("analyzeButton")
    bench.desktop.wait(lambda: bench.editor)
    bench.desktop.events()
    assert stands_at(2, bench) and bench.cell(2, 5) == "mild biconcave"


def test_a_selected_row_keeps_the_colour_of_its_grade(opened):
    pick(opened, 2)
    table, column = opened.ui.vertebraTable._real, 5
    chosen = {index.column() for index in table.selectionModel().selectedIndexes()}
    assert chosen == set(range(7)) - {column}
    rectangle = table.visualItemRect(table.item(2, column))
    shown = table.viewport().grab().toImage().pixelColor(rectangle.right() - 3, rectangle.top() + 3)
    assert shown.name() == table.item(2, column).background().color().name()
    QtTest.QTest.mouseClick(
        table.viewport(), QtCore.Qt.MouseButton.LeftButton, pos=table.visualItemRect(table.item(4, column)).center()
    )
    assert stands_at(4, opened)  # a click on the grade selects the row too


def test_a_clicked_row_is_selected(opened):
    opened.ui.vertebraTable.selectRow(4)
    assert opened.review.selected == opened.study.order[4]
    opened.review.act("toggle_order")
    opened.ui.vertebraTable.selectRow(0)
    assert opened.study.label(opened.review.selected) == "T11"


def test_a_chosen_level_sets_the_others_too(opened):
    pick(opened, 2)
    assert opened.ui.levelComboBox.currentText == "T11"
    opened.ui.levelComboBox._real.setCurrentText("T12")
    opened.ui.levelComboBox._real.textActivated.emit("T12")
    assert [opened.cell(row, 0) for row in range(6)] == ["T10", "T11", "T12*", "L1", "L2", "L3"]
    assert opened.ui.pinButton.checked


def test_an_uncertain_level_is_marked_with_a_tooltip_until_one_is_set(opened):
    first = opened.study.order[0]
    opened.study.put({first: {**opened.study.vertebrae[first].state(), "level_probabilities": {"T9": 0.7}}})
    opened.review.editor.changed()
    assert opened.cell(0, 0) == "T9?" and opened.ui.vertebraTable.item(0, 0).toolTip().startswith("70% certain")
    pick(opened, 2)
    opened.ui.levelComboBox._real.textActivated.emit("T11")
    assert [opened.cell(row, 0) for row in range(3)] == ["T9", "T10", "T11*"]


def test_the_slider_moves_the_plane_and_the_wheel_moves_the_slider(opened):
    view = opened.widget.face.straightened
    opened.ui.lateralSlider.value = 4.5
    assert view.GetSliceToRAS().GetElement(0, 3) == 4.5
    interactor = slicer.app.layoutManager().sliceWidget("Straightened").sliceView().interactor()
    for _ in range(2):
        interactor.InvokeEvent("MouseWheelForwardEvent")
    plane = view.GetSliceToRAS().GetElement(0, 3)
    assert plane in (2.5, 6.5) and opened.ui.lateralSlider.value == opened.review.lateral == plane
    opened.desktop.key("Right")
    assert opened.ui.lateralSlider.value == plane + 1.0


def test_a_chosen_window_applies_to_both_volumes(opened):
    opened.ui.windowComboBox._real.setCurrentText("soft")
    opened.ui.windowComboBox._real.textActivated.emit("soft")
    assert window(opened) == [400.0, 400.0] and opened.review.preset == "soft"


def test_plain_colours_hide_the_grade_and_stay_for_the_next_study(opened):
    def colors():
        return {opened.markups(row).node.GetDisplayNode().GetSelectedColor() for row in range(6)}

    assert {tuple(np.round(c, 3)) for c in colors()} == {tuple(np.round(COLORS[g], 3)) for g in ("normal", "mild")}
    opened.ui.paletteComboBox.currentText = "plain"
    (color,) = colors()
    assert color == pytest.approx(PALETTES["plain"]["severe"])
    opened.analyze()
    assert len(colors()) == 1
    opened.ui.paletteComboBox.currentText = "grades"
    assert len(colors()) == 2


def test_labels_stay_when_the_plane_is_beside_the_points(opened):
    def lettered(lateral: float) -> int:
        """Count the pixels in the third vertebra's colour right of it, where its label is."""
        opened.review.act("move_lateral", lateral)
        view = slicer.app.layoutManager().sliceWidget("Straightened").sliceView()
        view.forceRender()
        shot = vtkWindowToImageFilter()
        shot.SetInput(view.renderWindow())
        shot.ReadFrontBufferOff()
        shot.Update()
        image = shot.GetOutput()
        pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(*image.GetDimensions()[1::-1], -1).astype(int)
        right, up = pixel("Straightened", opened.markups(2).straight()[2].mean(0))
        part = pixels[int(up) - 12 : int(up) + 12, int(right) + 8 :]
        return int((part[..., 0] - part[..., 2] > 60).sum())

    on_plane = lettered(0.0)
    assert on_plane > 30
    assert lettered(2.0) > 0.5 * on_plane and lettered(-6.0) > 0.5 * on_plane  # faint, and legible
    assert opened.markups(2).node.GetNthControlPointDescription(0) == "A+"


def test_the_selected_vertebra_is_in_the_middle_of_all_views(opened):
    manager = slicer.app.layoutManager()
    manager.threeDWidget(0)
    for row in (4, 1):
        pick(opened, row)
        middle = opened.markups(row).keypoints().mean((0, 1))
        for view in ("Red", "Yellow", "Green"):
            to_ras = manager.sliceWidget(view).mrmlSliceNode().GetSliceToRAS()
            assert [to_ras.GetElement(i, 3) for i in range(3)] == pytest.approx(middle, abs=1e-3), view
        assert opened.widget.face.cameras
        for camera in opened.widget.face.cameras:
            assert camera.GetFocalPoint() == pytest.approx(middle, abs=1e-3)
    zoomed(opened)
    pick(opened, 3)
    to_straight = opened.widget.face.straightened.GetSliceToRAS()
    assert to_straight.GetElement(2, 3) == pytest.approx(opened.markups(3).straight().mean((0, 1))[2], abs=1e-3)


def test_the_3d_view_shows_the_curve_and_the_points_of_the_patient(opened):
    view = slicer.app.layoutManager().threeDWidget(0).mrmlViewNode().GetID()
    curve, points = opened.study.nodes["curve"], opened.markups(2).mirror
    for node in (curve, points):
        display = node.GetDisplayNode()
        assert display.GetVisibility() and view in display.GetViewNodeIDs(), node.GetName()
    assert view not in opened.markups(2).node.GetDisplayNode().GetViewNodeIDs()
    drawn = slicer.util.arrayFromModelPoints(curve)
    np.testing.assert_allclose(drawn[[0, -1]], opened.study.straightening.curve.points[[0, -1]], atol=1.0)


def test_a_gap_is_told_below_the_summary_until_the_vertebra_is_back(opened):
    assert not opened.ui.qualityLabel.visible
    opened.review.act("select", opened.study.order[2])
    opened.desktop.press("deleteButton")
    assert opened.ui.qualityLabel.visible and "missing" in opened.ui.qualityLabel.text
    assert "\N{WARNING SIGN}" in opened.cell(1, 6) and "\N{WARNING SIGN}" not in opened.cell(4, 6)
    opened.desktop.press("undoButton")
    assert not opened.ui.qualityLabel.visible and opened.cell(1, 6) == ""


def test_the_table_shows_the_verdicts_and_the_summary_counts_them(opened):
    opened.desktop.press("confirmButton")
    opened.desktop.press("rejectButton")
    assert opened.cell(0, 6) and opened.cell(1, 6) and opened.cell(0, 6) != opened.cell(1, 6) and not opened.cell(2, 6)
    assert "2 of 6 reviewed" in opened.ui.summaryLabel.text
    assert opened.markups(1).node.GetLocked()


def test_swapped_points_are_reported_and_asked_for_before_they_are_confirmed(opened):
    node, position = opened.markups(0).node, np.zeros(3)
    node.GetNthControlPointPositionWorld(1, position)
    node.SetNthControlPointPositionWorld(1, *(position - [0, 0, 40.0]))
    pick(opened, 0)
    assert opened.cell(0, 5) == "invalid points" and opened.ui.vertebraTable.item(0, 0).toolTip()
    opened.desktop.press("confirmButton")
    assert "A lower point lies above its upper one" in opened.said and review(opened) == "open"
    assert not opened.study.counts(opened.study.order[0])
    opened.desktop.press("confirmButton")  # asked, and confirmed once more
    assert review(opened) == "confirmed" and last_act(opened) == "confirmed anyway"


def test_the_buttons_for_a_vertebra_need_a_selection(opened):
    opened.review.select(None)
    for name in ("confirmButton", "resetButton", "levelUpButton", "levelComboBox", "deleteButton"):
        assert not getattr(opened.ui, name).enabled, name
    assert opened.ui.addButton.enabled
