"""The page around its images: sizes of screens, themes, keyboard, screen readers, fingers, trackpads, two tabs.

axe-core, the usual checker of accessibility, comes with the package `axe-playwright-python`.
"""

from __future__ import annotations

import re
import time

import numpy as np
import pytest

pytest.importorskip("trame_slicer", reason="needs the review page: pip install '.[review]'")
pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")

from browser_bench import (
    CHROMIUM,
    Picture,
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
    press,
    saved,
)
from VertebralFractureQuantLib.browser.sizes import to_image
from VertebralFractureQuantLib.spine.record_json import read_analysis

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

# 640 x 400 is 1280 x 800 at a zoom of 200 %.
SIZES = ((1280, 800), (1024, 600), (640, 400), (1920, 1080), (3840, 2160))
LONG = "a name that is longer than any tool bar " * 5
# Each control comes into sight when it is asked for, and nothing lies over it.
OUT_OF_REACH = """() => {
  const controls = ".bar button, .bar .notice, .side button, .side input, .view-label *, .strip .v-slider, tr[data-id]";
  return [...document.querySelectorAll(controls)].filter((e) => e.checkVisibility()).map((e) => {
    e.scrollIntoView({block: "nearest", inline: "nearest"});
    const {left, right, top, bottom} = e.getBoundingClientRect();
    const inside = left > -1 && top > -1 && right < innerWidth + 1 && bottom < innerHeight + 1;
    const hit = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
    return inside && (e.contains(hit) || hit?.contains(e)) ? "" : e.outerHTML.slice(0, 120);
  }).filter(Boolean);
}"""
OVERLAPS = """() => {
  const parts = [...document.querySelectorAll(".bar > *, .place, .side")].filter((e) => e.checkVisibility());
  const boxes = parts.map((e) => e.getBoundingClientRect());
  const over = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
    Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
  return parts.flatMap((e, i) => parts.slice(i + 1).filter((_, j) => over(boxes[i], boxes[i + 1 + j]))
    .map((f) => e.className + " over " + f.className));
}"""
AT_REST = """document.getAnimations().every((moving) =>
  moving.playState !== "running" || moving.effect.getComputedTiming().endTime === Infinity)"""
FOCUSED = """() => {
  const e = document.activeElement, style = getComputedStyle(e);
  return {name: e.getAttribute("aria-label") || e.labels?.[0]?.innerText || e.innerText || "",
    test: e.dataset.test || "", row: e.dataset.id || "",
    seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1};
}"""


def share(page, name: str = "Straightened") -> float:
    """Return the share of the page that a view has."""
    box, size = page.query_selector(f"[data-view={name}]").bounding_box(), page.viewport_size
    return box["width"] * box["height"] / (size["width"] * size["height"])


def image_shape(page, name: str) -> tuple[int, int]:
    shape = page.evaluate(f"(i => [i.naturalWidth, i.naturalHeight])(document.querySelector('[data-view={name}] img'))")
    return tuple(shape)


def box_shape(page, name: str) -> tuple[int, int]:
    box = page.query_selector(f"[data-view={name}] .remote-controlled-area").bounding_box()
    return int(box["width"]), int(box["height"])


def fills(page, name: str) -> None:
    """Wait until the image of a view has the view's size."""
    eventually(lambda: image_shape(page, name) == box_shape(page, name))


def nothing_is_hidden(page) -> None:
    """Check that no part of the page lies over another one, and that each control is in reach."""
    at_rest(page)
    becomes(lambda: page.evaluate(OVERLAPS), [])
    becomes(lambda: page.evaluate(OUT_OF_REACH), [])


def at_rest(page) -> None:
    """Wait until nothing moves or fades in any more; what turns while the page is busy has no end."""
    page.wait_for_function(AT_REST)


def color(page, selector: str) -> str:
    return page.eval_on_selector(selector, "e => getComputedStyle(e).backgroundColor")


