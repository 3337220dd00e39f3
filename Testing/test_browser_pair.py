"""A prior beside the open case on the page: aligned, compared while points are dragged, edited, swapped, laid over."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("trame_slicer", reason="needs the review page: pip install '.[review]'")
pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")

from browser_bench import (
    CHROMIUM,
    SMALL,
    Picture,
    Server,
    analyze,
    becomes,
    drag,
    eventually,
    handled,
    hover,
    idle,
    new_page,
    overlay_pixels,
    press,
    saved,
    steady,
    tap,
)
from VertebralFractureQuantLib.imaging.files import write_ct
from VertebralFractureQuantLib.scene.pair_keys import BLINK
from VertebralFractureQuantLib.spine.record import SpineAnalysis
from VertebralFractureQuantLib.spine.record_json import read_analysis

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

MINUS = "\N{MINUS SIGN}"
MATCHED = "tr[data-pair]:not([data-verdict='not comparable'])"


@pytest.fixture(scope="module")
def studies(painted, tmp_path_factory) -> tuple[Path, Path]:
    """Two scans of one patient, "now" and "then", a copy of the first, and the folder of their analyses."""
    scans, output = tmp_path_factory.mktemp("pair"), tmp_path_factory.mktemp("pair-analyzed")
    for name, options in (("then", {}), ("now", {"later": 5, "new_fracture_rate": 0.0})):
        write_ct(painted(11, **SMALL, **options)[0], scans / f"{name}.nii.gz")
    shutil.copy(scans / "now.nii.gz", scans / "zcopy.nii.gz")
    analyze(scans, output)
    return scans, output


@pytest.fixture
def output(studies, tmp_path) -> Path:
    return Path(shutil.copytree(studies[1], tmp_path / "review"))


def serve(studies: tuple[Path, Path], output: Path, prior: str = "then") -> Server:
    scans = studies[0]
    files = [str(scans / "now.nii.gz"), "--prior", str(scans / f"{prior}.nii.gz")] if prior else [str(scans)]
    return Server([*files, "--output", str(output), "--reader", "tester"])


@pytest.fixture
def server(studies, output) -> Iterator[Server]:
    server = serve(studies, output)
    yield server
    server.stop()


def open_pair(chromium, server: Server):
    """Return a page that shows both studies."""
    page = new_page(chromium)
    page.goto(server.url)
    page.wait_for_selector("tr[data-pair]")
    idle(page)
    page.wait_for_function("document.querySelector('[data-view=Prior] img')?.naturalWidth > 1")
    handled(page)
    return page


@pytest.fixture
def page(chromium, server) -> Iterator[object]:
    page = open_pair(chromium, server)
    yield page
    page.close()


def row(page, key: str) -> dict[str, str]:
    cells = page.locator(f"tr[data-pair='{key}'] [data-cell]")
    return {cell.get_attribute("data-cell"): cell.inner_text() for cell in cells.all()}


def keys_of(page) -> list[str]:
    return [each.get_attribute("data-pair") for each in page.locator(MATCHED).all()]


def selected(page) -> str | None:
    return page.get_attribute("tr[data-pair].selected", "data-pair")


def choose(page, key: str) -> None:
    page.click(f"tr[data-pair='{key}']")
    becomes(lambda: selected(page), key)


def normal(page) -> str:
    """Return the row of a vertebra that was normal in the prior study."""
    return next(k for k in keys_of(page) if float(row(page, k)["then"]) > 0.85)


def index_of(vertebra_id: str) -> int:
    return int(vertebra_id[1:])


class Both:
    """Where the points of the selected vertebra are in both views, while the current one shows the whole spine."""

    def __init__(self, page, output: Path):
        press(page, "z")
        self.page = page
        self.now, self.then = (read_analysis(output / name / "analysis.json") for name in ("now", "then"))
        self.picture = Picture(page, self.now)

    def ends(self, record: SpineAnalysis, vertebra_id: str) -> np.ndarray:
        ids = sorted_ids(record)
        return np.asarray(record.vertebrae[ids.index(vertebra_id)].keypoints)

    def in_prior(self, key: str, place: tuple[int, int]) -> tuple[float, float]:
        """Return the position of a key point of the prior's vertebra."""
        then, now = key.split("-")
        prior = Picture(self.page, self.then).straightening.to_straight(self.ends(self.then, then))
        x, y = self.picture.xy_straight(self.picture.straightening.to_straight(self.ends(self.now, now)).mean((0, 1)))
        boxes = [self.page.query_selector(f"[data-view={v}]").bounding_box() for v in ("Prior", "Straightened")]
        off = (prior[place] - prior.mean((0, 1))) / self.picture.mm
        return x + boxes[0]["x"] - boxes[1]["x"] - off[1], y - off[2]


