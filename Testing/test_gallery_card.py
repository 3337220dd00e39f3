"""A card of the gallery shows all that it has of its case, in a real browser, however many lines that is."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("polars", reason="needs the gallery: pip install '.[cohort]'")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")

from chromium import CHROMIUM, FLAGS  # noqa: E402
from test_gallery import patient, vertebra, write  # noqa: E402
from VertebralFractureQuantLib.cohort.gallery import write_gallery  # noqa: E402

pytestmark = [pytest.mark.thorough, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]
COVARIATES = {f"covariate {i}": f"a long value of covariate {i} that fills its line" for i in range(8)}
# Of each cell of the first card that has text: its name, and if the point in its middle shows it and not another cell.
SEEN = """() => [...document.querySelectorAll('#cases tbody tr:first-child td')]
  .filter(cell => cell.textContent && cell.offsetParent && !cell.matches('.picture'))
  .map(cell => {
    const box = cell.getBoundingClientRect();
    const at = document.elementFromPoint(box.left + Math.min(20, box.width / 2), box.bottom - 6);
    return [cell.className, Boolean(at) && cell.contains(at)];
  })"""


def test_a_card_shows_every_covariate_and_the_command(tmp_path: Path):
    vertebrae = [vertebra("a", level, 0.5, "severe") for level in ("T8", "T9", "T12", "L1")]
    write(tmp_path, [patient("a", "severe", **COVARIATES), patient("b", **COVARIATES)], vertebrae)
    page = write_gallery(tmp_path)
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        tab = browser.new_page(viewport={"width": 1280, "height": 1400})
        tab.goto(page.as_uri())
        tab.wait_for_selector("#cases td.case")
        cells = dict(tab.evaluate(SEEN))
        tab.screenshot(path=tmp_path / "card.png")
        browser.close()
    given = [name for name in cells if "given" in name]
    assert len(given) == len(COVARIATES) and any("command" in name for name in cells)
    assert [name for name, seen in cells.items() if not seen] == []
