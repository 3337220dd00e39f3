"""The adjudication page as a third reader uses it: readers without names, one key for a decision, and the consensus."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("trame_slicer", reason="needs the review page: pip install '.[review]'")
pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[test]'")

import browser_bench
import test_browser_annotation
from browser_bench import CHROMIUM, IMAGES_SHOWN, becomes, eventually, handled, new_page, press
from test_browser_annotation import GRADE_WORDS, OPEN, AnnotateServer, inner
from VertebralFractureQuantLib.labels.adding import add_cases
from VertebralFractureQuantLib.labels.consensus import letters
from VertebralFractureQuantLib.labels.dataset import changing, create, load, with_readers
from VertebralFractureQuantLib.labels.reading import Label, LabelReading
from VertebralFractureQuantLib.labels.store import newest, save

chromium = browser_bench.chromium  # fixture
phantom = test_browser_annotation.phantom  # fixture

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture
def disputed(phantom, tmp_path) -> tuple[Path, dict[str, str]]:
    """A label set whose cases "scan1" and "scan2" Anna and Bob read otherwise, and their letters in "scan1"."""
    folder, truth = phantom
    create(tmp_path / "set", "set", {"mode": "blinded"})
    add_cases(tmp_path / "set", sorted(folder.glob("*.nii.gz")))
    with changing(tmp_path / "set") as held:
        held[0] = with_readers(held[0], ["Anna", "Bob", "Carla"])
    dataset = load(tmp_path / "set")
    ids = inner(phantom)
    true = [truth.keypoints[i] for i in ids]
    low = true[1].copy()
    low[:2, 0, 2] -= 0.45 * (low[0, 0, 2] - low[0, 1, 2])  # a deep wedge for Bob
    bob = {"scan1": [true[0], low, true[2] + (0, 2.5, 0)], "scan2": [true[0], true[1] + (0, 2.2, 0), true[2]]}
    for case, points in bob.items():
        for reader, own in (("Anna", true), ("Bob", points)):
            labels = tuple(Label(name, each) for name, each in zip(("T1", "T2", "T3"), own, strict=True))
            digest = dataset.case(case).sha256
            reading = LabelReading(case, reader, state="final", mode="blinded", ct_sha256=digest, labels=labels)
            save(dataset, reading)
    return dataset.folder, letters("scan1", ["Anna", "Bob"], dataset.seed)


def test_a_third_reader_decides_by_single_keys_and_the_worst_case_comes_first(chromium, disputed):
    folder, called = disputed
    server = AnnotateServer([str(folder), "--reader", "Carla", "--adjudicate"])
    page = new_page(chromium)

    def state(name: str):
        return page.evaluate(f"window.trame.state.get('{name}')")

    def rows() -> list[tuple[str, str]]:
        return [(r["level"], r["decision"]) for r in state("rows")]

    try:
        page.goto(server.url)
        page.wait_for_selector("[data-test=side]")
        page.wait_for_function(OPEN.format(0))
        page.wait_for_function(IMAGES_SHOWN)
        handled(page)
        becomes(rows, [("T2", ""), ("T3", ""), ("T1", "agreed")])
        eventually(lambda: "Adjudication" in page.inner_text("[data-test=summary]"))
        becomes(lambda: page.eval_on_selector_all("[data-reader]", "all => all.map(e => e.dataset.reader)"), ["A", "B"])
        text = page.inner_text("body")
        assert not any(name in page.content() for name in ("Anna", "Bob"))
        assert not GRADE_WORDS.search(text.replace("grades differ", "")), text
        eventually(lambda: "2 to be decided" in page.inner_text("[data-test=left_to_decide]"))
        keys = {name: str("AB".index(letter) + 1) for name, letter in called.items()}

        press(page, keys["Bob"])
        becomes(rows, [("T2", called["Bob"]), ("T3", ""), ("T1", "agreed")])
        becomes(lambda: state("enlarged"), "")  # the digit is no key of the layout here
        press(page, "u")
        becomes(rows, [("T2", ""), ("T3", ""), ("T1", "agreed")])
        press(page, "i")
        press(page, "i")  # the second reader who marked it
        becomes(lambda: [o["letter"] for o in state("opinions") if o["chosen"]], ["B"])
        press(page, "f")
        becomes(rows, [("T2", "B"), ("T3", ""), ("T1", "agreed")])
        press(page, "u")
        becomes(rows, [("T2", ""), ("T3", ""), ("T1", "agreed")])
        page.click(f"[data-test=take_{called['Anna'].lower()}]")
        becomes(rows, [("T2", called["Anna"]), ("T3", ""), ("T1", "agreed")])
        press(page, "e")
        becomes(lambda: "T3" in state("message"), True)  # it is not decided
        press(page, "m")
        becomes(rows, [("T2", called["Anna"]), ("T3", "mean"), ("T1", "agreed")])
        becomes(lambda: page.inner_text("[data-test=left_to_decide]"), "All disagreements are decided")
        press(page, "e")
        page.wait_for_function(OPEN.format(1))
        becomes(rows, [("T2", ""), ("T1", "agreed"), ("T3", "agreed")])

        dataset = load(folder)
        anna = newest(dataset, ("Anna", "scan1", 1))
        final = newest(dataset, ("Carla", "scan1", 1))
        assert (final.mode, final.state, [v.level for v in final.labels]) == ("adjudication", "final", ["T2", "T3"])
        assert np.array_equal(final.labels[0].keypoints, anna.labels[1].keypoints)
        data = json.loads((folder / "consensus" / "scan1.json").read_text())
        assert [(v["level"], v["decision"]) for v in data["vertebrae"]] == [
            ("T1", None),
            ("T2", called["Anna"]),
            ("T3", "mean"),
        ]
        press(page, "x")
        press(page, "a")
        becomes(lambda: [(n["level"], n["reason"]) for n in state("entries")], [("T2", "artefact")])
        eventually(lambda: (found := newest(load(folder), ("Carla", "scan2", 1))) is not None and found.labels != ())
        assert not (folder / "consensus" / "scan2.json").exists()  # a draft decides nothing
    finally:
        page.close()
        server.stop()