def sorted_ids(record: SpineAnalysis) -> list[str]:
    return [f"v{i + 1}" for i in range(len(record.vertebrae))]


def image(page, view: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.locator(f"[data-view={view}]").screenshot())).convert("L"), float)


def alike(page) -> float:
    """Return the correlation of both images, without what stands at their edges."""
    images = [image(page, view)[150:-150, 20:440] for view in ("Prior", "Straightened")]
    return float(np.corrcoef(*(each.ravel() for each in images))[0, 1])


def test_both_are_shown_selected_and_compared(page, output):
    keys = keys_of(page)
    assert len(keys) >= 4 and {page.get_attribute(f"tr[data-pair='{k}']", "data-verdict") for k in keys} == {
        "unchanged"
    }
    becomes(lambda: page.inner_text("[data-view=Prior] .what"), "Case 2")
    assert "unchanged" in page.inner_text("[data-test=pair_summary]")
    both = Both(page, output)
    choose(page, keys[1])
    x, y = both.in_prior(keys[2], (1, 0))
    page.mouse.click(x, y + 4)
    becomes(lambda: selected(page), keys[2])
    eventually(lambda: "keys act here" in page.inner_text("[data-view=Prior] .what"))
    press(page, "ArrowDown")
    becomes(lambda: selected(page), keys[3])
    now = keys[3].split("-")[1]
    becomes(lambda: page.get_attribute(f"tr[data-id={now}]", "aria-selected"), "true")
    press(page, "d")  # both are filled by the vertebra, at the same place
    eventually(lambda: alike(page) > 0.6)


def test_the_change_follows_a_drag_of_the_current_points(page, output):
    both, key = Both(page, output), normal(page)
    choose(page, key)
    before, now = row(page, key), key.split("-")[1]
    point = both.ends(both.now, now)[0, 0]
    page.click("[data-test=show_compared]")  # `drag` reads the table of measurements
    drag(page, now, both.picture.xy(point), (0, 9 / both.picture.mm), release=False)
    page.evaluate("window.trame.state.set('compared', true)")
    becomes(lambda: page.get_attribute(f"tr[data-pair='{key}']", "data-verdict"), "new fracture")
    after = row(page, key)
    assert after["then"] == before["then"] and float(after["now"]) < float(before["now"]) - 0.2
    assert after["ha"].startswith(MINUS) and after["hp"] == before["hp"] and after["verdict"] == "new fracture"
    eventually(lambda: f"A {MINUS}" in page.inner_text("[data-test=pair_detail]"))
    eventually(lambda: "1 new fracture" in page.inner_text("[data-test=changes]"))
    page.mouse.up()
    handled(page)
    press(page, "u")
    becomes(lambda: row(page, key), before)
    assert not (output / "then" / "machine.json").exists()


def test_the_prior_is_edited_in_its_own_reading_with_its_own_undo(page, output):
    both, key = Both(page, output), normal(page)
    then = key.split("-")[0]
    choose(page, key)
    before = row(page, key)
    x, y = both.in_prior(key, (0, 0))
    hover(page, x, y)
    page.mouse.down()
    for share in np.linspace(0, 1, 8)[1:]:
        page.mouse.move(x, y + share * 9 / both.picture.mm)
    handled(page)
    eventually(lambda: row(page, key) != before)
    assert float(row(page, key)["then"]) < float(before["then"]) and row(page, key)["now"] == before["now"]
    page.mouse.up()
    handled(page)
    press(page, "c")
    record = saved(output / "then", lambda r: r.vertebrae[sorted_ids(r).index(then)].review == "confirmed")
    vertebra = record.vertebrae[sorted_ids(record).index(then)]
    assert vertebra.origin == "reader" and vertebra.review == "confirmed" and record.reading.reader == "tester"
    press(page, "u")
    press(page, "u")
    becomes(lambda: row(page, key)["then"], before["then"])
    assert not (output / "now" / "machine.json").exists()
    press(page, "k")
    becomes(lambda: "keys act here" in page.inner_text("[data-view=Prior] .what"), False)
    choose(page, key)
    press(page, "c")
    saved(output / "now", lambda r: any(v.review == "confirmed" for v in r.vertebrae))
    assert (output / "now" / "machine.json").exists()


