"""Signing on the page as readers do it: how many acts a study takes, two readers, the worklist, and after a restart.

One act is a key press, a click or a drag.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

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
    drag,
    eventually,
    folder_of,
    handled,
    idle,
    new_page,
    open_page,
    press,
    saved,
)
from VertebralFractureQuantLib.imaging.files import write_ct
from VertebralFractureQuantLib.phantom import PhantomOptions, make_phantom
from VertebralFractureQuantLib.report.readings import own_folder
from VertebralFractureQuantLib.report.reviews import PICTURES
from VertebralFractureQuantLib.spine.record import SpineAnalysis
from VertebralFractureQuantLib.spine.record_json import read_analysis

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


class Acts:
    """Counts what a reader does on a page."""

    def __init__(self, page, analysis: SpineAnalysis):
        self.page, self.count = page, 0
        self.picture = Picture(page, analysis)

    def key(self, name: str) -> None:
        self.count += 1
        press(self.page, name)

    def drag(self, vertebra_id: str, point: np.ndarray, by_mm: float) -> None:
        """Drag a point in the straightened view, which shows the whole spine, to the feet."""
        self.count += 1
        drag(self.page, vertebra_id, self.picture.xy(point), (0, by_mm / self.picture.mm))


@pytest.fixture
def started() -> Iterator[list[Server]]:
    """The servers of a test; they are stopped after it."""
    servers: list[Server] = []
    yield servers
    for server in servers:
        server.stop()


def shown(chromium, server: Server):
    """A page on which a case is open, or asks for a reading."""
    page = new_page(chromium)
    page.goto(server.url)
    page.wait_for_selector("[data-test=side]")
    page.wait_for_function(
        """document.querySelector('tr[data-id]') || document.querySelector('[data-test=ask]')?.checkVisibility()"""
        """ || document.querySelector('[data-test=message]')"""
    )
    idle(page)
    handled(page)
    return page


def said(page) -> str:
    found = page.query_selector("[data-test=message]")
    return found.inner_text() if found else ""


def reviews(page) -> list[str]:
    return page.eval_on_selector_all("tr[data-id]", "rows => rows.map(r => r.dataset.review)")


def review(started: list[Server], *arguments: object) -> Server:
    started.append(Server([str(each) for each in arguments]))
    return started[-1]


# --- acts


def test_a_study_of_14_vertebrae_with_two_corrections_is_signed_within_16_acts(chromium, tmp_path, started):
    ct, _ = make_phantom(2, PhantomOptions(field_of_view="chest", spacing_mm=(1.2, 2.0)))
    write_ct(ct, tmp_path / "chest.nii.gz")
    server = review(started, tmp_path / "chest.nii.gz", "--output", tmp_path / "out", "--reader", "tester")
    page = shown(chromium, server)
    folder = folder_of(tmp_path / "out", 0)
    analysis = read_analysis(folder / "analysis.json")
    acts = Acts(page, analysis)
    normal = [i for i, v in enumerate(analysis.vertebrae) if v.measurement.grade == "normal" and not v.quality]
    for at in normal[1:3]:
        acts.drag(f"v{at + 1}", analysis.vertebrae[at].keypoints[0, 0], 2.0)
    for key in ("v", "v"):
        acts.key(key)
    eventually(lambda: 0 < reviews(page).count("open") < 6)
    left = reviews(page).count("open")  # what is in doubt: two borderline ones, and those that became so
    for _ in range(left):
        acts.key("c")
    acts.key("e")
    record = saved(folder, lambda r: bool(r.signatures))
    assert [s.reader for s in record.signatures] == ["tester"] and len(record.vertebrae) == 14
    assert [v.review for v in record.vertebrae] == ["confirmed"] * 14
    assert [i for i, v in enumerate(record.vertebrae) if v.origin == "reader"] == normal[1:3]
    print("acts:", acts.count, "of which one by one:", left)
    assert acts.count <= 16
    page.close()


def test_the_real_kyphotic_spine_has_its_t11_right_and_is_signed_within_16_acts(chromium, data_dir, tmp_path, started):
    server = review(started, data_dir / "ct" / "TS_aorta_ct_cropped.nii.gz", "-o", tmp_path / "out", "--reader", "R")
    page = open_page(chromium, server)
    folder = folder_of(tmp_path / "out", 0)
    analysis = read_analysis(folder / "analysis.json")
    acts = Acts(page, analysis)
    (at,) = [i for i, v in enumerate(analysis.vertebrae) if v.level == "T11"]
    page.wait_for_selector(f"tr[data-id=v{at + 1}].selected")  # the page opens at the fracture
    acts.key("t")  # its level is right: no longer in doubt, and the others follow
    acts.drag(f"v{at + 1}", analysis.vertebrae[at].keypoints[1, 0], 1.5)
    for key in ("v", "v"):
        acts.key(key)
    for _ in range(reviews(page).count("open")):
        acts.key("c")
    acts.key("e")
    record = saved(folder, lambda r: bool(r.signatures))
    t11 = record.vertebrae[at]
    assert [s.reader for s in record.signatures] == ["R"] and t11.origin == "reader"
    assert (t11.level, t11.pinned, t11.measurement.grade, t11.measurement.shape) == ("T11", True, "severe", "biconcave")
    assert {v.review for v in record.vertebrae} == {"confirmed"}
    print("acts:", acts.count)
    assert acts.count <= 16
    page.close()


# --- two readers


def sign(page, folder: Path, who: str) -> None:
    for _ in range(reviews(page).count("open")):
        press(page, "c")
    press(page, "e")
    saved(folder, lambda r: who in [s.reader for s in r.signatures])


@pytest.fixture
def signed_by_a(chromium, scans, unopened, started) -> Path:
    """The output after reader A has signed the second case, which is the last one open."""
    server = review(started, sorted(scans.iterdir())[1], "--output", unopened, "--reader", "A")
    page = open_page(chromium, server)
    page.click("tr[data-id=v1] [data-cell=g]")
    sign(page, folder_of(unopened, 1), "A")
    eventually(lambda: "is complete and signed" in page.inner_text("[data-test=report]"))
    page.close()
    server.stop()
    return unopened


def test_reader_b_is_asked_before_seeing_anything_and_counter_signs(chromium, scans, signed_by_a, started):
    page = shown(chromium, review(started, sorted(scans.iterdir())[1], "--output", signed_by_a, "--reader", "B"))
    folder = folder_of(signed_by_a, 1)
    page.wait_for_selector("[data-choice=copy]")
    told = page.inner_text("[data-test=ask]")
    assert "signed by A on 20" in told and page.locator("tr[data-id]").count() == 0
    assert page.eval_on_selector_all("[data-choice]", "all => all.map(b => b.dataset.choice)") == [
        "first",
        "automatic",
        "copy",
    ]
    page.click("[data-choice=first]")
    page.wait_for_selector("tr[data-id]")
    idle(page)
    press(page, "x")
    eventually(lambda: "cannot be changed" in said(page))
    assert set(reviews(page)) == {"confirmed"}
    eventually(lambda: "COUNTER-SIGN" in page.inner_text("[data-test=complete_study]").upper())
    press(page, "e")
    record = saved(folder, lambda r: len(r.signatures) == 2)
    assert [(s.reader, s.role) for s in record.signatures] == [("A", "reader"), ("B", "countersigner")]
    assert {v.reviewer for v in record.vertebrae} == {"A"}
    eventually(lambda: "Counter-signed by B" in page.input_value("[data-test=report] textarea"))
    page.close()


def test_reader_b_reads_blind_beside_a_signed_reading_and_both_are_kept(chromium, scans, signed_by_a, started):
    folder = folder_of(signed_by_a, 1)
    before = (folder / "analysis.json").read_bytes()
    page = shown(chromium, review(started, sorted(scans.iterdir())[1], "--output", signed_by_a, "--reader", "B"))
    page.click("[data-choice=automatic]")
    page.wait_for_selector("tr[data-id]")
    idle(page)
    assert set(reviews(page)) == {"open"}
    press(page, "x")
    own = own_folder(folder, "B")
    record = saved(own, lambda r: any(v.review == "rejected" for v in r.vertebrae))
    assert [v.reviewer for v in record.vertebrae if v.review == "rejected"] == ["B"]
    assert (folder / "analysis.json").read_bytes() == before
    press(page, "i")
    eventually(lambda: "Reading of A: signed by A" in page.inner_text("[data-test=case]"))
    eventually(lambda: "Your reading: not signed" in page.inner_text("[data-test=case]"))
    assert page.locator("[data-test=case] [data-choice]").count() == 0  # blind until B has signed
    press(page, "Escape")
    sign(page, own, "B")
    eventually(lambda: "is complete and signed" in page.inner_text("[data-test=report]"))
    press(page, "i")
    page.click("[data-test=case] [data-choice=first]")
    eventually(lambda: set(reviews(page)) == {"confirmed"})
    assert (folder / "analysis.json").read_bytes() == before
    page.close()


def test_a_second_readers_own_reading_beside_an_open_one(chromium, scans, unopened, started):
    """Two servers at one case: the second reader is told, and reads beside the first; both keep what they did."""
    scan, folder = sorted(scans.iterdir())[0], folder_of(unopened, 0)
    first = open_page(chromium, review(started, scan, "--output", unopened, "--reader", "A"))
    first.click("tr[data-id=v2] [data-cell=g]")
    press(first, "c")
    saved(folder, lambda r: r.vertebrae[1].review == "confirmed")
    second = shown(chromium, review(started, scan, "--output", unopened, "--reader", "B"))
    eventually(lambda: "Reading of A" in second.inner_text("[data-test=ask]"))
    second.click("[data-choice=first]")  # A's page has it open
    eventually(lambda: "open in another window" in said(second))
    second.click("[data-choice=automatic]")
    second.wait_for_selector("tr[data-id=v2]")
    idle(second)
    second.click("tr[data-id=v2] [data-cell=g]")
    press(second, "x")
    press(first, "x")
    own = saved(own_folder(folder, "B"), lambda r: r.vertebrae[1].review == "rejected")
    theirs = saved(folder, lambda r: r.vertebrae[2].review == "rejected")
    assert [v.review for v in own.vertebrae][:3] == ["open", "rejected", "open"]
    assert [v.review for v in theirs.vertebrae][:3] == ["open", "confirmed", "rejected"]
    for page in (first, second):
        page.close()


def test_another_name_in_another_tab_is_asked_before_it_changes_the_first_ones_reading(
    chromium, scans, unopened, started
):
    server = review(started, sorted(scans.iterdir())[0], "--output", unopened, "--reader", "A")
    one, two = open_page(chromium, server), open_page(chromium, server)
    one.click("tr[data-id=v1] [data-cell=g]")
    press(one, "c")
    two.fill("[data-test=reader]", "B")
    press(one, "t")  # the page of the other tab is updated while its reader types
    two.wait_for_selector("tr[data-id=v1][data-review=confirmed]")
    handled(two)
    assert two.input_value("[data-test=reader]") == "B"
    two.keyboard.press("Tab")
    for page in (one, two):
        page.wait_for_selector("[data-test=ask]")
        eventually(lambda page=page: page.locator("tr[data-id]").count() == 0)
    eventually(lambda: "1 of " in two.inner_text("[data-test=ask]"))
    two.click("[data-choice=first]")
    for page in (one, two):
        page.wait_for_selector("tr[data-id=v1][data-review=confirmed]")
        becomes(lambda page=page: page.input_value("[data-test=reader]"), "B")
        idle(page)
    two.click("tr[data-id=v2] [data-cell=g]")
    press(two, "c")
    record = saved(folder_of(unopened, 0), lambda r: r.vertebrae[1].review == "confirmed")
    assert [v.reviewer for v in record.vertebrae[:2]] == ["A", "B"] and record.reading.reader == "A"
    for page in (one, two):
        page.close()


# --- worklist, places, restart


def page_s(cdp) -> float:
    """Return the processor time of a page's main thread in s, counted since `Performance.enable`."""
    return {m["name"]: m["value"] for m in cdp.send("Performance.getMetrics")["metrics"]}["TaskDuration"]


