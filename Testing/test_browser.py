"""The review page as a reader uses it: the real command, a real browser, real drags, and the files afterwards.

The server runs in a process of its own; the browser is Chromium, driven by Playwright.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from pace import slowness

pytest.importorskip("trame_slicer", reason="needs the review page: pip install '.[review]'")
pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")

from browser_bench import (
    CHROMIUM,
    Picture,
    Server,
    becomes,
    cell,
    drag,
    eventually,
    folder_of,
    g,
    handled,
    hover,
    idle,
    new_page,
    open_page,
    overlay_pixels,
    press,
    saved,
    steady,
    tap,
)
from VertebralFractureQuantLib.scene.navigation import CLOSE_UP_MM
from VertebralFractureQuantLib.scene.study import StudyScene
from VertebralFractureQuantLib.scene.views import Views
from VertebralFractureQuantLib.spine.curve import SpineCurve
from VertebralFractureQuantLib.spine.genant import measure_column
from VertebralFractureQuantLib.spine.record_json import read_analysis

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

IDS = "rows => rows.map(r => r.dataset.id)"


def test_a_dragged_point_moves_the_number_the_colour_and_the_patients_point(page, output):
    folder = folder_of(output, 0)
    analysis = read_analysis(folder / "analysis.json")
    at = next(i for i, v in enumerate(analysis.vertebrae) if v.measurement.grade == "normal" and i)
    vertebra_id, v = f"v{at + 1}", analysis.vertebrae[at]
    picture = Picture(page, analysis)
    assert g(page, vertebra_id) == pytest.approx(v.measurement.genant_ratio, abs=1e-9)

    down = 0.45 * v.measurement.heights_mm[1]
    drag(page, vertebra_id, picture.xy(v.keypoints[1, 0]), (0, down / picture.mm), release=False)
    live = g(page, vertebra_id)
    assert live < 0.7 and cell(page, vertebra_id, "grade") in ("moderate", "severe")
    page.mouse.up()

    record = saved(folder, lambda r: r.vertebrae[at].origin == "reader")
    moved = record.vertebrae[at]
    wanted = picture.straightening.to_straight(v.keypoints[1, 0]) - [0, 0, down]
    where = picture.straightening.to_straight(moved.keypoints[1, 0])
    np.testing.assert_allclose(where[1:], wanted[1:], atol=1.5 * picture.mm)
    np.testing.assert_array_equal(
        np.delete(moved.keypoints.reshape(6, 3), 2, 0), np.delete(v.keypoints.reshape(6, 3), 2, 0)
    )
    assert g(page, vertebra_id) == pytest.approx(moved.measurement.genant_ratio, abs=1e-9)
    assert moved.measurement.genant_ratio == pytest.approx(
        measure_column([w.keypoints for w in record.vertebrae])[at].genant_ratio, abs=1e-9
    )
    assert (folder / "machine.json").exists()

    press(page, "Control+z")
    becomes(lambda: g(page, vertebra_id), pytest.approx(v.measurement.genant_ratio, abs=1e-9))
    assert cell(page, vertebra_id, "grade") == "normal"
    press(page, "Control+y")
    becomes(lambda: g(page, vertebra_id), pytest.approx(moved.measurement.genant_ratio, abs=1e-9))


def test_a_middle_button_drag_of_all_points_is_undone_in_one_step(page, output):
    analysis = read_analysis(folder_of(output, 0) / "analysis.json")
    picture = Picture(page, analysis)
    before = g(page, "v2")
    x, y = picture.xy(analysis.vertebrae[1].keypoints[1, 0])
    hover(page, x, y)
    page.mouse.down(button="middle")
    page.mouse.move(x + 30, y + 20, steps=5)
    page.mouse.up(button="middle")
    record = saved(folder_of(output, 0), lambda r: r.vertebrae[1].origin == "reader")
    shifts = np.linalg.norm(record.vertebrae[1].keypoints - analysis.vertebrae[1].keypoints, axis=-1)
    assert (shifts > 1).all()
    press(page, "Control+z")
    becomes(lambda: g(page, "v2"), pytest.approx(before, abs=1e-12))


def test_one_click_adds_what_was_deleted(page, output):
    analysis = read_analysis(folder_of(output, 0) / "analysis.json")
    picture = Picture(page, analysis)
    count = len(analysis.vertebrae)
    page.click("tr[data-id=v3] [data-cell=g]")
    press(page, "Delete")
    becomes(page.locator("tr[data-id]").count, count - 1)
    press(page, "z")
    press(page, "a")
    eventually(lambda: "Click the middle" in page.inner_text("[data-test=hint]"))
    x, y = picture.xy(analysis.vertebrae[2].keypoints.mean((0, 1)))
    hover(page, x, y)
    page.mouse.click(x, y)
    becomes(page.locator("tr[data-id]").count, count)
    record = saved(folder_of(output, 0), lambda r: len(r.vertebrae) == count)
    added = record.vertebrae[2]
    assert np.linalg.norm(added.keypoints - analysis.vertebrae[2].keypoints, axis=-1).mean() < 1.5


def test_six_clicks_make_a_vertebra_in_their_order(page, output):
    analysis = read_analysis(folder_of(output, 0) / "analysis.json")
    picture = Picture(page, analysis)
    page.click("tr[data-id=v3] [data-cell=g]")
    press(page, "Delete")
    press(page, "z")
    press(page, "b")
    k = analysis.vertebrae[2].keypoints
    for clicks, point in enumerate((k[0, 0], k[1, 0], k[2, 0], k[2, 1], k[1, 1], k[0, 1])):
        eventually(lambda clicks=clicks: f"({clicks} of 6)" in page.inner_text("[data-test=hint]"))
        x, y = picture.xy(point)
        page.mouse.move(x, y)
        page.mouse.click(x, y)
    record = saved(folder_of(output, 0), lambda r: any(v.origin == "reader" for v in r.vertebrae))
    placed = next(v for v in record.vertebrae if v.origin == "reader")
    assert np.linalg.norm(placed.keypoints - k, axis=-1).max() < 3 * picture.mm


def test_one_click_beside_the_curve_leads_it_there_and_undo_brings_it_back(page, output):
    """The confirmed vertebra and its name stay; the others are detected again."""
    analysis = read_analysis(folder_of(output, 0) / "analysis.json")
    before = {f"v{i + 1}": v.measurement.genant_ratio for i, v in enumerate(analysis.vertebrae)}
    middles = np.stack([v.keypoints.mean((0, 1)) for v in analysis.vertebrae])
    at = len(middles) // 2
    middle = middles[at]
    page.click("tr[data-id=v1] [data-cell=g]")
    press(page, "c")
    page.click(f"tr[data-id=v{at + 1}] [data-cell=g]")  # the patient's views follow
    press(page, "z")
    press(page, "s")
    eventually(lambda: "one or more vertebral bodies" in page.inner_text("[data-test=hint]"))
    box = page.query_selector("[data-view=Sagittal]").bounding_box()
    mm = max(CLOSE_UP_MM / box["width"], CLOSE_UP_MM / box["height"])
    x, y = box["x"] + box["width"] / 2 - 6.0 / mm, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.click(x, y)
    eventually(lambda: "1 so far" in page.inner_text("[data-test=hint]"))
    press(page, "Enter")
    page.wait_for_function("document.querySelector('[data-test=message]')?.innerText.includes('along your points')")
    assert "Kept from before: 1." in page.inner_text("[data-test=message]")
    becomes(lambda: set(page.eval_on_selector_all("tr[data-id]", IDS)) & set(before), {"v1"})
    assert page.locator("tr[data-id]").count() >= 2
    record = saved(folder_of(output, 0), lambda r: SpineCurve(r.curve).distance_to(middle[None])[0] > 4.0)
    led = SpineCurve(record.curve)
    assert led.distance_to(middle[None] + [0.0, 6.0, 0.0])[0] < 1.5  # a pixel of the view, and half a step
    assert record.vertebrae[0].review == "confirmed"
    press(page, "u")
    page.wait_for_selector("tr[data-id=v2]")
    becomes(lambda: {i: g(page, i) for i in before}, pytest.approx(before, abs=1e-9))


def test_a_click_in_a_vertebra_selects_its_row(page, output):
    analysis = read_analysis(folder_of(output, 0) / "analysis.json")
    picture = Picture(page, analysis)
    page.mouse.click(*picture.xy(analysis.vertebrae[2].keypoints.mean((0, 1))))
    page.wait_for_selector("tr[data-id=v3].selected")


def test_a_click_on_a_point_selects_its_vertebra_for_the_next_key(page, output):
    """Regression: the markups widget used the press alone, so `x` rejected the previously selected vertebra."""
    analysis = read_analysis(folder_of(output, 0) / "analysis.json")
    x, y = Picture(page, analysis).xy(analysis.vertebrae[3].keypoints[1, 0])
    hover(page, x, y)
    page.mouse.click(x, y)
    page.wait_for_selector("tr[data-id=v4].selected")
    press(page, "x")
    record = saved(folder_of(output, 0), lambda r: r.vertebrae[3].review == "rejected")
    assert [v.review for v in record.vertebrae[:4]] == ["open", "open", "open", "rejected"]


def test_a_key_waits_for_the_click_before_it(page, output):
    """Regression: on a busy computer `x` overtook the click, and rejected the previously selected vertebra."""
    analysis = read_analysis(folder_of(output, 0) / "analysis.json")
    place = Picture(page, analysis).xy(analysis.vertebrae[3].keypoints.mean((0, 1)))
    page.click("tr[data-id=v1] [data-cell=g]")
    hover(page, *place)
    for _ in range(10):  # the view has much to send before the click
        page.mouse.wheel(0, 120)
        page.mouse.wheel(0, -120)
    page.mouse.click(*place)
    page.keyboard.press("x")
    record = saved(folder_of(output, 0), lambda r: any(v.review == "rejected" for v in r.vertebrae))
    assert [v.review for v in record.vertebrae[:4]] == ["open", "open", "open", "rejected"]


def test_a_key_during_a_drag_keeps_the_automatic_points_and_records_the_moved_ones(page, output):
    folder = folder_of(output, 0)
    analysis = read_analysis(folder / "analysis.json")
    moved = analysis.vertebrae[2]
    drag(page, "v3", Picture(page, analysis).xy(moved.keypoints[1, 0]), (0, 12), release=False)
    during_drag = g(page, "v3")
    press(page, "c")
    page.mouse.move(20, 20)
    page.mouse.up()
    record = saved(folder, lambda r: r.vertebrae[2].review == "confirmed").vertebrae[2]
    assert (
        during_drag
        != moved.measurement.genant_ratio
        == pytest.approx(measure_column(record.machine_keypoints[None])[0].genant_ratio)
    )
    assert (record.origin, record.measurement.genant_ratio) == ("reader", pytest.approx(during_drag))


def key_event(page, **event) -> None:
    """Send a key event of another keyboard."""
    told = json.dumps({"bubbles": True, "cancelable": True, **event})
    page.evaluate(f"document.body.dispatchEvent(new KeyboardEvent('keydown', {told}))")
    handled(page)


def test_one_key_press_is_one_action_on_any_keyboard(page):
    def verdicts() -> list[str]:
        return [row.get_attribute("data-review") for row in page.query_selector_all("tr[data-id]")]

    page.click("tr[data-id=v1] [data-cell=g]")
    page.keyboard.down("c")
    for _ in range(3):
        page.keyboard.down("c")  # repeated, as if held down
    page.keyboard.up("c")
    becomes(lambda: verdicts()[:2], ["confirmed", "open"])
    press(page, "?")
    press(page, "x")  # while the help is open
    press(page, "Escape")
    assert verdicts()[:3] == ["confirmed", "open", "open"]
    key_event(page, key="C")  # with Caps Lock
    becomes(lambda: verdicts()[:3], ["confirmed", "confirmed", "open"])
    before = cell(page, "v3", "level")
    key_event(page, key="]", ctrlKey=True, altKey=True, modifierAltGraph=True)  # AltGr on Windows
    eventually(lambda: cell(page, "v3", "level") != before)
    key_event(page, key="[", altKey=True)  # Option on a Mac
    becomes(lambda: cell(page, "v3", "level"), before)
    key_event(page, key="x", altKey=True)  # a shortcut of the browser
    assert verdicts()[2] == "open"


def test_keys_keep_their_meaning_after_a_click_in_a_view(page, output):
    picture = Picture(page, read_analysis(folder_of(output, 0) / "analysis.json"))
    page.mouse.click(*picture.xy_straight(np.array([0.0, 45.0, picture.middle])))
    handled(page)
    for key in ("b", "f", "f", "r"):
        press(page, key)
    eventually(lambda: "0.0 mm" in page.inner_text(".straight"))


def test_the_scene_is_saved_for_slicer(page, output):
    page.click("[data-test=save_scene]")
    page.wait_for_function("document.querySelector('[data-test=message]')?.innerText.includes('review.mrb')")
    from trame_slicer.core import SlicerApp

    app = SlicerApp()
    assert app.io_manager.load_scene(folder_of(output, 0) / "review.mrb")
    study = StudyScene(app.scene, Views())
    study.reopen()
    analysis = read_analysis(folder_of(output, 0) / "analysis.json")
    for v, w in zip(study.analysis().vertebrae, analysis.vertebrae, strict=True):
        assert v.measurement.genant_ratio == pytest.approx(w.measurement.genant_ratio, abs=1e-9)
    leaked = [n for n in zipfile.ZipFile(folder_of(output, 0) / "review.mrb").namelist() if "Doe" in n]
    assert leaked == []


def test_files_that_cannot_be_written_are_reported_and_written_later(page, output):
    folder = folder_of(output, 0)
    blocker = folder / "analysis.json"
    kept = blocker.read_bytes()
    blocker.unlink()
    (blocker / "in the way").mkdir(parents=True)
    page.click("tr[data-id=v1] [data-cell=g]")
    press(page, "x")
    page.wait_for_selector("[data-test=unsaved]")
    shutil.rmtree(blocker)
    blocker.write_bytes(kept)
    page.wait_for_selector("[data-test=unsaved]", state="detached")
    assert saved(folder, lambda r: r.vertebrae[0].review == "rejected").vertebrae[0].review == "rejected"


def test_actions_during_a_save_are_saved_too(monkeypatch):
    """Regression: an action during a save was written only with the next action."""
    from VertebralFractureQuantLib.browser import saving as module

    monkeypatch.setattr(module, "SAVE_AFTER_S", 0.01)
    acts, written = [], []

    def saving():
        known = list(acts)
        return lambda: (time.sleep(0.05), written.append(known), "")[-1]

    async def act_twice() -> None:
        worklist = SimpleNamespace(current="scan", show_saved=lambda case, problem: None)
        autosave = module.Autosave(SimpleNamespace(editor=True, saving=saving), worklist)
        for act in "ab":
            acts.append(act)
            autosave.soon()
            await asyncio.sleep(0.03)
        await autosave.task

    with ThreadPoolExecutor() as beside:  # Playwright runs an event loop in this thread
        beside.submit(asyncio.run, act_twice()).result()
    assert written == [["a"], ["a", "b"]]


def test_a_second_server_reports_that_the_case_is_open(chromium, server, page, scans, output):
    other = Server([str(scans), "--output", str(output)])
    try:
        second = new_page(chromium)
        second.goto(other.url)
        eventually(lambda: "open in another window" in second.inner_text("[data-test=message]"))
        assert second.locator("tr[data-id]").count() == 0
        second.close()
    finally:
        other.stop()


def test_after_kill_9_the_page_restores_every_finished_action(chromium, server, scans, output):
    page = open_page(chromium, server)
    folder = folder_of(output, 0)
    analysis = read_analysis(folder / "analysis.json")
    picture = Picture(page, analysis)
    drag(page, "v2", picture.xy(analysis.vertebrae[1].keypoints[0, 0]), (0, 6 / picture.mm))
    page.click("tr[data-id=v1] [data-cell=g]")
    press(page, "x")
    page.wait_for_selector("tr[data-id=v1][data-review=rejected]")
    dragged = g(page, "v2")
    assert dragged != pytest.approx(analysis.vertebrae[1].measurement.genant_ratio, abs=1e-3)
    server.stop(signal.SIGKILL)
    page.close()

    again = Server([str(scans), "--output", str(output), "--reader", "tester"])
    try:
        page = open_page(chromium, again)
        assert g(page, "v2") == pytest.approx(dragged, abs=1e-12)
        assert page.get_attribute("tr[data-id=v1]", "data-review") == "rejected"
        press(page, "u")
        press(page, "u")
        becomes(lambda: g(page, "v2"), pytest.approx(analysis.vertebrae[1].measurement.genant_ratio, abs=1e-9))
        page.close()
    finally:
        again.stop()


def test_closing_a_tab_during_a_drag_loses_nothing(chromium, server, output):
    page = open_page(chromium, server)
    analysis = read_analysis(folder_of(output, 0) / "analysis.json")
    picture = Picture(page, analysis)
    drag(page, "v2", picture.xy(analysis.vertebrae[1].keypoints[0, 0]), (0, 6 / picture.mm), release=False)
    live = g(page, "v2")
    page.close()
    page = open_page(chromium, server)
    assert g(page, "v2") == pytest.approx(live, abs=1e-12)
    becomes(lambda: page.is_enabled("[data-test=undo]"), True)
    x, y = picture.xy(analysis.vertebrae[1].keypoints[0, 0])
    page.mouse.move(x, y)
    page.mouse.move(x + 40, y + 40, steps=8)
    handled(page)
    assert g(page, "v2") == pytest.approx(live, abs=1e-12)  # no button is pressed, so the point stays
    page.close()


def test_loading_the_page_again_during_a_drag_ends_the_drag(page, output):
    """Regression: the tab was gone and back before the server counted the tabs, and the drag went on."""
    analysis = read_analysis(folder_of(output, 0) / "analysis.json")
    picture = Picture(page, analysis)
    place = picture.xy(analysis.vertebrae[1].keypoints[0, 0])
    drag(page, "v2", place, (0, 6 / picture.mm), release=False)
    live = g(page, "v2")
    page.reload()
    page.wait_for_selector("tr[data-id]", timeout=60000)
    becomes(lambda: page.is_enabled("[data-test=undo]"), True)
    assert g(page, "v2") == pytest.approx(live, abs=1e-12)
    page.mouse.up()


def test_a_second_tab_shows_a_note_and_the_same_case(chromium, server, page):
    other = open_page(chromium, server)
    eventually(lambda: "2 tabs" in page.inner_text("[data-test=tabs]"))
    other.click("tr[data-id=v2] [data-cell=g]")
    press(other, "x")
    page.wait_for_selector("tr[data-id=v2][data-review=rejected]")
    other.close()
    page.wait_for_selector("[data-test=tabs]", state="detached")


def test_a_point_dragged_far_away_is_named_not_counted_and_asked_for(page, output):
    folder = folder_of(output, 0)
    analysis = read_analysis(folder / "analysis.json")
    picture, body = Picture(page, analysis), analysis.vertebrae[2]
    before = page.inner_text("[data-test=summary]")
    grades = {f"v{i}": cell(page, f"v{i}", "grade") for i in (1, 2, 4, 5)}
    drag(page, "v3", picture.xy(body.keypoints[1, 0]), (0, -45.0 / picture.mm))
    page.wait_for_selector("td[data-fault=v3]")
    eventually(lambda: " is not counted: " in page.inner_text("[data-test=quality]"))
    becomes(lambda: {i: cell(page, i, "grade") for i in grades}, grades)
    after = page.inner_text("[data-test=summary]")
    assert re.findall(r"SDI \d+", after) == re.findall(r"SDI \d+", before) or body.called != "normal"
    press(page, "c")
    eventually(lambda: "confirm it once more" in page.inner_text("[data-test=message]"))
    assert page.get_attribute("tr[data-id=v3]", "data-review") == "open"
    record = saved(folder, lambda r: r.vertebrae[2].impossible)
    assert len(record.not_counted) == 1 and record.vertebrae[2].origin == "reader"
    press(page, "c")
    page.wait_for_selector("tr[data-id=v3][data-review=confirmed]")
    press(page, "u")
    press(page, "u")
    page.wait_for_selector("td[data-fault=v3]", state="detached")
    becomes(lambda: page.inner_text("[data-test=summary]"), before)


def test_the_overlay_hides_while_h_is_held_and_stays_hidden_after_a_tap(page):
    eventually(lambda: overlay_pixels(page) > 500)
    shown = steady(page, lambda: overlay_pixels(page))
    page.keyboard.down("h")
    eventually(lambda: overlay_pixels(page) < 0.2 * shown)
    eventually(lambda: "hidden" in page.inner_text("[data-test=note]"))
    page.wait_for_function("held && performance.now() - held.since > 450")
    page.keyboard.up("h")
    eventually(lambda: overlay_pixels(page) > 0.8 * shown)
    tap(page, "h", late_ms=500)  # the page is busy meanwhile: it is a short press all the same
    eventually(lambda: overlay_pixels(page) < 0.2 * shown)
    tap(page, "h")
    eventually(lambda: overlay_pixels(page) > 0.8 * shown)


def test_enter_fills_the_view_and_beside_the_plane_no_point_is_dragged(page, output):
    analysis = read_analysis(folder_of(output, 0) / "analysis.json")
    page.click("tr[data-id=v3] [data-cell=g]")
    place = Picture(page, analysis).xy(analysis.vertebrae[2].keypoints[1, 0])
    for _ in range(4):
        press(page, "ArrowRight")
    eventually(lambda: "j goes to their plane" in page.inner_text("[data-test=note]"))
    before = g(page, "v3")
    hover(page, *place)
    page.mouse.down()
    page.mouse.move(place[0], place[1] + 15, steps=5)
    page.mouse.up()
    handled(page)
    assert g(page, "v3") == before
    press(page, "j")
    page.wait_for_selector("[data-test=note]", state="detached")
    drag(page, "v3", place, (0, 12))
    assert g(page, "v3") != before
    press(page, "Enter")
    eventually(lambda: "Close-up" in page.inner_text("[data-test=window]"))
    press(page, "n")
    page.wait_for_selector("tr[data-id=v4].selected")
    press(page, "Enter")
    eventually(lambda: "Close-up" not in page.inner_text("[data-test=window]"))


def test_a_drag_with_the_right_button_changes_the_window_and_the_place_under_the_mouse_is_told(page, output):
    def window() -> list[str]:
        return page.inner_text("[data-test=window]").split()

    analysis = read_analysis(folder_of(output, 0) / "analysis.json")
    x, y = Picture(page, analysis).xy(analysis.vertebrae[2].keypoints.mean((0, 1)))
    hover(page, x, y)
    eventually(lambda: " HU " in page.inner_text("[data-test=under_mouse]"))
    assert window() == ["W", "1500", "L", "300", "HU"]
    page.mouse.down(button="right")
    page.mouse.move(x + 50, y, steps=5)
    page.mouse.up(button="right")
    becomes(window, ["W", "1650", "L", "300", "HU"])
    press(page, "w")
    becomes(window, ["W", "1500", "L", "300", "HU"])
    assert [e.inner_text() for e in page.query_selector_all("[data-view=Axial] .letter")] == ["R", "L", "A", "P"]


def test_a_complete_study_gets_its_images_a_report_and_the_next_case(page, output):
    folder = folder_of(output, 0)
    press(page, "e")
    eventually(lambda: "not complete" in page.inner_text("[data-test=message]"))
    assert not (folder / "machine.json").exists() or not (folder / "overview.png").exists()
    page.fill("[data-test=reader]", "Dr. Other")
    page.keyboard.press("Tab")
    handled(page)
    analysis = read_analysis(folder / "analysis.json")
    page.click("tr[data-id=v1] [data-cell=g]")
    for _ in analysis.vertebrae:
        press(page, "c")
    record = saved(folder, lambda r: all(v.review == "confirmed" for v in r.vertebrae))
    assert {v.reviewer for v in record.vertebrae} == {"Dr. Other"}
    eventually((folder / "machine-overview.png").exists)  # it is renamed when the record is on disk
    automatic = (folder / "machine-overview.png").read_bytes()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    press(page, "e")
    eventually(lambda: "on the clipboard" in page.inner_text("[data-test=copied]"))
    text = page.input_value("[data-test=report] textarea")
    assert "Spinal deformity index" in text and "Dr. Other" in text
    assert page.evaluate("navigator.clipboard.readText()") == text
    eventually(lambda: "CASE 2" in page.inner_text("[data-test=worklist]").upper())
    assert (folder / "overview.png").exists() and (folder / "straightened.nrrd").exists()
    assert (folder / "machine-overview.png").read_bytes() == automatic
    becomes(lambda: page.input_value("[data-test=reader]"), "Dr. Other")
    eventually(lambda: "Case 1 is complete" in page.inner_text("[data-test=report]"))


def test_a_refused_clipboard_leaves_the_text_to_be_copied(page):
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('refused')); }")
    page.click("tr[data-id=v1] [data-cell=g]")
    for _ in page.query_selector_all("tr[data-id]"):
        press(page, "x")
    press(page, "e")
    eventually(lambda: "The clipboard was refused" in page.inner_text("[data-test=copied]"))
    assert "No vertebra was assessed" in page.input_value("[data-test=report] textarea")


@pytest.mark.parametrize("key", ["Space", "Enter"])
def test_a_focused_button_is_pressed_by_space_and_enter(page, key):
    page.click("tr[data-id=v2] [data-cell=g]")
    handled(page)
    page.focus("[data-test=reject]")
    press(page, key)
    page.wait_for_selector("tr[data-id=v2][data-review=rejected]")
    assert page.get_attribute("tr[data-id=v1]", "data-review") == "open"


def test_a_lost_server_is_told_and_the_tab_comes_back_to_its_case_and_vertebra(chromium, server, scans, output):
    page = open_page(chromium, server)
    first = page.inner_text("[data-test=worklist]")
    press(page, ".")
    page.wait_for_function(f"document.querySelector('[data-test=worklist]').innerText != {first!r}")
    page.wait_for_selector("tr[data-id=v3]")
    idle(page)
    page.click("tr[data-id=v3] [data-cell=g]")
    page.wait_for_selector("tr[data-id=v3].selected")
    handled(page)
    server.stop(signal.SIGKILL)
    page.wait_for_selector("#vfq-lost")
    assert "start it again" in page.inner_text("#vfq-lost")
    again = Server([str(scans), "--output", str(output), "--reader", "tester"])
    try:
        assert again.url == server.url  # the same port and key for the same output folder
        page.wait_for_selector("#vfq-lost", state="detached")
        page.wait_for_selector("tr[data-id=v3].selected")
        eventually(lambda: "CASE 2" in page.inner_text("[data-test=worklist]").upper())
        page.close()
    finally:
        again.stop()


def test_keys_confirm_name_and_order(page, output):
    page.click("tr[data-id=v1] [data-cell=g]")
    press(page, "c")
    page.wait_for_selector("tr[data-id=v1][data-review=confirmed]")
    page.wait_for_selector("tr[data-id=v2].selected")
    page.click("tr[data-id=v1] [data-cell=g]")
    before = cell(page, "v1", "level")
    press(page, "]")
    press(page, "]")
    eventually(lambda: cell(page, "v1", "level") != before)
    press(page, "f")
    becomes(lambda: page.locator("tr[data-id]").last.get_attribute("data-id"), "v1")
    press(page, "?")
    eventually(lambda: "undo" in page.inner_text("[data-test=help]"))
    press(page, "Escape")
    record = saved(folder_of(output, 0), lambda r: r.vertebrae[0].review == "confirmed")
    assert record.vertebrae[0].reviewer == "tester"


def test_an_uncertain_level_is_marked_until_the_reader_sets_one(chromium, scans, unopened):
    file = folder_of(unopened, 0) / "analysis.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    record["vertebrae"][0] |= {"level": "T9", "level_probabilities": {"T9": 0.7}}
    file.write_text(json.dumps(record), encoding="utf-8")
    server = Server([str(scans), "--output", str(unopened), "--reader", "tester"])
    try:
        page = open_page(chromium, server)
        assert cell(page, "v1", "level").split()[:2] == ["T9", "?"]
        assert page.get_attribute("tr[data-id=v1] [data-cell=level] .doubt", "title").startswith("70% certain")
        page.click("tr[data-id=v1] [data-cell=g]")
        press(page, "]")
        eventually(lambda: "?" not in cell(page, "v1", "level"))
        page.close()
    finally:
        server.stop()


def test_doubts_and_physiologic_shapes_are_shown_and_end_with_the_review(chromium, scans, unopened):
    file = folder_of(unopened, 0) / "analysis.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    told = {"code": "metal", "message": "There is metal in or beside the vertebra."}
    data["vertebrae"][1]["quality"] = [told]
    data["quality"] = [{"code": "thick_slices", "where": [], "message": "The slices are 5.0 mm apart."}]
    file.write_text(json.dumps(data))
    server = Server([str(scans), "--output", str(unopened), "--reader", "tester"])
    try:
        page = open_page(chromium, server)
        assert "There is metal in or beside the vertebra: " in page.inner_text("[data-test=quality]")
        assert "The slices are 5.0 mm apart." in page.inner_text("[data-test=quality]")
        marked = page.query_selector("tr[data-id=v2] [data-cell=review] .mdi-alert")
        assert marked.get_attribute("title") == told["message"]
        press(page, "f")
        becomes(lambda: page.locator("tr[data-id]").first.get_attribute("data-id"), "v2")
        page.click("tr[data-id=v2] [data-cell=g]")
        press(page, "c")
        eventually(lambda: "metal" not in page.inner_text("[data-test=quality]"))
        assert "5.0 mm" in page.inner_text("[data-test=quality]")
        page.close()
    finally:
        server.stop()


def test_the_next_case_is_analysed_while_the_reader_reviews_and_opens_quickly(chromium, scans, unopened):
    following = folder_of(unopened, 1)
    shutil.rmtree(following)
    server = Server([str(scans), "--output", str(unopened), "--reader", "tester"])

    def seconds_to_open(key: str, name: str) -> float:
        """Return the processor time of the server."""
        before = server.processor_s()
        page.keyboard.press(key)
        page.wait_for_function(f"document.querySelector('[data-test=worklist]').innerText.trim() == '{name}'")
        page.wait_for_selector("tr[data-id]")
        return server.processor_s() - before

    try:
        page = open_page(chromium, server)
        eventually((following / "analysis.json").exists)
        there_and_back = [seconds_to_open(*act) for act in ((".", "Case 2"), (",", "Case 1")) * 3]
        assert min(there_and_back) < 2 * slowness(), there_and_back
        seconds_to_open(".", "Case 2")
        press(page, ".")
        eventually(lambda: "no further case" in page.inner_text("[data-test=message]"))
        page.close()
    finally:
        server.stop()


def test_the_page_and_the_log_do_not_contain_the_patients_name(page, server):
    page.click("[data-test=worklist]")
    page.wait_for_selector("text=Case 2")
    text = page.content() + page.inner_text("body")
    assert "Doe" not in text
    assert page.outside == []
    log = server.stop()
    assert "Doe" not in log.replace(server.url, "")


def test_an_analysis_of_another_ct_is_refused_in_the_page(chromium, scans, unopened, tmp_path):
    first = sorted(scans.iterdir())[0]
    other = folder_of(unopened, 1) / "analysis.json"
    server = Server([str(first), "--analysis", str(other), "--output", str(tmp_path / "elsewhere")])
    try:
        page = new_page(chromium)
        page.goto(server.url)
        eventually(lambda: "another" in page.inner_text("[data-test=message]").lower())
        page.close()
    finally:
        server.stop()


def test_the_command_analyses_a_case_without_an_analysis_and_ends_by_ctrl_c(chromium, scans, tmp_path):
    first = sorted(scans.iterdir())[0]
    vfq = [sys.executable, "-m", "VertebralFractureQuantLib.cli"]
    command = [*vfq, "review", "--no-browser", str(first), "--output", str(tmp_path / "fresh")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr
            (address,) = next(filter(None, (re.findall(r"Open (http\S+)", line) for line in server.stderr)))
            page = new_page(chromium)
            page.goto(address)
            page.wait_for_selector("tr[data-id]")
            page.close()
            assert json.loads((folder_of(tmp_path / "fresh", 0) / "analysis.json").read_text())["status"] == "ok"
        finally:
            server.send_signal(signal.SIGINT)
    assert server.returncode == 0
