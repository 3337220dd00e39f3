"""What the page does for a reader's eyes: the loupe, reference lines, windows that are remembered, labels, clicks."""

from __future__ import annotations

import io

import numpy as np
import pytest

pytest.importorskip("trame_slicer", reason="needs the review page: pip install '.[review]'")
pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")

from browser_bench import (
    CHROMIUM,
    SIZE,
    Picture,
    Server,
    becomes,
    eventually,
    folder_of,
    g,
    handled,
    hover,
    open_page,
    overlay_pixels,
    press,
    steady,
    tap,
)
from PIL import Image
from VertebralFractureQuantLib.imaging.files import read_ct
from VertebralFractureQuantLib.scene.loupe import HALF_MM, PITCH_MM, shades
from VertebralFractureQuantLib.scene.volumes import WINDOWS
from VertebralFractureQuantLib.spine.record_json import read_analysis

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

LOUPE = "[data-test=loupe]"


def image_of(page, name: str) -> np.ndarray:
    """Return the pixels of a view `[row, column, RGB]`."""
    shot = page.locator(f"[data-view={name}]").screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), int)


def grab(page, output, vertebra: int, point: tuple[int, int]) -> tuple[Picture, float, float]:
    """Press the mouse on a key point in the straightened view, and return where that is."""
    analysis = read_analysis(folder_of(output, 0) / "analysis.json")
    picture = Picture(page, analysis)
    x, y = picture.xy(analysis.vertebrae[vertebra].keypoints[point])
    hover(page, x, y)
    page.mouse.down()
    return picture, x, y


def loupe_box(page) -> dict[str, float]:
    page.wait_for_selector(LOUPE, state="visible")
    return page.query_selector(LOUPE).bounding_box()


def contains(box: dict[str, float], x: float, y: float) -> bool:
    return box["x"] <= x <= box["x"] + box["width"] and box["y"] <= y <= box["y"] + box["height"]


def shown(page) -> list[float]:
    """Return the column and row of the sent picture under the loupe's crosshair, and the magnification."""
    return [float(part) for part in page.get_attribute(LOUPE, "data-shown").split(",")]


def grey_at(page, right: float, up: float) -> int:
    """Return the loupe's shade at a place in CSS pixels from its middle."""
    return page.evaluate(
        """([selector, right, up]) => {
          const loupe = document.querySelector(selector), ratio = loupe.width / loupe.clientWidth;
          const x = ratio * (loupe.clientWidth / 2 + right), y = ratio * (loupe.clientHeight / 2 - up);
          return loupe.getContext("2d").getImageData(x, y, 1, 1).data[0]; }""",
        [LOUPE, right, up],
    )


@pytest.mark.parametrize("point", [(0, 0), (1, 0), (2, 1)])
def test_the_loupe_shows_the_dragged_point_beside_the_mouse_and_goes_with_it(page, output, scans, point):
    ct = read_ct(sorted(scans.iterdir())[0])
    picture, x, y = grab(page, output, 2, point)
    box, (column, row, times) = loupe_box(page), shown(page)
    middle = (2 * HALF_MM / PITCH_MM + 1) / 2
    assert times == 3.0 and (column, row) == (pytest.approx(middle, abs=0.01),) * 2
    assert not contains(box, x, y)
    keypoints = read_analysis(folder_of(output, 0) / "analysis.json").vertebrae[2].keypoints
    for each in keypoints.reshape(6, 3):
        assert not contains(box, *picture.xy(each))
    straightening = picture.straightening
    at = straightening.to_straight(keypoints[point])
    for right, up in ((0, 0), (3, 4), (-5, 2), (4, -3)):  # mm; the crosshair is open in its middle
        place = straightening.to_patient(np.array([0.0, at[1] - right, at[2] + up]))
        wanted = int(shades(ct.sample(place), WINDOWS["bone"]))
        assert grey_at(page, right * times / picture.mm, up * times / picture.mm) == pytest.approx(wanted, abs=12)
    page.mouse.move(x + 12, y - 9, steps=4)
    eventually(lambda: shown(page)[0] == pytest.approx(middle + 12 * picture.mm / PITCH_MM, abs=0.05))
    assert shown(page)[1] == pytest.approx(middle - 9 * picture.mm / PITCH_MM, abs=0.05)
    moved = loupe_box(page)
    assert not contains(moved, x + 12, y - 9)
    assert (moved["x"] - box["x"], moved["y"] - box["y"]) == (pytest.approx(12, abs=1), pytest.approx(-9, abs=1))
    page.mouse.up()
    page.wait_for_selector(LOUPE, state="hidden")