def test_a_worklist_of_2000_cases_is_filtered_and_scrolled_at_once(chromium, scans, analyzed, tmp_path, started):
    source, output = tmp_path / "scans", tmp_path / "out"
    source.mkdir()
    whole = sorted(p for p in analyzed.iterdir() if p.is_dir())[0]
    record = json.loads((whole / "analysis.json").read_text())
    read = {**record, "vertebrae": [{**v, "review": "rejected"} for v in record["vertebrae"]]}
    doubt = {"code": "metal", "where": [], "message": "Metal."}
    kinds = [read, {**read, "status": "not_ct", "message": "No.", "vertebrae": []}, {**record, "quality": [doubt]}]
    for i in range(2000):
        (source / f"Doe-{i:04d}.nii.gz").symlink_to(sorted(scans.iterdir())[0])
        (output / f"Doe-{i:04d}").mkdir(parents=True)
        chosen = record if i == 0 else kinds[0] if i < 1990 else kinds[1] if i < 1995 else kinds[2]
        (output / f"Doe-{i:04d}" / "analysis.json").write_text(json.dumps(chosen))
    server, taken = review(started, source, "--output", output, "--reader", "A"), []
    page = shown(chromium, server)
    assert said(page) == "" and reviews(page)
    page.click("[data-test=worklist]")
    count = lambda: page.inner_text("[data-test=shown]")  # noqa: E731
    eventually(lambda: count() == "2000 of 2000")
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable", {"timeDomain": "threadTicks"})
    assert page.locator("[data-case]").count() < 60  # only the rows in view
    for name, wanted in (("failed", 5), ("doubtful", 5), ("open", 6), ("mine", 0), ("all", 2000)):
        used = server.processor_s() + page_s(cdp)
        page.click(f"[data-filter={name}]")
        becomes(count, f"{wanted} of 2000")
        taken.append(server.processor_s() + page_s(cdp) - used)
    page.fill("[data-test=search]", "case 1999")
    becomes(count, "1 of 2000")
    assert max(taken) < 0.3 * slowness(), taken
    page.click("[data-case='1998']")
    page.wait_for_selector("tr[data-id]")
    eventually(lambda: "CASE 1999" in page.inner_text("[data-test=worklist]").upper())
    assert "Doe" not in page.content()
    page.keyboard.press("g")
    eventually(lambda: "CASE 2000" in page.inner_text("[data-test=worklist]").upper())
    idle(page)
    press(page, "g")  # from the last one to the first
    eventually(lambda: page.inner_text("[data-test=worklist]").upper().endswith("CASE 1"))
    page.close()


