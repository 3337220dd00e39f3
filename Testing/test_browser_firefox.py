"""The review page in Firefox: images, keys, a drag, the wheel, a finger, and the rules of accessibility.

Mozilla's own driver works with an installed Firefox; Playwright would download a Firefox of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("trame_slicer", reason="needs the review page: pip install '.[review]'")
driver = pytest.importorskip("marionette_driver.marionette", reason="needs Firefox's driver: pip install '.[test]'")

from browser_bench import HANDLED, IMAGES_SHOWN, LIMIT_S, Picture, becomes, eventually, folder_of, saved  # noqa: E402
from VertebralFractureQuantLib.spine.record_json import read_analysis  # noqa: E402

FIREFOX = next((p for p in map(shutil.which, ("firefox-esr", "firefox")) if p), None)
pytestmark = pytest.mark.skipif(FIREFOX is None, reason="needs Firefox")


class Page:
    """A page in Firefox, with the few methods of Playwright's that these tests use."""

    def __init__(self, firefox, url: str):
        self.firefox = firefox
        firefox.set_window_rect(width=1600, height=1050)
        firefox.navigate(url)
        eventually(lambda: self("return document.querySelectorAll('tr[data-id]').length"))
        eventually(lambda: self(f"return {IMAGES_SHOWN}"))
        self.evaluate(HANDLED)

    def __call__(self, script: str, *values):
        return self.firefox.execute_script(script, values, sandbox=None)

    def evaluate(self, function: str):
        """Run an asynchronous function without parameters, and return its result."""
        script = f"const done = arguments[arguments.length - 1]; ({function})().then(done)"
        return self.firefox.execute_async_script(script, sandbox=None)

    def query_selector(self, selector: str) -> SimpleNamespace:
        box = self(f"const b = document.querySelector('{selector}').getBoundingClientRect(); return b.toJSON()")
        return SimpleNamespace(bounding_box=lambda: box)

    def attribute(self, selector: str, name: str) -> str:
        return self(f"return document.querySelector('{selector}').getAttribute('{name}')")

    def press(self, key: str) -> None:
        self.firefox.actions.sequence("key", "keyboard").key_down(key).key_up(key).perform()

    def pointer(self, kind: str = "mouse"):
        return self.firefox.actions.sequence("pointer", f"a-{kind}", {"pointerType": kind})


@pytest.fixture(scope="module")
def firefox(tmp_path_factory) -> Iterator[object]:
    log = tmp_path_factory.mktemp("firefox") / "log"
    firefox = driver.Marionette(bin=FIREFOX, headless=True, prefs={"ui.systemUsesDarkTheme": 1}, gecko_log=str(log))
    firefox.start_session()
    firefox.timeout.script = LIMIT_S
    yield firefox
    firefox.quit()


@pytest.fixture
def page(firefox, server) -> Page:
    return Page(firefox, server.url)


def drag(page: Page, start: np.ndarray, down: float, kind: str) -> None:
    """Drag from a place downwards."""
    pointer = page.pointer(kind).pointer_move(int(start[0]), int(start[1]) - 20 * (kind == "mouse"))
    pointer = pointer.pointer_move(int(start[0]), int(start[1])).pointer_down()
    for y in np.linspace(0, down, 8)[1:]:
        pointer = pointer.pointer_move(int(start[0]), int(start[1] + y), duration=60)
    pointer.pointer_up().perform()


@pytest.mark.parametrize("kind", ["mouse", "touch"])
def test_a_point_is_dragged_in_firefox(page, output, kind):
    folder = folder_of(output, 0)
    analysis = read_analysis(folder / "analysis.json")
    picture, v = Picture(page, analysis), analysis.vertebrae[2]
    down = 0.4 * v.measurement.heights_mm[1]
    drag(page, np.array(picture.xy(v.keypoints[1, 0])), down / picture.mm, kind)
    moved = saved(folder, lambda r: r.vertebrae[2].origin == "reader").vertebrae[2]
    by = picture.straightening.to_straight(moved.keypoints[1, 0]) - picture.straightening.to_straight(v.keypoints[1, 0])
    np.testing.assert_allclose(by[1:], [0, -down], atol=2.5 * picture.mm)
    becomes(
        lambda: float(page.attribute("tr[data-id=v3]", "data-g")),
        pytest.approx(moved.measurement.genant_ratio, abs=1e-9),
    )


def test_keys_the_wheel_and_the_theme_work_in_firefox(page):
    page("document.querySelector('tr[data-id=v1] [data-cell=g]').click()")
    eventually(lambda: "selected" in page.attribute("tr[data-id=v1]", "class"))
    page.press("c")
    becomes(lambda: page.attribute("tr[data-id=v1]", "data-review"), "confirmed")
    ground = "return getComputedStyle(document.querySelector('.side')).backgroundColor"
    becomes(lambda: page(ground), "rgb(27, 28, 30)")
    page("document.querySelector('[data-test=vfqTheme]').click()")
    becomes(lambda: page(ground), "rgb(255, 255, 255)")

    box = page.query_selector("[data-view=Straightened]").bounding_box()
    at = {"x": int(box["width"] / 2), "y": int(box["top"] + box["height"] / 2), "duration": 0, "deltaX": 0}
    page.pointer().pointer_move(at["x"], at["y"]).perform()

    def scrolled(count: int, pixels: int) -> float:
        """Return by how many mm the plane moves."""
        wheel = page.firefox.actions.sequence("wheel", "wheel")
        wheel._actions.extend({"type": "scroll", "deltaY": pixels, **at} for _ in range(count))
        before = plane(page)
        wheel.perform()
        eventually(lambda: plane(page) != before)
        page.evaluate(HANDLED)
        return abs(plane(page) - before)

    notch = scrolled(1, 120)
    assert scrolled(20, 6) == pytest.approx(3 * notch)


def plane(page: Page) -> float:
    mm, _, side = page("return document.querySelector('.plane').innerText").split()
    return float(mm) * (1 if side == "right" else -1)


def test_axe_finds_no_serious_fault_in_firefox(page):
    axe = pytest.importorskip("axe_playwright_python", reason="needs axe-core: pip install '.[test]'")
    page((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("async () => (await axe.run()).violations.map((v) => [v.impact, v.id, v.nodes[0].html])")
    assert [fault for fault in found if fault[0] in ("serious", "critical")] == []