def test_far_from_its_start_the_loupe_gets_another_picture(page, output):
    picture, x, y = grab(page, output, 2, (0, 0))
    loupe_box(page)
    far = round(1.5 * HALF_MM / picture.mm)
    page.mouse.move(x - far, y, steps=30)
    middle = (2 * HALF_MM / PITCH_MM + 1) / 2
    eventually(lambda: abs(shown(page)[0] - middle) < HALF_MM / 2 / PITCH_MM + 12 * picture.mm / PITCH_MM)
    page.mouse.up()
    page.wait_for_selector(LOUPE, state="hidden")


def test_a_press_beside_the_points_and_a_close_up_need_no_loupe(page, output):
    analysis = read_analysis(folder_of(output, 0) / "analysis.json")
    page.mouse.click(*Picture(page, analysis).xy(analysis.vertebrae[2].keypoints.mean((0, 1))))
    page.wait_for_selector("tr[data-id=v3].selected")
    handled(page)
    assert not page.is_visible(LOUPE)
    press(page, "Enter")
    eventually(lambda: "Close-up" in page.inner_text("[data-test=window]"))
    box = page.query_selector("[data-view=Straightened]").bounding_box()
    straight = Picture(page, analysis).straightening.to_straight(analysis.vertebrae[2].keypoints)
    low, high = straight.min((0, 1)), straight.max((0, 1))
    mm = max(1.5 * (high - low)[1] / box["width"], 1.5 * (high - low)[2] / box["height"])
    a, s = straight[1, 0, 1:] - (low + high)[1:] / 2
    x, y = box["x"] + box["width"] / 2 - a / mm, box["y"] + box["height"] / 2 - s / mm
    before = g(page, "v3")
    hover(page, x, y)
    page.mouse.down()
    page.mouse.move(x, y + 30, steps=5)
    eventually(lambda: g(page, "v3") != before)  # the point is dragged
    assert not page.is_visible(LOUPE)
    page.mouse.up()


def test_a_double_click_on_a_point_leaves_all_views_at_its_vertebra_and_changes_nothing(page, output):
    """Regression: the patient's views went to the straightened coordinates of the point, and were black."""
    analysis = read_analysis(folder_of(output, 0) / "analysis.json")
    before = [g(page, f"v{i + 1}") for i in range(len(analysis.vertebrae))]
    x, y = Picture(page, analysis).xy(analysis.vertebrae[3].keypoints[1, 1])
    hover(page, x, y)
    page.mouse.dblclick(x, y)
    page.wait_for_selector("tr[data-id=v4].selected")
    handled(page)
    page.mouse.move(5, 5)
    for name in ("Straightened", "Sagittal", "Coronal", "Axial"):
        eventually(lambda name=name: (image_of(page, name)[60:-60, 60:-60].max(-1) > 40).mean() > 0.2)
    assert [g(page, f"v{i + 1}") for i in range(len(analysis.vertebrae))] == before
    assert page.is_disabled("[data-test=undo]")


def blue(page, name: str) -> int:
    """Count the pixels of the straightened plane's colour in a view."""
    red, green, blue = np.moveaxis(image_of(page, name)[30:-30], -1, 0)
    return int(((blue - red > 30) & (blue - green > 15)).sum())


def test_reference_lines_are_drawn_in_the_views_and_hide_with_h(page):
    page.click("tr[data-id=v3] [data-cell=g]")
    handled(page)
    page.mouse.move(5, 5)
    for name in ("Coronal", "Axial"):
        eventually(lambda name=name: blue(page, name) > 60)
    tap(page, "h")
    for name in ("Coronal", "Axial"):
        eventually(lambda name=name: blue(page, name) < 6)
    tap(page, "h")
    eventually(lambda: blue(page, "Axial") > 60)