def test_the_key_of_the_case_numbers_is_written_on_request_for_this_user_only(chromium, scans, unopened, started):
    page = open_page(chromium, review(started, scans, "--output", unopened))
    file = unopened / "case-numbers.csv"
    assert not file.exists()
    page.click("[data-test=worklist]")
    page.click("[data-test=write_key]")
    eventually(lambda: str(file) in said(page))
    with file.open() as opened:
        rows = list(csv.DictReader(opened))
    assert [(r["number"], r["scan"]) for r in rows] == [
        (str(i), str(p.resolve())) for i, p in enumerate(sorted(scans.iterdir()), start=1)
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    page.close()


def test_where_results_lie_is_shown_in_full_and_copied_when_asked(chromium, scans, unopened, started):
    page = open_page(chromium, review(started, sorted(scans.iterdir())[1], "--output", unopened, "--reader", "A"))
    folder = folder_of(unopened, 1)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    press(page, "i")
    assert folder.name not in page.content()  # it can be a patient's name
    page.click("[data-test=show_path]")
    eventually(lambda: page.input_value("[data-test=path]") == str(folder.resolve()))
    eventually(lambda: page.evaluate("navigator.clipboard.readText()") == str(folder.resolve()))
    press(page, "Escape")
    page.click("tr[data-id=v1] [data-cell=g]")
    sign(page, folder, "A")
    eventually(lambda: "is complete and signed" in page.inner_text("[data-test=report]"))
    page.click("[data-test=show_report_folder]")
    eventually(lambda: page.input_value("[data-test=report_folder]") == str(folder.resolve()))
    page.close()


def test_after_a_restart_the_reader_the_case_and_the_vertebra_are_as_before(chromium, scans, unopened, started):
    server = review(started, scans, "--output", unopened)
    page = open_page(chromium, server)
    page.fill("[data-test=reader]", "Dr. Kept")
    page.keyboard.press("Tab")
    press(page, ".")
    eventually(lambda: "CASE 2" in page.inner_text("[data-test=worklist]").upper())
    page.wait_for_selector("tr[data-id=v3]")
    idle(page)
    (kept,) = Path(os.environ["XDG_CONFIG_HOME"]).rglob("page.json")
    for vertebra in ("v2", "v3"):  # both, as the vertebra of the first case may be one of them
        page.click(f"tr[data-id={vertebra}] [data-cell=g]")
        becomes(lambda: list(json.loads(kept.read_text())["places"].values())[-1][1], vertebra)  # the last is this one
    assert "Doe" not in kept.read_text() and not any(p.name == "page.json" for p in unopened.rglob("*"))
    server.stop(signal.SIGKILL)
    page.close()
    page = open_page(chromium, review(started, scans, "--output", unopened))
    page.wait_for_selector("tr[data-id=v3].selected")
    eventually(lambda: "CASE 2" in page.inner_text("[data-test=worklist]").upper())
    becomes(lambda: page.input_value("[data-test=reader]"), "Dr. Kept")
    page.close()
    kept.unlink()


def test_a_case_deleted_under_the_page_is_told_and_the_page_goes_on(
    chromium, scans, unopened, started, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    page = open_page(chromium, review(started, scans, "--output", unopened, "--reader", "A"))
    folder = folder_of(unopened, 0)
    press(page, "c")
    saved(folder, lambda r: any(v.review == "confirmed" for v in r.vertebrae))
    eventually((folder / f"machine-{PICTURES[-1]}").exists)  # the last that a save does in the folder
    shutil.rmtree(folder)
    press(page, "c")
    page.wait_for_selector("[data-test=unsaved]")
    eventually(lambda: "deleted or moved" in page.inner_text("[data-test=unsaved]"))
    press(page, ".")
    eventually(lambda: "CASE 2" in page.inner_text("[data-test=worklist]").upper())
    page.wait_for_selector("tr[data-id]")
    eventually(lambda: "2 actions could not be written" in said(page))
    assert len(json.loads(next(tmp_path.glob("vfq-unsaved-*.json")).read_text())) == 2
    assert not folder.exists()
    page.close()