def test_at_every_size_the_straightened_image_has_half_of_the_page_and_every_control_is_in_reach(page):
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        fills(page, "Straightened")
        assert share(page) >= 0.5, (width, height)
        nothing_is_hidden(page)
        page.evaluate("name => window.trame.state.set('case_name', name)", LONG)
        becomes(lambda: page.get_attribute("[data-test=worklist]", "title"), LONG)
        nothing_is_hidden(page)
        page.evaluate("window.trame.state.set('case_name', 'Case 1')")
        press(page, "5")
        eventually(lambda: not page.is_visible("[data-test=side]") and page.is_visible("[data-view=Axial]"))
        nothing_is_hidden(page)
        press(page, "5")
        eventually(lambda: page.is_visible("[data-test=side]"))


def test_a_view_is_enlarged_by_its_name_its_button_and_its_key_and_goes_back(page):
    small = share(page, "Axial")
    for act, again in (
        (lambda: page.dblclick("[data-view=Axial] .view-label span"),) * 2,
        (lambda: page.click("[data-test=enlarge-Axial]"),) * 2,
        (lambda: press(page, "4"), lambda: press(page, "4")),
    ):
        act()
        eventually(lambda: share(page, "Axial") > 0.5)
        fills(page, "Axial")
        becomes(lambda: page.get_attribute("[data-test=enlarge-Axial]", "aria-pressed"), "true")
        eventually(lambda: not page.is_visible("[data-view=Coronal]") and page.is_visible("[data-test=side]"))
        again()
        becomes(lambda: share(page, "Axial"), pytest.approx(small))
        fills(page, "Straightened")


def test_the_theme_is_that_of_the_system_until_the_reader_chooses(chromium, server):
    page = open_page(chromium, server, color_scheme="light")
    becomes(lambda: color(page, ".side"), "rgb(255, 255, 255)")
    assert {color(page, f"[data-view={name}]") for name in ("Straightened", "Axial")} == {"rgb(0, 0, 0)"}
    page.emulate_media(color_scheme="dark")
    becomes(lambda: color(page, ".side"), "rgb(27, 28, 30)")
    page.click("[data-test=vfqTheme]")
    becomes(lambda: color(page, ".side"), "rgb(255, 255, 255)")
    page.reload()
    page.wait_for_selector("tr[data-id]")
    becomes(lambda: color(page, ".side"), "rgb(255, 255, 255)")
    page.emulate_media(color_scheme="light")  # as chosen; then back to the system's choice
    handled(page)
    page.emulate_media(color_scheme="dark")
    handled(page)
    becomes(lambda: color(page, ".side"), "rgb(255, 255, 255)")
    page.click("[data-test=vfqTheme]")
    becomes(lambda: color(page, ".side"), "rgb(27, 28, 30)")
    page.emulate_media(color_scheme="light")
    becomes(lambda: color(page, ".side"), "rgb(255, 255, 255)")
    page.close()


def test_without_storage_the_page_works_and_forgets_the_theme(chromium, server):
    page = new_page(chromium, color_scheme="dark")
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('refused'); }})")
    page.goto(server.url)
    page.wait_for_selector("tr[data-id]")
    page.click("[data-test=vfqTheme]")
    becomes(lambda: color(page, ".side"), "rgb(255, 255, 255)")
    press(page, "5")
    eventually(lambda: not page.is_visible("[data-test=side]"))
    assert errors == []
    page.close()