def test_a_key_swaps_the_images_and_back_when_it_was_held(page):
    def places() -> list[float]:
        return [page.query_selector(f"[data-view={v}]").bounding_box()["x"] for v in ("Prior", "Straightened")]

    left, right = places()
    assert left < right
    tap(page, BLINK, late_ms=500)  # the page is busy meanwhile: it is a short press all the same
    becomes(places, [right, left])
    tap(page, BLINK)
    becomes(places, [left, right])
    page.keyboard.down(BLINK)
    becomes(places, [right, left])
    page.wait_for_function(f"performance.now() - {page.evaluate('performance.now()')} > 450")  # longer than a press
    page.keyboard.up(BLINK)
    becomes(places, [left, right])


def test_the_prior_is_laid_over_the_current_image(page):
    tap(page, "h")
    eventually(lambda: overlay_pixels(page) < 100)
    plain = steady(page, lambda: image(page, "Straightened").tobytes())
    shown = []
    for mode in ("fade", "checker", "off"):
        press(page, "y")
        others = {plain, *shown} - ({plain} if mode == "off" else set())
        eventually(lambda: image(page, "Straightened").tobytes() not in others)  # noqa: B023
        shown.append(steady(page, lambda: image(page, "Straightened").tobytes()))
    assert len(set(shown)) == 3 and shown[2] == plain


def test_a_corrected_match_is_kept_for_the_next_time(page, chromium, server, studies, output):
    first = keys_of(page)
    press(page, ">")
    eventually(lambda: keys_of(page) != first)
    second = keys_of(page)
    moved = {k.split("-")[1]: index_of(k.split("-")[0]) for k in second}
    assert all(moved[k.split("-")[1]] == index_of(k.split("-")[0]) + 1 for k in first if k.split("-")[1] in moved)
    eventually(lambda: "as tester corrected it" in page.inner_text("[data-test=pair_doubt]"))
    page.close()
    server.stop()
    again = serve(studies, output)
    try:
        page = open_pair(chromium, again)
        becomes(lambda: keys_of(page), second)
        page.close()
    finally:
        again.stop()


def test_a_prior_is_chosen_in_the_worklist_and_bad_ones_are_said(chromium, studies, output):
    server = serve(studies, output, prior="")
    try:
        page = new_page(chromium)
        page.goto(server.url)
        page.wait_for_selector("tr[data-id]")
        idle(page)
        assert page.locator("[data-view=Prior]").count() == 0
        tap(page, BLINK)
        press(page, "y")
        becomes(lambda: "No prior study is open" in page.inner_text("[data-test=message]"), True)
        for case, told in (("2", "same scan twice"), ("1", "")):
            page.click("[data-test=worklist]")
            page.click(f"[data-compare='{case}']")
            if told:
                page.wait_for_function(f"document.querySelector('[data-test=message]')?.innerText.includes('{told}')")
                becomes(lambda: page.locator("[data-view=Prior]").count(), 0)
        page.wait_for_selector("tr[data-pair]")
        becomes(lambda: page.inner_text("[data-view=Prior] .what"), "Case 2")
        page.click("[data-test=close_prior]")
        becomes(lambda: page.locator("[data-view=Prior]").count(), 0)
        page.wait_for_selector("tr[data-id]")
        page.click("[data-test=worklist]")
        page.click("[data-compare='1']")
        page.wait_for_selector("tr[data-pair]")
        press(page, ".")  # the next case closes the pair
        becomes(lambda: page.locator("[data-view=Prior]").count(), 0)
        page.wait_for_selector("tr[data-id]")
        page.close()
    finally:
        assert "VertebralFractureQuantLib" not in server.stop()  # no traceback of ours; the socket closes as it may
