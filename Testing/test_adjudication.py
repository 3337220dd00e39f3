"""Adjudication without a browser: what readers differ in, decisions, and the consensus; and which cases come first."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from label_bench import body, column, dataset_with, made
from test_formats import validated
from test_labels import refused
from typer.testing import CliRunner
from VertebralFractureQuantLib.cli.annotate import in_order
from VertebralFractureQuantLib.cli.app import app
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.labels.assigning import assign
from VertebralFractureQuantLib.labels.consensus import letters, read_consensus
from VertebralFractureQuantLib.labels.dataset import changing, load
from VertebralFractureQuantLib.labels.disputes import adjudications_to_do, disputed_cases, disputes_of
from VertebralFractureQuantLib.labels.ordering import case_doubts, sorted_cases
from VertebralFractureQuantLib.labels.reading import Label, LabelReading
from VertebralFractureQuantLib.labels.store import final_readings, history, newest, save
from VertebralFractureQuantLib.report.outputs import write_record
from VertebralFractureQuantLib.spine.genant import measure
from VertebralFractureQuantLib.spine.record import SpineAnalysis, Vertebra

READERS = ("Anna", "Bob", "Carla")
SLOT = ("Carla", "scan", 1)


def read(dataset, reader, labels, case="scan"):
    return save(
        dataset,
        LabelReading(
            case, reader, state="final", mode="blinded", ct_sha256=dataset.case(case).sha256, labels=tuple(labels)
        ),
    )


def shifted(label: Label, by: float) -> Label:
    """A label whose points lie further to the front."""
    return replace(label, keypoints=label.keypoints + (0, by, 0))


ANNA = (
    Label("T7", body(-70)),
    Label("T8", body(-100, front=12.0)),  # severe for Anna, normal for Bob: the worst
    Label("T9", body(-130)),
    Label("T10", body(-160)),
)
BOB = (
    Label("T7", body(-70)),
    Label("T8", body(-100)),
    shifted(Label("T9", body(-130)), 3.0),  # 3 mm apart
)  # T10 is not marked by Bob


@pytest.fixture
def disputed(tmp_path):
    """A label set with the case "scan", read by Anna and Bob, who disagree on three of four vertebrae."""
    dataset = made(tmp_path, READERS)
    read(dataset, "Anna", ANNA)
    read(dataset, "Bob", BOB)
    return dataset


def test_disputes_have_letters_and_reasons_and_no_names(disputed):
    called = letters("scan", ["Anna", "Bob"], disputed.seed)
    a, b = called["Anna"], called["Bob"]
    found = disputes_of(disputed, disputed.case("scan"), list(final_readings(disputed).values()))
    assert [d.doubts for d in found] == [(), ("grade", "points"), ("points",), ("not_all_readers",)]
    assert "grades differ; points up to" in found[1].text
    assert found[2].text == "points up to 3.0 mm apart" and found[3].text == f"not marked by {b}"
    assert np.array_equal(found[1].points[a], ANNA[1].keypoints) and set(found[3].points) == {a}
    assert found[2].mean == pytest.approx(body(-130) + (0, 1.5, 0))
    ranks = [d.rank for d in found]
    assert sorted(range(4), key=lambda i: ranks[i], reverse=True) == [1, 2, 0, 3] and ranks[1][0] == 3
    assert not any(name in d.text for d in found for name in READERS)


def test_cases_come_worst_first_and_never_to_their_own_readers(tmp_path):
    dataset = dataset_with(tmp_path / "set", ["equal", "points", "grades", "one"], READERS)
    for case, labels in (("equal", BOB[:1]), ("points", BOB), ("grades", ANNA), ("one", ANNA)):
        read(dataset, "Anna", labels, case)
    for case, labels in (("equal", BOB[:1]), ("points", ANNA[:1] + BOB[1:2] + ANNA[2:3]), ("grades", BOB)):
        read(dataset, "Bob", labels, case)
    assert list(disputed_cases(dataset)) == ["grades", "points"]
    assert adjudications_to_do(dataset, "Carla", None) == [("Carla", "grades", 1), ("Carla", "points", 1)]
    assert adjudications_to_do(dataset, "Carla", "points") == [("Carla", "points", 1)]
    for reader, case in (("Anna", None), ("Carla", "equal"), ("Carla", "one")):
        refused("nothing_assigned", adjudications_to_do, dataset, reader, case)
    found = CliRunner().invoke(
        app, ["annotate", str(dataset.folder), "--no-browser", "--reader", "Bob", "--adjudicate"]
    )
    assert found.exit_code == 3 and found.output.startswith("nothing_assigned")


# --- which cases come first


def automatic(folder, case, ratios, score=0.99, probability=1.0):
    """Write the automatic result of a case whose vertebrae have these G, each known to 0.03."""
    vertebrae = []
    for i, ratio in enumerate(ratios):
        points = body(-30.0 * i, front=22.0 * ratio)
        level = f"T{8 + i}"
        known = {"spread": 0.03, "level": level, "level_probabilities": {level: probability}}
        vertebrae.append(Vertebra(points, measure(points), score, **known))
    (folder / case).mkdir(parents=True)
    status = "ok" if ratios else "no_vertebra_found"
    write_record(SpineAnalysis(case, status=status, vertebrae=tuple(vertebrae)), folder / case / "analysis.json")


def test_the_least_sure_cases_come_first(tmp_path):
    names = ["sure", "borderline", "doubtful-level", "nothing-found", "not-analysed", "unsure-vertebra"]
    dataset = dataset_with(tmp_path / "set", names, ["Anna"])
    analyses = tmp_path / "results"
    automatic(analyses, "sure", [1.0, 1.0])
    automatic(analyses, "borderline", [0.80, 1.0])
    automatic(analyses, "doubtful-level", [1.0, 1.0], probability=0.6)
    automatic(analyses, "unsure-vertebra", [1.0, 1.0], score=0.3)
    automatic(analyses, "nothing-found", [])
    doubts = case_doubts(dataset, names, analyses)
    assert 0.25 < doubts["borderline"] < 0.3  # G = 0.80 is mild or normal by chance, and the other one is sure
    assert doubts["doubtful-level"] == pytest.approx(0.4) and doubts["unsure-vertebra"] == pytest.approx(0.7)
    wanted = ["nothing-found", "unsure-vertebra", "doubtful-level", "borderline", "sure", "not-analysed"]
    assert sorted_cases(dataset, names, "unsure", analyses) == wanted
    slots = [("Anna", name, 1) for name in names]
    assert [case for _, case, _ in in_order(dataset, slots, "unsure", analyses)] == wanted
    with changing(dataset.folder) as held:
        held[0] = assign(held[0], ["Anna"], in_order=lambda new: sorted_cases(held[0], new, "unsure", analyses))
    assert [a.case for a in load(dataset.folder).assignments["Anna"]] == wanted


def test_the_command_assigns_in_the_order_that_is_asked_for(tmp_path):
    dataset = dataset_with(tmp_path / "set", ["a", "b", "c"], ["Anna", "Bob", "Carla"])
    automatic(tmp_path / "results", "b", [0.8])
    automatic(tmp_path / "results", "c", [1.0])
    command = ["dataset", "assign", str(dataset.folder), "--reader"]
    without = CliRunner().invoke(app, [*command, "Anna", "--first", "unsure"])
    assert without.exit_code == 3 and without.output.startswith("not_found") and "--analyses" in without.output
    assert load(dataset.folder).assignments == {}
    given = [*command, "Anna", "--first", "unsure", "--analyses", str(tmp_path / "results")]
    assert CliRunner().invoke(app, given).exit_code == 0
    assert [a.case for a in load(dataset.folder).assignments["Anna"]] == ["b", "c", "a"]
    read(dataset, "Anna", ANNA, "a")
    read(dataset, "Bob", BOB, "a")
    assert CliRunner().invoke(app, [*command, "Carla", "--first", "disagreement"]).exit_code == 0
    assert load(dataset.folder).assignments["Carla"][0].case == "a"


# --- deciding

slicer = pytest.importorskip("slicer", reason="needs MRML: pip install '.[review]'")

import test_scene  # noqa: E402
from VertebralFractureQuantLib.scene.adjudication_review import AdjudicationReview  # noqa: E402
from VertebralFractureQuantLib.scene.adjudication_rows import decision_rows, opinion_rows  # noqa: E402
from VertebralFractureQuantLib.scene.adjudication_start import begin_adjudication, load_adjudication  # noqa: E402
from VertebralFractureQuantLib.scene.annotation_keys import ADJUDICATION_KEYS  # noqa: E402
from VertebralFractureQuantLib.scene.opinions import style  # noqa: E402
from VertebralFractureQuantLib.scene.study import StudyScene  # noqa: E402
from VertebralFractureQuantLib.scene.views import Views  # noqa: E402

NO_NETWORKS = VFQError("bad_weights", "No networks here.")


@pytest.fixture
def adjudicate():
    """Open an adjudication in a window of its own."""
    opened = []

    def open_one(dataset, slot=SLOT) -> AdjudicationReview:
        scene = slicer.vtkMRMLScene()
        review = AdjudicationReview(StudyScene(scene, Views(("S",), ("X",))), test_scene.Listening(scene), slot[0])
        begun = begin_adjudication(dataset, slot, load_adjudication(dataset, slot, NO_NETWORKS))
        review.begin_adjudication(dataset, begun)
        opened.append(review)
        return review

    yield open_one
    for review in opened:
        review.close()


def shown(review) -> list[tuple[str, str]]:
    """Level and decision of each row, in the order of the list."""
    study = review.study
    return [(study.label(i), review.annotation.decision(study, i)) for i in review.order]


def finish(review) -> LabelReading:
    """Complete the adjudication."""
    assert review.check_complete() == ""
    reading = review.drafting("final")()
    review.saved(reading)
    return reading


def test_each_key_of_an_adjudication_has_one_action():
    keys = [key for entry in ADJUDICATION_KEYS for key in entry.keys]
    assert len(keys) == len(set(keys))
    assert len({style(letter) for letter in "ABCD"}) == 4 == len({style(letter)[1] for letter in "ABCD"})


def test_disagreements_are_walked_worst_first_and_each_is_decided_by_one_act(disputed, adjudicate):
    called = letters("scan", ["Anna", "Bob"], disputed.seed)
    take = {name: f"take_{letter.lower()}" for name, letter in called.items()}
    review = adjudicate(disputed)
    assert shown(review) == [("T8", ""), ("T9", ""), ("T10", ""), ("T7", "agreed")]
    assert review.study.label(review.selected) == "T8" and review.close_up
    with pytest.raises(VFQError) as early:
        review.check_complete()
    assert early.value.code == "reading_incomplete" and newest(disputed, SLOT) is None
    review.act(take["Bob"])
    assert review.study.label(review.selected) == "T9"
    review.act("take_mean")
    assert review.study.label(review.selected) == "T10"
    review.act(take["Bob"])  # Bob did not mark it
    assert "did not mark this vertebra" in review.face.said[-1] and review.annotation.waiting(review.study)
    review.act(take["Anna"])
    assert "All disagreements are decided" in review.face.said[-1]
    assert shown(review) == [("T8", called["Bob"]), ("T9", "mean"), ("T10", called["Anna"]), ("T7", "agreed")]

    before = {r.reader: r for r in final_readings(disputed).values()}
    final = finish(review)
    assert (final.mode, final.state, [v.level for v in final.labels]) == ("adjudication", "final", ["T8", "T9", "T10"])
    assert np.array_equal(final.labels[0].keypoints, BOB[1].keypoints)
    assert final.labels[1].keypoints == pytest.approx(body(-130) + (0, 1.5, 0), abs=1e-6)
    for reader in ("Anna", "Bob"):  # every original stays
        assert len(history(disputed, (reader, "scan", 1))) == 1
        assert before[reader].saved_at == newest(disputed, (reader, "scan", 1)).saved_at
    data = validated(json.loads((disputed.folder / "consensus" / "scan.json").read_text()), "vfq-consensus/1")
    assert [(v["level"], v["adjudicated"], v["decision"], v["doubts"]) for v in data["vertebrae"]] == [
        ("T7", False, None, []),
        ("T8", True, called["Bob"], []),
        ("T9", True, "mean", []),
        ("T10", True, called["Anna"], []),
    ]
    (consensus,) = read_consensus(disputed)
    assert np.array_equal(consensus.labels[1].keypoints, BOB[1].keypoints)
    assert disputed_cases(disputed, "Carla") == disputed_cases(disputed)  # it can be opened again


def test_any_number_of_readers_is_decided_by_keys(tmp_path, adjudicate):
    """Twenty-eight readers, each 0.4 mm from the next: nine have a digit, and all can be chosen in turn."""
    names = [f"Reader {i}" for i in range(28)]
    dataset = made(tmp_path, [*names, "Carla"])
    for i, name in enumerate(names):
        missed = i == 3
        read(dataset, name, [shifted(Label("T9", body(-130)), 0.4 * i), *([] if missed else [Label("T8", body(-100))])])
    called = letters("scan", names, dataset.seed)
    by_letter = {letter: 0.4 * names.index(name) for name, letter in called.items()}
    review = adjudicate(dataset)
    actions = {key: entry.action for entry in ADJUDICATION_KEYS for key in entry.keys}
    rows = opinion_rows(review)
    assert [r["letter"] for r in rows][:2] == ["A", "B"] and [r["letter"] for r in rows][-2:] == ["R27", "R28"]
    assert [r["key"] for r in rows] == [*"123456789", *[""] * 19]
    row = next(i for i, (level, _) in enumerate(shown(review)) if level == "T9")
    t9, t8 = review.order[row], review.order[1 - row]

    def taken() -> tuple[str, float]:
        points = review.study.vertebrae[t9].keypoints()
        return review.annotation.decision(review.study, t9), round(float((points - body(-130))[0, 0, 1]), 3)

    for key, letter in (("5", "E"), ("9", "I")):
        review.select(t9)
        review.act(actions[key])
        assert taken() == (letter, pytest.approx(by_letter[letter], abs=1e-3))
    review.select(t9)
    for _ in range(28):
        review.act(actions["i"])
    assert [r["letter"] for r in opinion_rows(review) if r["chosen"]] == ["R28"]
    assert "Reader R28 is chosen. Press f" in review.face.said[-1]
    review.act(actions["f"])
    assert taken() == ("R28", pytest.approx(by_letter["R28"], abs=1e-3))
    assert decision_rows(review)[review.order.index(t9)]["decided"] == "reader R28"

    review.select(t8)
    walked = []
    for _ in range(28):
        review.act(actions["i"])
        walked.append(review.chosen)
    missing = called[names[3]]
    assert missing not in walked and walked[0] == walked[27] and len(set(walked)) == 27, "only who marked it is chosen"


def test_one_undo_takes_a_decision_back(disputed, adjudicate):
    review = adjudicate(disputed)
    first = review.study.vertebrae[review.selected].keypoints()
    review.act("take_a")
    review.act("undo")
    assert [decision for _, decision in shown(review)] == ["", "", "", "agreed"]
    assert review.study.vertebrae[review.selected].keypoints() == pytest.approx(first, abs=1e-6)
    assert review.study.label(review.selected) == "T8"


def test_own_points_and_what_is_not_assessable_decide_as_well(disputed, adjudicate):
    review = adjudicate(disputed)
    review.act("delete")
    assert "A reader marked this vertebra" in review.face.said[-1]
    review.act("nudge_up")
    review.act("nudge_up")
    assert shown(review)[0] == ("T8", "own")
    review.act("confirm")
    assert review.study.label(review.selected) == "T9"
    review.act("not_assessable", "fused")
    assert review.study.label(review.selected) == "T10"
    review.act("not_assessable", "other")
    final = finish(review)
    assert [(v.level, v.not_assessable) for v in final.labels] == [("T8", None), ("T9", "fused"), ("T10", "other")]
    data = validated(json.loads((disputed.folder / "consensus" / "scan.json").read_text()), "vfq-consensus/1")
    assert [v["level"] for v in data["vertebrae"]] == ["T7", "T8"]
    assert data["vertebrae"][1]["decision"] == "own"
    assert data["not_assessable"] == [{"level": "T9", "reason": "fused"}, {"level": "T10", "reason": "other"}]
    again = adjudicate(disputed)  # what was left out stays left out
    assert shown(again) == [("T8", "own"), ("T7", "agreed")]


def test_a_draft_of_an_adjudication_comes_back(disputed, adjudicate):
    review = adjudicate(disputed)
    review.act("take_mean")
    review.saved(review.drafting()())
    assert not (disputed.folder / "consensus").exists()
    again = adjudicate(disputed)
    assert shown(again) == [("T8", "mean"), ("T9", ""), ("T10", ""), ("T7", "agreed")]
    assert again.study.label(again.selected) == "T9"


def test_a_reader_who_is_off_by_one_level_is_decided_for_all_vertebrae_that_follow(tmp_path, adjudicate):
    dataset = made(tmp_path, READERS)
    read(dataset, "Anna", column(["T8", "T9", "T10"], at=-70))
    read(dataset, "Bob", column(["T9", "T10", "T11"], at=-70))
    called = letters("scan", ["Anna", "Bob"], dataset.seed)
    review = adjudicate(dataset)
    assert [level for level, _ in shown(review)] == ["T8", "T9", "T10"]
    review.act(f"take_{called['Bob'].lower()}")
    assert [level for level, _ in shown(review)] == ["T9", "T10", "T11"]
    review.act("take_mean")  # its level would be T9 for Anna, which is taken
    assert "is the level of another vertebra already" in review.face.said[-1]
    review.act("confirm")
    assert [v.level for v in finish(review).labels] == ["T9", "T10", "T11"]


def test_the_readers_outlines_are_shown_without_names_and_are_removed(disputed, adjudicate):
    review = adjudicate(disputed)
    nodes = list(review._opinions.nodes.values())
    assert {node.GetName() for node in nodes} == {"Reader A", "Reader B"} and len(nodes) == 4
    called = letters("scan", ["Anna", "Bob"], disputed.seed)
    straight = review._opinions.nodes[called["Anna"], True]
    assert straight.GetDisplayNode().GetColor() == pytest.approx(style(called["Anna"])[0])
    points = slicer.util.arrayFromModelPoints(straight)
    wanted = review.study.straightening.to_straight(ANNA[1].keypoints).reshape(6, 3)
    assert all(np.linalg.norm(points - each, axis=1).min() < 1e-3 for each in wanted)
    review.act("toggle_overlay")
    assert not any(node.GetDisplayNode().GetVisibility() for node in nodes)
    scene = review.study.scene
    texts = json.dumps([scene.GetNthNode(i).GetName() for i in range(scene.GetNumberOfNodes())])
    assert "Anna" not in texts and "Bob" not in texts
    review.close()
    assert all(node.GetScene() is None for node in nodes)


def test_a_reader_of_the_case_cannot_decide_on_it(disputed):
    slot = ("Anna", "scan", 1)
    prepared = load_adjudication(disputed, slot, NO_NETWORKS)
    refused("labels_exist", begin_adjudication, disputed, slot, prepared)