def faults(page) -> list[str]:
    """Return the serious and critical faults that axe-core finds."""
    from axe_playwright_python.sync_playwright import Axe

    at_rest(page)
    found = [v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
    return [f"{v['id']}: {node['html'][:150]}" for v in found for node in v["nodes"]]


def test_messages_come_as_array_buffers_which_are_at_hand_at_once(chromium, server):
    page = new_page(chromium)
    page.add_init_script(
        "window.sockets = []; const Real = WebSocket;"
        "window.WebSocket = class extends Real { constructor(...at) { super(...at); window.sockets.push(this); } };"
    )
    page.goto(server.url)
    page.wait_for_selector("tr[data-id]")
    becomes(lambda: page.evaluate("window.sockets.map(s => s.binaryType)"), ["arraybuffer"])
    press(page, "?")  # messages still arrive
    page.wait_for_selector("[data-test=help]")
    page.close()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_axe_finds_no_serious_fault(chromium, server, theme):
    pytest.importorskip("axe_playwright_python", reason="needs axe-core: pip install '.[test]'")
    page = open_page(chromium, server, color_scheme=theme)
    page.click("tr[data-id=v1] [data-cell=g]")
    for key in "cx":
        press(page, key)
    page.wait_for_selector("tr[data-id=v2][data-review=rejected]")
    page.evaluate("window.trame.state.update({message: 'A message.', hint: 'A hint.', unsaved: 'No space.'})")
    page.wait_for_selector("[data-test=message]")
    assert faults(page) == []
    press(page, "?")
    page.wait_for_selector("[data-test=help] .close:focus")
    assert faults(page) == []
    press(page, "Escape")
    page.click("[data-test=worklist]")
    page.wait_for_selector("[data-test=search]:focus")
    page.wait_for_selector("[data-case]")
    assert faults(page) == []
    page.close()


def test_the_tab_key_reaches_every_control_and_each_has_a_name_and_a_visible_focus(page):
    page.focus("[data-test=worklist]")
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
        if reached[-1]["test"] == "toggle_order":
            break
    assert [stop for stop in reached if not (stop["name"].strip() and stop["seen"])] == []
    enabled = page.eval_on_selector_all(
        "button[data-test]:not(:disabled)",
        "all => all.filter(e => e.checkVisibility() && !e.closest('[inert]')).map(e => e.dataset.test)",
    )
    assert set(enabled) - {"worklist", "cancel"} <= {stop["test"] for stop in reached}
    assert {stop["test"] for stop in reached} >= {"reader", "enlarge-Axial", "confirm", "vfqTheme"}
    selected = page.get_attribute("tr.selected", "data-id")
    assert [stop["row"] for stop in reached if stop["row"]] == [selected]  # one stop in the table; arrows go on


def test_arrows_move_the_focus_in_the_table_and_what_changes_is_announced(page, output):
    analysis = read_analysis(folder_of(output, 0) / "analysis.json")
    page.click("tr[data-id=v2] [data-cell=g]")
    page.wait_for_selector("tr[data-id=v2].selected")
    page.focus("tr[data-id=v2]")
    press(page, "ArrowDown")
    page.wait_for_selector("tr[data-id=v3].selected:focus")
    becomes(lambda: page.get_attribute("tr[data-id=v3]", "aria-selected"), "true")
    heard = page.locator("[data-test=announced]")
    assert heard.get_attribute("aria-live") == "polite"
    becomes(
        lambda: heard.inner_text().split(", ")[:2], [cell(page, "v3", "level").split()[0], cell(page, "v3", "grade")]
    )
    v = analysis.vertebrae[2]
    picture = Picture(page, analysis)
    drag(page, "v3", picture.xy(v.keypoints[1, 0]), (0, 0.45 * v.measurement.heights_mm[1] / picture.mm))
    assert cell(page, "v3", "grade") in ("moderate", "severe")
    becomes(lambda: heard.inner_text().split(", ")[1], cell(page, "v3", "grade"))
    press(page, "x")
    page.click("tr[data-id=v3] [data-cell=g]")
    eventually(lambda: "rejected" in heard.inner_text())
    assert page.locator("[data-test=hint]").get_attribute("aria-live") == "polite"


def test_dialogs_keep_the_focus_and_give_it_back(page):
    """The focus may go to the browser's own controls, but never to the page behind."""
    page.focus("[data-test=toggle_help]")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-test=help] .close:focus")
    for _ in range(4):
        page.keyboard.press("Tab")
        assert page.evaluate("!document.activeElement.closest('main, header')")
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-test=toggle_help]:focus")
    page.focus("[data-test=worklist]")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-test=search]:focus")
    for _ in range(4):
        page.keyboard.press("Tab")
        assert page.evaluate("!document.activeElement.closest('main, header')")
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-test=worklist]:focus")


