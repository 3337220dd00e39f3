"""The report on the page: its preview, its text on the clipboard, and the files that the browser saves."""

from __future__ import annotations

import io

import pytest

pytest.importorskip("trame_slicer", reason="needs the review page: pip install '.[review]'")
pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")

from browser_bench import CHROMIUM, becomes, eventually, folder_of, press
from VertebralFractureQuantLib.report.findings import findings
from VertebralFractureQuantLib.spine.record_json import read_analysis

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


def test_the_report_is_previewed_copied_and_saved_in_either_language(page, output):
    pypdf = pytest.importorskip("pypdf")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    found = findings(read_analysis(folder_of(output, 0) / "analysis.json"))
    page.click("tr[data-id=v1] [data-cell=g]")
    press(page, "c")
    page.click("[data-test=toggle_report]")
    preview = page.frame_locator(".report-page")
    preview.locator("h2").first.wait_for()
    preliminary = f"PRELIMINARY: {len(found.rows) - 1} of {len(found.rows)} vertebrae have not been reviewed"
    eventually(lambda: preliminary in preview.locator("body").inner_text())
    eventually(lambda: preview.locator("img").evaluate("e => e.complete && e.naturalWidth") > 300)
    told = preview.locator("body").inner_text()
    assert f"Spinal deformity index {found.sdi};" in told and "Case 1" in told
    page.select_option("[data-test=report-language]", "de")
    becomes(lambda: preview.locator("h1").inner_text(), "Wirbelkörperfrakturen im CT")
    page.click("[data-test=copy_report]")
    eventually(lambda: "VORLÄUFIG" in page.evaluate("navigator.clipboard.readText()"))
    with page.expect_download() as saving:
        page.click("[data-test=save-pdf]")
    assert saving.value.suggested_filename == "report.pdf"
    text = pypdf.PdfReader(io.BytesIO(saving.value.path().read_bytes())).pages[0].extract_text()
    assert "Wirbelkörperfrakturen im CT" in text and "Case 1" in text
    with page.expect_download() as saving:
        page.click("[data-test=save-html]")
    assert "Wirbelkörperfrakturen im CT" in saving.value.path().read_text(encoding="utf-8")
    page.click("[data-test=export_dicom]")
    eventually(lambda: "is not DICOM" in page.inner_text("[data-test=report-dialog]"))  # the scan came as NIfTI
    press(page, "c")  # the dialog hides the page, so its keys do nothing
    press(page, "Escape")
    eventually(lambda: not page.is_visible("[data-test=report-dialog]"))
    assert page.locator("tr[data-review=confirmed]").count() == 1
    press(page, "u")
    page.wait_for_selector("tr[data-id=v1][data-review=open]")
