"""The gallery as a user opens it: from disk, in a real browser, with three thousand cases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

pl = pytest.importorskip("polars", reason="needs the gallery: pip install '.[cohort]'")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")

from browser_bench import LIMIT_S, becomes  # noqa: E402
from chromium import CHROMIUM, FLAGS  # noqa: E402
from gallery_bench import write_tables, write_thumbnails  # noqa: E402
from PIL import Image  # noqa: E402
from VertebralFractureQuantLib.cohort.gallery import write_gallery  # noqa: E402

CASES = 3000
EVIL = "<img src=x onerror=\"document.title='run'\"> & 'two' #?%41"
SITE = "<img src=x onerror=\"document.title='run'\"> Chur"
BADGES = "tds => tds.map(td => td.textContent)"
# Where the lowest dot of "G by level" lies on the page, and its case
LOWEST = """() => {
  for (const view of Object.values(Bokeh.index.roots || Bokeh.index))
    for (const { data_source } of view.model.renderers)
      if (data_source && data_source.data.address) {
        const data = data_source.data, at = Array.from(data.g).indexOf(Math.min(...data.g));
        const box = view.el.getBoundingClientRect(), { x_scale, y_scale } = view.frame;
        return [box.left + x_scale.compute(data.level[at]), box.top + y_scale.compute(data.g[at]), data.address[at]];
      }
}"""

pytestmark = [pytest.mark.thorough, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A cohort of stub tables; the first case and the covariate `site` have names that would run as code."""
    folder = tmp_path_factory.mktemp("cohort")
    write_tables(folder, CASES)
    write_thumbnails(folder, CASES)
    evil = pl.when(pl.col("case") == "case-000000").then(pl.lit(EVIL)).otherwise("case").alias("case")
    patients = pl.read_parquet(folder / "patients.parquet").with_columns(evil)
    patients = patients.with_columns(
        pl.when(pl.col("site") == "Chur").then(pl.lit(SITE)).otherwise("site").alias("site")
    )
    patients.rename({"site": SITE}).write_parquet(folder / "patients.parquet")
    pl.read_parquet(folder / "vertebrae.parquet").with_columns(evil).write_parquet(folder / "vertebrae.parquet")
    (folder / "gallery" / "thumbnails" / "case-000000.jpg").rename(folder / "gallery" / "thumbnails" / f"{EVIL}.jpg")
    (folder / "cases" / EVIL).mkdir(parents=True)
    Image.new("RGB", (900, 1200), "#113355").save(folder / "cases" / EVIL / "overview.png")
    write_gallery(folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as p:
        running = p.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        playwright.expect.set_options(timeout=1000 * LIMIT_S)
        yield running
        running.close()


@pytest.fixture
def tab(browser, folder) -> Iterator[Any]:
    """The page, freshly opened; `asked` lists what it asked for, `errors` what went wrong in it."""
    tab = browser.new_page(viewport={"width": 1280, "height": 800})
    tab.set_default_timeout(1000 * LIMIT_S)
    tab.asked, tab.errors = [], []
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.on("pageerror", lambda error: tab.errors.append(str(error)))
    tab.goto((folder / "index.html").as_uri())
    tab.wait_for_selector("#cases td.case")
    yield tab
    assert not tab.errors
    tab.close()


def shown(tab, name: str) -> list[str]:
    """The texts of one column on this page of the table."""
    return tab.locator(f"#cases tbody td.{name}").evaluate_all(BADGES)


def count(tab, cases: str) -> None:
    """Wait until the page counts so many cases."""
    playwright.expect(tab.locator("#cases_wrapper .dt-info")).to_contain_text(f"of {cases} cases")


def search(tab, text: str) -> None:
    tab.locator(".dt-search input").first.fill(text)


def test_it_opens_from_disk_and_loads_only_what_it_shows(tab, folder):
    count(tab, "3,000")
    assert len(shown(tab, "case")) == 24
    tab.wait_for_function("[...document.querySelectorAll('td.picture button img')].some(img => img.naturalWidth > 1)")
    assert all(url.startswith(("file:", "data:", "blob:")) for url in tab.asked)
    pictures = [url for url in tab.asked if url.endswith(".jpg")]
    assert 0 < len(pictures) <= 24 and not any("overview" in url for url in tab.asked)
    assert tab.evaluate("document.querySelectorAll('*').length") < 3000


def test_what_needs_a_look_comes_first(tab):
    assert all(text for text in shown(tab, "look"))
    number = tab.locator(".numbers .look b").inner_text()
    tab.locator(".dtsp-searchPane").first.get_by_text("none", exact=True).click()  # the pane "Needs a look"
    count(tab, f"{3000 - int(number.replace(',', '')):,}")
    becomes(lambda: any(shown(tab, "look")), False)


def test_sort_by_a_click_on_a_heading(tab):
    heading = tab.locator("#cases thead th.grade")
    heading.click()
    playwright.expect(heading).to_have_attribute("aria-sort", "ascending")
    heading.click()
    playwright.expect(heading).to_have_attribute("aria-sort", "descending")
    becomes(lambda: shown(tab, "grade"), ["severe"] * 24)
    tab.locator("#cases thead th.case").click()
    playwright.expect(tab.locator("#cases thead th.case")).to_have_attribute("aria-sort", "ascending")
    becomes(lambda: shown(tab, "case")[:3], [EVIL, "case-000001", "case-000002"])


def test_search_and_pages(tab, folder):
    search(tab, "case-00012")
    count(tab, "10")
    becomes(lambda: sorted(shown(tab, "case")), [f"case-00012{i}" for i in range(10)])
    search(tab, '"L1 severe"')
    severe = pl.col("level").eq("L1") & pl.col("grade").eq("severe")
    found = pl.read_parquet(folder / "vertebrae.parquet").filter(severe)["case"].n_unique()
    count(tab, f"{found:,}")
    search(tab, "")
    count(tab, "3,000")
    first = set(shown(tab, "case"))
    tab.locator(".dt-paging-button", has_text=re.compile("^2$")).click()
    playwright.expect(tab.locator("#cases_wrapper .dt-info")).to_contain_text("25 to 48")
    becomes(lambda: first & set(shown(tab, "case")), set())


def test_failure_codes_stand_beside_the_cases_and_filter_them(tab, folder):
    codes = pl.read_parquet(folder / "patients.parquet")["status"].value_counts().rows()
    row = tab.locator(".dtsp-searchPane tr", has_text="not_ct")
    assert dict(codes)["not_ct"] == int(row.locator(".dtsp-pill").inner_text())
    row.click()
    count(tab, f"{dict(codes)['not_ct']:,}")
    becomes(lambda: all(text.startswith("not_ct") for text in shown(tab, "outcome")), True)
    tab.locator(".dtsp-clearAll").click()
    count(tab, "3,000")


def test_a_click_enlarges_and_escape_closes(tab, folder):
    search(tab, "#?%41")
    count(tab, "1")
    picture = tab.locator("#cases td.picture button img")
    playwright.expect(picture).to_be_visible()
    picture.click()
    large = tab.locator("#cases [popover] img")
    playwright.expect(large).to_be_visible()
    tab.wait_for_function("document.querySelector('#cases [popover] img').naturalWidth == 900")
    becomes(lambda: unquote(tab.asked[-1]).endswith(f"cases/{EVIL}/overview.png"), True)
    tab.keyboard.press("Escape")
    playwright.expect(large).to_be_hidden()


def test_names_are_text_everywhere(tab):
    search(tab, "#?%41")
    count(tab, "1")
    becomes(lambda: shown(tab, "case"), [EVIL])
    assert tab.locator("#cases td.given").last.text_content()
    playwright.expect(tab.locator(".dtsp-searchPane", has_text="Bern").get_by_text(SITE, exact=True)).to_be_visible()
    tab.get_by_role("button", name="Conditions").click()
    tab.locator("select.dtsb-data").select_option(index=6)  # the covariate
    tab.locator("select.dtsb-condition").select_option("=")
    playwright.expect(tab.locator("select.dtsb-value:enabled")).to_be_visible()
    tab.keyboard.press("Escape")
    tab.get_by_role("button", name="Columns").click()
    playwright.expect(tab.locator(".dt-button-collection")).to_contain_text(SITE)
    assert tab.evaluate("document.querySelectorAll('img[src=x]').length") == 0
    assert not any(url.endswith("/x") for url in tab.asked) and tab.title() != "run"


def test_a_condition_on_a_covariate(tab, folder):
    tab.get_by_role("button", name="Conditions").click()
    tab.locator("select.dtsb-data").select_option(label="age")
    tab.locator("select.dtsb-condition").select_option("between")
    playwright.expect(tab.locator("input.dtsb-value")).to_have_count(2)
    for box, value in zip(tab.locator("input.dtsb-value").all(), ("60", "62"), strict=True):
        box.fill(value)
    age = pl.read_parquet(folder / "patients.parquet")["age"]
    count(tab, f"{age.is_between(60, 62).sum():,}")


def test_a_click_selects_the_whole_command(tab):
    search(tab, "case-000123")
    count(tab, "1")
    tab.locator("#cases td.command code").click()
    becomes(lambda: tab.evaluate("getSelection().toString()"), "vfq cohort review . case-000123")


def test_distributions_and_failures_have_a_page_of_their_own(tab, folder):
    tab.get_by_text("Distributions", exact=True).click()
    playwright.expect(tab.locator("#part-charts section")).to_have_count(5)
    tab.wait_for_function("Bokeh.documents.length == 1 && Bokeh.documents[0].is_idle")
    playwright.expect(tab.locator("#cases")).to_be_hidden()
    tab.get_by_text("Failures", exact=True).click()
    failed = pl.read_csv(folder / "failures.csv")["code"].value_counts(sort=True)
    becomes(tab.locator(".failures tbody td:nth-child(2)").all_inner_texts, [str(each) for each in failed["count"]])


def test_a_click_on_a_dot_opens_the_overview_image_of_its_case(tab, folder):
    tab.get_by_text("Distributions", exact=True).click()
    tab.wait_for_function("Bokeh.documents.length == 1 && Bokeh.documents[0].is_idle")
    x, y, case = tab.evaluate(LOWEST)
    counted = pl.read_parquet(folder / "vertebrae.parquet").filter(pl.col("g") == pl.col("g").min())
    assert case == counted["case"].item()
    (folder / "cases" / case).mkdir(exist_ok=True)
    Image.new("RGB", (90, 120)).save(folder / "cases" / case / "overview.png")
    with tab.context.expect_page() as opened:
        tab.mouse.click(x, y)
    becomes(lambda: opened.value.url.endswith(f"cases/{case}/overview.png"), True)


def test_cards_and_table_are_two_looks_of_the_same_rows(tab):
    names = shown(tab, "case")
    second = tab.locator("#cases tbody tr").nth(1)
    becomes(lambda: second.bounding_box()["width"] < 500, True)  # a card
    tab.locator(".looks").get_by_text("Table").click()
    playwright.expect(tab.locator("#as-table")).to_be_checked()
    becomes(lambda: second.bounding_box()["width"] > 900, True)
    becomes(lambda: shown(tab, "case"), names)
    assert re.search("Research use only", tab.locator("footer").inner_text())
