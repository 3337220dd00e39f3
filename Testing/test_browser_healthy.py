"""The synthetic picture on the page: beside the real vertebra, on demand, marked, and without effect on the case."""

from __future__ import annotations

import pytest

pytest.importorskip("trame_slicer", reason="needs the review page: pip install '.[review]'")
pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")

from browser_bench import CHROMIUM, eventually, folder_of, press

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


def test_the_synthetic_picture_is_shown_beside_the_real_one_and_leaves_the_case_as_it_is(page, output):
    folder = folder_of(output, 0)
    before = (folder / "analysis.json").read_bytes()
    names = sorted(path.name for path in folder.iterdir())
    page.click("tr[data-id=v2] [data-cell=g]")
    level = page.inner_text("tr[data-id=v2] [data-cell=level]").strip()
    press(page, "q")
    shown = page.locator("[data-test=healthy]")
    shown.wait_for()
    eventually(lambda: level in shown.inner_text() and "synthetic picture" in shown.inner_text())
    assert "Loss against the synthetic body: anterior" in shown.inner_text()
    assert "A network's guess, not the patient." in shown.inner_text()
    picture = page.locator("[data-test=synthetic]")
    eventually(lambda: picture.evaluate("e => e.complete && e.naturalWidth") > 600)
    assert "Not for diagnosis" in picture.get_attribute("alt")
    press(page, "c")  # the dialog hides the page, so its keys do nothing
    press(page, "q")
    eventually(lambda: not shown.is_visible())
    assert page.locator("tr[data-review=confirmed]").count() == 0
    page.click("[data-test=toggle_healthy]")
    shown.wait_for()
    press(page, "Escape")
    eventually(lambda: not shown.is_visible())
    assert (folder / "analysis.json").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == names