def test_the_worklist_is_used_by_arrows_and_enter_which_then_confirm_nothing(page):
    page.focus("[data-test=worklist]")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-test=search]:focus")
    page.wait_for_selector("[data-case='1']")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("[data-case='0']:focus")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("[data-case='1']:focus")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('[data-test=worklist]').innerText.trim() == 'Case 2'")
    page.wait_for_selector("tr[data-id=v1]")
    idle(page)
    handled(page)
    assert page.locator("tr[data-id]:not([data-review=open])").count() == 0
    assert page.is_disabled("[data-test=undo]")


def test_grades_differ_by_their_number_and_word_and_not_only_by_colour(page):
    numbers = page.eval_on_selector_all(
        "tr[data-id] .grade", "all => all.map(e => [e.innerText, getComputedStyle(e, '::before').content])"
    )
    wanted = {"normal": '"0 "', "mild": '"1 "', "moderate": '"2 "', "severe": '"3 "'}
    assert len(numbers) > 4 and all(wanted[word] == number for word, number in numbers)


def plane(page) -> float:
    """Return the place of the straightened plane in mm, positive to the right."""
    mm, side = re.search(r"([\d.]+) mm (left|right)", page.inner_text(".straight .plane")).groups()
    return float(mm) * (1 if side == "right" else -1)


def test_a_trackpad_scrolls_by_distance_and_a_notch_of_a_wheel_is_one_plane(page):
    box = page.query_selector("[data-view=Straightened]").bounding_box()
    hover(page, box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, 120)
    eventually(lambda: plane(page) != 0)
    handled(page)
    notch = abs(plane(page))
    page.mouse.wheel(0, -120)
    becomes(lambda: plane(page), 0)
    scroll(page, 20, 6)  # 120 pixels in all: three planes, not twenty
    handled(page)
    becomes(lambda: abs(plane(page)), pytest.approx(3 * notch))


def scroll(page, count: int, pixels: float) -> None:
    """Scroll `count` times within a fifth of a second, however long the browser takes for it."""
    box, begun = page.query_selector("[data-view=Straightened]").bounding_box(), time.time()
    cdp = page.context.new_cdp_session(page)
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "deltaX": 0, "deltaY": pixels}
    for i in range(count):
        cdp.send("Input.dispatchMouseEvent", {"type": "mouseWheel", **at, "timestamp": begun + 0.01 * i})
    cdp.detach()


class Fingers:
    """Fingers on the screen of a page."""

    def __init__(self, page):
        self._cdp = page.context.new_cdp_session(page)

    def __call__(self, kind: str, *places) -> None:
        points = [{"x": float(x), "y": float(y), "id": i} for i, (x, y) in enumerate(places)]
        self._cdp.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})


