"""A study is opened and closed in steps, between which Slicer handles events; what may happen there loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install '.[review]'")
pytest.importorskip("PySide6", reason="needs Qt: pip install '.[test]'")

from desktop_bench import COLUMN, LEVELS, Bench, library_kept, make_analysis, make_ct  # noqa: E402
from VertebralFractureQuantLib.scene.pairs import STEP  # noqa: E402
from VertebralFractureQuantLib.scene.vertebra import ID  # noqa: E402

STEPS = range(5)  # before each of them something else may happen


@pytest.fixture
def closed(opened: Bench) -> Bench:
    """A study of six vertebrae was reviewed and closed."""
    opened.review.act("confirm")
    opened.widget.face.close()
    return opened


def markups() -> list[Any]:
    """Return the vertebrae's nodes in the scene, without their mirrors."""
    nodes = slicer.util.getNodesByClass("vtkMRMLMarkupsClosedCurveNode")
    return [node for node in nodes if node.GetAttribute(ID)]


def paused(bench: Bench, steps: int) -> list[Callable[[], None]]:
    """Press Open, and do so many steps; return what is left to do. One step is done when the study was read."""
    left: list[Callable[[], None]] = []
    bench.widget.face.later = left.append
    bench.desktop.press("openButton")
    bench.desktop.wait(lambda: left)
    for _ in range(steps):
        if left:
            left.pop(0)()
    return left


def opened_again(bench: Bench) -> None:
    """Open the study without pauses, and look if it is the one that was closed."""
    del bench.widget.face.later
    bench.desktop.press("openButton")
    bench.wait_for_study()
    bench.rest()
    assert [bench.study.vertebrae[i].details["level"] for i in bench.study.order] == list(LEVELS)
    assert bench.markups(0).details["review"] == "confirmed" and len(markups()) == 6


def test_no_step_shows_or_removes_more_than_a_few_vertebrae(empty):
    ct = make_ct(23 * 20 + 60)
    empty.children.analysis = lambda ct: make_analysis(ct, levels=COLUMN, pitch=20.0)
    empty.add_volume(ct)
    empty.analyze()
    empty.review.act("confirm")
    empty.widget.face.close()
    left = paused(empty, 0)
    counts = [0]
    while left:
        left.pop(0)()
        counts.append(len(markups()))
    assert counts[-1] == 23 and max(np.diff(counts)) == STEP
    assert empty.editor and empty.review.selected
    closing = empty.widget.face.closing()
    counts = [23, *(len(markups()) for _ in closing)]
    assert counts[-1] == 0 and min(np.diff(counts)) == -STEP


@pytest.mark.parametrize("steps", STEPS)
def test_a_scene_that_is_closed_meanwhile_leaves_nothing_behind(closed, steps):
    paused(closed, steps)
    closed.desktop.close_scene()
    closed.rest()
    assert closed.editor is None and not markups() and not closed.study.nodes
    closed.add_volume(make_ct())
    opened_again(closed)


@pytest.mark.parametrize("steps", STEPS)
def test_opening_once_more_meanwhile_opens_one_study(closed, steps):
    left = paused(closed, steps)
    more = paused(closed, 0)
    while more or left:
        (left or more).pop(0)()
    closed.rest()
    assert len(markups()) == 6 and len(slicer.util.getNodesByClass("vtkMRMLGridTransformNode")) == 1
    assert closed.editor and closed.review.selected
    closed.widget.face.close()
    opened_again(closed)


@pytest.mark.parametrize("steps", STEPS)
def test_a_reload_meanwhile_keeps_the_review(closed, steps):
    with library_kept():
        paused(closed, steps)
        closed.desktop.reload()
        closed.settle_in()
        closed.rest()
        if closed.editor is None:  # it was reloaded before the study was there
            assert not markups()
            closed.widget.face.later = print
            opened_again(closed)
        assert len(markups()) == 6 and closed.markups(0).details["review"] == "confirmed"


@pytest.mark.parametrize("steps", STEPS)
def test_a_ct_that_is_removed_meanwhile_is_reported(closed, steps):
    left = paused(closed, steps)
    slicer.mrmlScene.RemoveNode(closed.ui.inputSelector.currentNode())
    while left:
        left.pop(0)()
    closed.rest()
    assert closed.editor is None and not markups() and "removed" in closed.said


@pytest.mark.parametrize("steps", STEPS)
def test_keys_and_clicks_meanwhile_change_nothing(closed, steps):
    left = paused(closed, steps)
    for do in ("confirm", "delete", "undo", "next_vertebra", "finish_clicks"):
        if closed.review.editor is None:
            closed.widget.act(do)
            closed.review.select("v1")
    while left:
        left.pop(0)()
    assert [closed.study.vertebrae[i].details["review"] for i in closed.study.order] == ["confirmed"] + 5 * ["open"]


def test_a_rescue_and_its_undo_give_the_nodes_to_other_vertebrae(opened):
    nodes = {id(v.node) for v in opened.study.vertebrae.values()}
    before = opened.study.state()
    opened.review.act("start_rescue")
    for row in (0, 2, 4):
        opened.click("Yellow", opened.markups(row).keypoints().mean((0, 1)))
    opened.review.act("finish_clicks")
    opened.desktop.wait(lambda: opened.editor.journal.undoable == "rescue")
    assert not set(opened.study.vertebrae) & set(before) and len(opened.study.order) == 3
    assert {id(v.node) for v in opened.study.vertebrae.values()} < nodes
    assert sorted(n.GetAttribute(ID) for n in markups()) == sorted(opened.study.vertebrae)
    assert [n.GetName().split()[0] for n in sorted(markups(), key=lambda n: n.GetAttribute(ID))] == list(LEVELS[:3])
    opened.review.act("undo")
    assert opened.study.state() == before
    assert all(opened.study.vertebrae[i].node.GetAttribute(ID) == i for i in before if i != "curve")
    opened.desktop.drag("Straightened", opened.markups(1).node, 1, (0, -8))
    assert [i for i in before if i != "curve" and opened.study.state()[i] != before[i]] == [opened.study.order[1]]


def test_what_a_reader_does_during_a_rescue_is_kept(opened):
    opened.review.act("start_rescue")
    for row in (0, 2, 4):
        opened.click("Yellow", opened.markups(row).keypoints().mean((0, 1)))
    opened.widget.face._finish = lambda work, finish=opened.widget.face._finish: (
        work.stage and opened.review.act("confirm"),
        finish(work),
    )
    kept = opened.review.selected
    opened.review.act("finish_clicks")
    opened.desktop.wait(lambda: opened.editor.journal.undoable == "rescue")
    assert opened.study.vertebrae[kept].details["review"] == "confirmed"
