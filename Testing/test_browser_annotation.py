"""The annotation page as readers use it: how many acts a vertebra takes, blinded and assisted, drafts, and the end.

One act is a key press or a click.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("trame_slicer", reason="needs the review page: pip install '.[review]'")
pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")

import browser_bench
from browser_bench import (
    CHROMIUM,
    IMAGES_SHOWN,
    SMALL,
    Picture,
    Server,
    becomes,
    eventually,
    handled,
    hover,
    new_page,
    press,
    write_scans,
)
from VertebralFractureQuantLib.labels.adding import add_cases
from VertebralFractureQuantLib.labels.assigning import assign
from VertebralFractureQuantLib.labels.dataset import changing, create, load, with_readers
from VertebralFractureQuantLib.labels.reading import Label, LabelReading
from VertebralFractureQuantLib.labels.status import status
from VertebralFractureQuantLib.labels.store import newest, save, work_folder
from VertebralFractureQuantLib.spine.keypoints import outline
from VertebralFractureQuantLib.spine.record_json import read_analysis

chromium = browser_bench.chromium  # fixture

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

READER = "Anna"
OPEN = "window.trame.state.get('case_index') == {} && !window.trame.state.get('busy')"
GRADE_WORDS = re.compile(r"(?i:normal|mild|moderate|severe|wedge|biconcave|crush|genant|grade)|\bG\b|SDI")


class AnnotateServer(Server):
    """`vfq annotate` in a process of its own."""

    command = "annotate"


@pytest.fixture(scope="module")
def phantom(painted, tmp_path_factory):
    """The folder of two CTs, and the truth of both."""
    folder = tmp_path_factory.mktemp("scans")
    ct, truth = painted(11, **SMALL)
    write_scans(folder, ct, "scan")
    return folder, truth


class Reading:
    """A label set, its page, and the acts of a reader."""

    def __init__(self, folder: Path, scans: Path, mode: str, chromium, levels=None):
        self.folder, self.chromium, self.acts = folder, chromium, 0
        create(folder, "set", {"mode": mode, "levels": levels, "text": "Mark the outer edges."})
        add_cases(folder, sorted(scans.glob("*.nii.gz")))
        with changing(folder) as held:
            held[0] = assign(with_readers(held[0], [READER]), [READER])
        self.first, self.second = [a.case for a in load(folder).assignments[READER]]
        self.server = self.page = None

    def start(self) -> None:
        self.server = AnnotateServer([str(self.folder), "--reader", READER])
        self.page = new_page(self.chromium)
        self.page.goto(self.server.url)
        self.page.wait_for_selector("[data-test=side]")
        self.opened(0)

    def opened(self, index: int) -> None:
        self.page.wait_for_function(OPEN.format(index))
        self.page.wait_for_function(IMAGES_SHOWN)
        handled(self.page)
        case = (self.first, self.second)[index]
        self.case = case
        self.picture = Picture(self.page, read_analysis(self.work / "spine.json"))

    @property
    def work(self) -> Path:
        return work_folder(load(self.folder), (READER, self.case, 1))

    def stop(self) -> None:
        if self.page:
            self.page.close()
        if self.server:
            self.server.stop()

    def key(self, name: str) -> None:
        self.acts += 1
        press(self.page, name)

    def click(self, straight: np.ndarray) -> None:
        """Click a point in straight mm."""
        self.acts += 1
        hover(self.page, *self.picture.xy_straight(straight))
        self.page.mouse.click(*self.picture.xy_straight(straight))
        handled(self.page)

    def place(self, keypoints: np.ndarray) -> np.ndarray:
        """Place a vertebra in the plane that is shown; return the clicks `(6, 3)` straight mm, in the middle plane."""
        count = len(self.rows)
        self.key("b")
        becomes(lambda: self.state("mode"), "place")
        clicks = outline(self.picture.straightening.to_straight(keypoints)) * (0, 1, 1)
        for click in clicks:
            self.click(click)
        becomes(lambda: len(self.rows), count + 1)
        return clicks

    def level(self, name: str) -> None:
        """Choose the level of the selected vertebra in its menu: two acts."""
        self.acts += 2
        self.page.click("tr[aria-selected=true] button.level")
        self.page.locator(".v-list-item-title", has_text=re.compile(f"^{name}$")).click()
        becomes(lambda: name in [r["level"] for r in self.rows], True)
        self.page.wait_for_function("!document.querySelector('.v-menu .v-list')?.checkVisibility()")
        handled(self.page)

    def state(self, name: str):
        return self.page.evaluate(f"window.trame.state.get('{name}')")

    @property
    def rows(self) -> list[dict]:
        return self.state("rows")

    def saved(self, condition) -> LabelReading:
        """Return the reading on disk once `condition` holds."""

        def found() -> bool:
            reading = newest(load(self.folder), (READER, self.case, 1))
            return reading is not None and condition(reading)

        eventually(found)
        return newest(load(self.folder), (READER, self.case, 1))


@pytest.fixture
def reading(chromium, phantom, tmp_path) -> Iterator:
    """Make and start a reading with a protocol; it is stopped after the test."""
    made: list[Reading] = []

    def start(mode: str, **keys) -> Reading:
        made.append(Reading(tmp_path / "set", phantom[0], mode, chromium, **keys))
        return made[-1]

    yield start
    for each in made:
        each.stop()


def inner(phantom) -> list[int]:
    """The vertebrae that both CTs contain whole, cranial first."""
    levels = list(phantom[1].levels)
    return [levels.index(name) for name in ("T1", "T2", "T3")]


def test_blinded_from_nothing_to_a_final_reading_and_the_next_case(reading, phantom):
    _, truth = phantom
    read, ids = reading("blinded"), inner(phantom)
    read.start()
    page = read.page
    assert read.rows == [] and read_analysis(read.work / "spine.json").vertebrae == ()
    assert "Blinded reading" in page.inner_text("[data-test=summary]")
    assert page.locator("[data-test=toggle_report], [data-test=toggle_healthy], [data-test=healthy]").count() == 0
    assert page.inner_text("[data-test=protocol]") == "Mark the outer edges."
    press(page, "a")
    eventually(lambda: "blinded" in read.state("message"))
    assert read.state("mode") is None

    becomes(lambda: read.state("next_level"), None)  # nothing is known of the reader's last case
    read.acts = 1
    page.click("[data-level=T1]")  # the act that begins the first vertebra chooses its level
    clicks = outline(read.picture.straightening.to_straight(truth.keypoints[ids[0]])) * (0, 1, 1)
    for name, click in zip(("A+", "M+", "P+", "P-", "M-", "A-"), clicks, strict=True):
        becomes(lambda: [*read.state("note").split()[:2], read.state("note")[-6:]], ["Next:", name, " of T1"])
        read.click(click)
    becomes(lambda: [r["level"] for r in read.rows], ["T1"])
    assert read.acts == 7 and read.rows[0]["named"] is True
    read.acts = 0
    clicks = read.place(truth.keypoints[ids[1]])
    assert read.acts == 7  # with its level, which follows from that of the neighbour
    becomes(lambda: [r["level"] for r in read.rows], ["T1", "T2"])

    draft = read.saved(lambda r: len(r.labels) == 2)
    assert (draft.state, draft.mode, draft.version) == ("draft", "blinded", 1)
    assert [v.level for v in draft.labels] == ["T1", "T2"]
    label = draft.labels[1]
    assert (label.source, label.machine_points_shown) == ("reader", False)
    straight = outline(read.picture.straightening.to_straight(label.keypoints))
    assert np.abs(straight - clicks).max() < 0.6  # one pixel is 0.4 mm
    assert np.linalg.norm(label.plane[1]) == pytest.approx(1, abs=1e-6)
    assert np.abs((label.keypoints - label.plane[0]) @ label.plane[1]).max() < 0.3  # the points lie in it

    text = page.inner_text("body")
    assert not GRADE_WORDS.search(text), GRADE_WORDS.search(text)
    assert not {"g", "ratio", "grade", "ha", "spread"} & set(read.rows[0])

    press(page, "e")
    read.opened(1)
    becomes(lambda: read.state("next_level"), "T1")  # as in the last case of this reader; v begins it
    press(page, "v")
    becomes(lambda: read.state("note"), "Next: A+ upper anterior (1 of 6) of T1")
    press(page, "Escape")
    final = newest(load(read.folder), (READER, read.first, 1))
    assert (final.state, final.version, len(final.labels)) == ("final", 1, 2)
    assert all(0 < v.seconds < 600 for v in final.labels)
    (progress,) = status(load(read.folder)).progress
    assert (progress.final, progress.drafts, progress.next_case) == (1, 0, read.second)


def test_a_draft_survives_a_crash_with_comments_reasons_and_plane(reading, phantom):
    _, truth = phantom
    read, ids = reading("blinded", levels=["T1", "T2", "T3"]), inner(phantom)
    read.start()
    page = read.page
    for _ in range(4):
        press(page, "k")
    becomes(lambda: read.state("lateral"), -4.0)
    read.place(truth.keypoints[ids[0]])
    read.level("T1")
    becomes(lambda: read.rows[0]["plane"], "4.0 mm left")
    draft = read.saved(lambda r: len(r.labels) == 1 and r.labels[0].level == "T1")
    straight = read.picture.straightening.to_straight(draft.labels[0].keypoints)
    assert straight[..., 0] == pytest.approx(-4.0, abs=0.05)
    assert read.picture.straightening.to_straight(draft.labels[0].plane[0])[0] == pytest.approx(-4.0, abs=0.05)

    before = outline(straight)
    for key in ("ArrowUp", "ArrowUp", "ArrowUp", "ArrowLeft"):
        press(page, key)
    moved = read.saved(lambda r: r.revision >= draft.revision + 1 and _shift(read, r, before)[5, 2] > 0.25)
    shift = _shift(read, moved, before)
    assert shift[5] == pytest.approx((0, 0.1, 0.3), abs=0.01)  # the point that was placed last, A-
    assert np.abs(shift[:5]).max() < 0.01

    page.fill("[data-test=comment]", "osteophyte")
    page.press("[data-test=comment]", "Enter")  # the next key is a command again
    read.saved(lambda r: r.labels[0].comment == "osteophyte")
    read.place(truth.keypoints[ids[1]])
    becomes(lambda: [r["level"] for r in read.rows], ["T1", "T2"])
    press(page, "x")
    press(page, "m")
    becomes(lambda: [(n["level"], n["reason"]) for n in read.state("entries")], [("T2", "metal")])
    kept = read.saved(lambda r: r.labels[-1].not_assessable == "metal")
    assert [(v.level, v.not_assessable) for v in kept.labels] == [("T1", None), ("T2", "metal")]

    read.server.stop(signal.SIGKILL)
    page.close()
    read.start()
    assert [(r["level"], r["comment"], r["plane"]) for r in read.rows] == [("T1", "osteophyte", "4.0 mm left")]
    assert [n["level"] for n in read.state("entries")] == ["T2"]
    press(read.page, "e")
    eventually(lambda: "T3" in read.state("message"))  # the protocol asks for it
    press(read.page, "e")
    read.opened(1)
    final = newest(load(read.folder), (READER, read.first, 1))
    assert final.state == "final" and final.labels[0].comment == "osteophyte"
    assert np.abs(final.labels[0].keypoints - kept.labels[0].keypoints).max() == 0


def _shift(read: Reading, found: LabelReading, before: np.ndarray) -> np.ndarray:
    return outline(read.picture.straightening.to_straight(found.labels[0].keypoints)) - before


def test_assisted_points_take_one_act_and_a_proposal_two(reading, phantom):
    _, truth = phantom
    read = reading("assisted")
    read.start()
    page, analysis = read.page, read_analysis(read.work / "spine.json")
    found = {v.level: v for v in analysis.vertebrae}
    assert len(found) >= 4 and all(r["waits"] for r in read.rows)
    assert newest(load(read.folder), (READER, read.first, 1)) is None  # looking saves nothing
    press(page, "e")
    eventually(lambda: "T2" in read.state("message") and "Accept" in read.state("message"))

    read.key("c")
    first = read.saved(lambda r: len(r.labels) == 1)
    assert read.acts == 1 and first.mode == "assisted"
    assert (first.labels[0].source, first.labels[0].machine_points_shown) == ("automatic", True)
    assert np.abs(first.labels[0].keypoints - found[first.labels[0].level].keypoints).max() < 1e-6

    level = read.rows[1]["level"]
    press(page, "Delete")
    becomes(lambda: level in [r["level"] for r in read.rows], False)
    read.acts = 0
    read.key("a")
    read.click(read.picture.straightening.to_straight(found[level].keypoints.mean((0, 1))) * (0, 1, 1))
    becomes(lambda: level in [r["level"] for r in read.rows], True)
    assert read.acts == 2  # its level follows from its neighbours
    again = read.saved(lambda r: any(v.level == level for v in r.labels))
    (proposed,) = [v for v in again.labels if v.level == level]
    assert proposed.source == "automatic" and proposed.machine_points_shown
    (true,) = [k for k, name in zip(truth.keypoints, truth.levels, strict=True) if name == level]
    assert np.linalg.norm(proposed.keypoints - true, axis=-1).mean() < 1.0

    read.server.stop()  # what waits is still there, what was accepted is no longer asked
    page.close()
    read.start()
    assert sum(not r["waits"] for r in read.rows) == 2 and len(read.rows) == len(found)


def test_the_loupe_enlarges_eight_times_while_points_are_placed(reading, phantom):
    read = reading("blinded")
    read.start()
    press(read.page, "b")
    middle = np.array((0, 0, read.picture.middle))
    hover(read.page, *read.picture.xy_straight(middle))
    loupe = read.page.locator("[data-test=placing-loupe]")
    loupe.wait_for(state="visible")
    column, row, times = map(float, loupe.get_attribute("data-shown").split(","))
    assert times == 8 and 0 < column < 301 and 0 < row < 301
    press(read.page, "Escape")
    loupe.wait_for(state="hidden")


def test_a_changed_final_reading_becomes_another_version(reading, phantom):
    _, truth = phantom
    read, ids = reading("blinded"), inner(phantom)
    dataset = load(read.folder)
    labels = (Label("T1", truth.keypoints[ids[0]]),)
    digest = dataset.case(read.first).sha256
    save(dataset, LabelReading(read.first, READER, state="final", mode="blinded", ct_sha256=digest, labels=labels))
    read.server = AnnotateServer([str(read.folder), "--reader", READER, "--case", read.first])
    read.page = new_page(read.chromium)
    read.page.goto(read.server.url)
    read.page.wait_for_selector("[data-test=side]")
    read.opened(0)
    eventually(lambda: "Version 1 of this reading is final" in read.state("message"))
    read.place(truth.keypoints[ids[1]])
    second = read.saved(lambda r: r.version == 2 and len(r.labels) == 2)
    assert second.state == "draft" and [v.level for v in second.labels] == ["T1", "T2"]
    first = json.loads(next(read.folder.glob(f"readings/*/{read.first}.json")).read_text())
    assert first["state"] == "final" and len(first["vertebrae"]) == 1