def test_a_finger_drags_a_point_and_two_fingers_zoom_and_move_the_image(chromium, server, output):
    page = open_page(chromium, server, has_touch=True)
    folder = folder_of(output, 0)
    analysis = read_analysis(folder / "analysis.json")
    picture, v, fingers = Picture(page, analysis), analysis.vertebrae[2], Fingers(page)
    before = g(page, "v3")
    start = np.array(picture.xy(v.keypoints[1, 0]))
    down = 0.3 * v.measurement.heights_mm[1]
    fingers("Start", start)
    for y in np.linspace(0, down / picture.mm, 8)[1:]:
        fingers("Move", start + [0, y])
    eventually(lambda: g(page, "v3") != before)
    fingers("End")
    moved = saved(folder, lambda r: r.vertebrae[2].origin == "reader").vertebrae[2]
    by = picture.straightening.to_straight(moved.keypoints[1, 0]) - picture.straightening.to_straight(v.keypoints[1, 0])
    np.testing.assert_allclose(by[1:], [0, -down], atol=2 * picture.mm)
    handled(page)
    before = g(page, "v3")

    # The fingers begin on points of a vertebra: it stays. What is between them follows, twice as large.
    a, b = np.array(picture.xy(v.keypoints[0, 0])), np.array(picture.xy(v.keypoints[2, 1]))
    middle, half = (a + b) / 2, (b - a) / 2
    to = middle + [40, 30]
    fingers("Start", a, b)
    for t in np.linspace(0, 1, 6)[1:]:
        at, size = middle + t * (to - middle), half * (1 + t)
        fingers("Move", at - size, at + size)
    fingers("End")
    handled(page)
    point = analysis.vertebrae[3].keypoints[1, 0]
    place = to + 2 * (np.array(picture.xy(point)) - middle)
    drag(page, "v4", place, (0, 2 * 6))
    assert g(page, "v3") == pytest.approx(before, abs=1e-9)
    moved = saved(folder, lambda r: r.vertebrae[3].origin == "reader").vertebrae[3].keypoints[1, 0]
    by = picture.straightening.to_straight(moved) - picture.straightening.to_straight(point)
    np.testing.assert_allclose(by[1:], [0, -6 * picture.mm], atol=2 * picture.mm)
    page.close()


@pytest.mark.parametrize(
    ("place", "wanted"),
    [((200, 150), (50, 75)), ((100, 0), (0, 0)), ((300, 300), (100, 150)), ((50, 150), (-25, 75))],
)
def test_a_place_in_a_wide_tab_is_a_pixel_of_a_narrow_image(place, wanted):
    np.testing.assert_allclose(to_image(place, (400, 300), (100, 150)), wanted)
    np.testing.assert_allclose(to_image(place, (400, 300), (400, 300)), place)


def test_two_tabs_of_different_size_both_show_and_use_the_right_places(chromium, server, output):
    large = open_page(chromium, server)
    small = open_page(chromium, server, viewport={"width": 900, "height": 800}, has_touch=True)
    folder = folder_of(output, 0)
    analysis = read_analysis(folder / "analysis.json")
    eventually(lambda: image_shape(large, "Straightened") == box_shape(small, "Straightened"))
    assert large.eval_on_selector("[data-view=Straightened] img", "e => getComputedStyle(e).objectFit") == "contain"
    large.mouse.move(5, 300)  # the mouse comes into this tab, and the views take its size
    for page in (large, small):
        eventually(lambda page=page: image_shape(page, "Straightened") == box_shape(large, "Straightened"))
    large.mouse.click(*Picture(large, analysis).xy(analysis.vertebrae[4].keypoints.mean((0, 1))))
    large.wait_for_selector("tr[data-id=v5].selected")

    # A finger in the small tab, which shows the image of the large one with margins.
    picture, v = Picture(large, analysis), analysis.vertebrae[2]
    shown, image = (page.query_selector("[data-view=Straightened]").bounding_box() for page in (small, large))
    scale = min(shown["width"] / image["width"], shown["height"] / image["height"])
    center = np.array([shown["x"] + shown["width"] / 2, shown["y"] + shown["height"] / 2])
    start = center + scale * (np.array(picture.xy(v.keypoints[1, 0])) - picture.center)
    down = 0.3 * v.measurement.heights_mm[1]
    fingers, before = Fingers(small), g(small, "v3")
    fingers("Start", start)
    for share_of in np.linspace(0, 1, 8)[1:]:
        fingers("Move", start + [0, share_of * down / picture.mm * scale])
    eventually(lambda: g(small, "v3") != before)
    fingers("End")
    moved = saved(folder, lambda r: r.vertebrae[2].origin == "reader").vertebrae[2]
    by = picture.straightening.to_straight(moved.keypoints[1, 0]) - picture.straightening.to_straight(v.keypoints[1, 0])
    np.testing.assert_allclose(by[1:], [0, -down], atol=2 * picture.mm / scale)
    fills(small, "Straightened")  # used last
    large.close()
    small.close()