def test_labels_stand_right_of_the_bodies_and_hide_with_h(page, output):
    analysis = read_analysis(folder_of(output, 0) / "analysis.json")
    picture = Picture(page, analysis)
    box = page.query_selector("[data-view=Straightened]").bounding_box()
    back = max(picture.xy(p)[0] for v in analysis.vertebrae for p in v.keypoints.reshape(6, 3)) - box["x"]

    def beside() -> int:
        """Count the coloured pixels right of all bodies and their points."""
        return int((np.ptp(image_of(page, "Straightened")[60:-60, round(back) + 12 :], axis=-1) > 60).sum())

    page.mouse.move(5, 5)
    eventually(lambda: beside() > 200)
    with_labels = steady(page, beside)
    tap(page, "h")
    eventually(lambda: beside() < 0.1 * with_labels and overlay_pixels(page) < 200)
    tap(page, "h")
    eventually(lambda: beside() > 0.8 * with_labels)


def window(page) -> list[str]:
    return page.inner_text("[data-test=window]").split()


def test_a_window_is_chosen_from_the_menu_or_by_w_and_stays_after_a_restart(chromium, server, scans, output):
    context = chromium.new_context(viewport=SIZE)  # a reader's browser
    first = open_page(ContextOnly(context), server)
    assert first.input_value("[data-test=preset]") == "bone"
    press(first, "w")
    becomes(lambda: first.input_value("[data-test=preset]"), "soft")
    becomes(lambda: window(first), ["W", "400", "L", "40", "HU"])
    first.select_option("[data-test=preset]", "auto")
    eventually(lambda: window(first) not in (["W", "400", "L", "40", "HU"], ["W", "1500", "L", "300", "HU"]))
    assert first.input_value("[data-test=preset]") == "auto"
    press(first, ".")  # the next case has the window of its own content
    eventually(lambda: "CASE 2" in first.inner_text("[data-test=worklist]").upper())
    first.wait_for_selector("tr[data-id]")
    becomes(lambda: first.input_value("[data-test=preset]"), "auto")
    first.close()
    server.stop()
    again = Server([str(scans), "--output", str(output), "--reader", "tester"])
    try:
        second = open_page(ContextOnly(context), again)
        becomes(lambda: second.input_value("[data-test=preset]"), "auto")
        x, y = (sum(pair) for pair in zip(*middle_of(second), strict=True))
        second.mouse.move(x, y)
        second.mouse.down(button="right")
        second.mouse.move(x + 30, y, steps=5)
        second.mouse.up(button="right")
        becomes(lambda: second.input_value("[data-test=preset]"), "own")
        handled(second)
        adjusted = window(second)
        second.reload()
        second.wait_for_selector("tr[data-id]")
        becomes(lambda: (second.input_value("[data-test=preset]"), window(second)), ("own", adjusted))
        second.evaluate("localStorage.setItem('vfq-window', '[\"own\", null, {}]')")  # broken
        second.reload()
        second.wait_for_selector("tr[data-id]")
        handled(second)
        becomes(lambda: window(second), adjusted)
        assert not second.is_visible("[data-test=message]")
        second.close()
    finally:
        again.stop()
        context.close()


class ContextOnly:
    """A browser context that makes pages as a browser does."""

    def __init__(self, context):
        self.context = context

    def new_page(self, viewport):
        return self.context.new_page()


def middle_of(page) -> tuple[tuple[float, float], tuple[float, float]]:
    box = page.query_selector("[data-view=Straightened]").bounding_box()
    return (box["x"], box["y"]), (box["width"] / 2, box["height"] / 2)


def test_points_and_labels_are_larger_on_a_screen_of_high_resolution(chromium, server):
    page = open_page(chromium, server)
    eventually(lambda: overlay_pixels(page) > 500)
    coarse = steady(page, lambda: overlay_pixels(page))
    page.close()
    context = chromium.new_context(viewport=SIZE, device_scale_factor=2)
    try:
        page = open_page(ContextOnly(context), server)
        eventually(lambda: overlay_pixels(page) > 1.5 * coarse)
        page.close()
    finally:
        context.close()
