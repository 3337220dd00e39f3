"""A reader repairs a curve that has left the spine: where it is led, which vertebrae stay, and what they are called."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from VertebralFractureQuantLib.analysis.curve_repair import REPLACED_MM, REPLACED_TIMES, repaired_curve
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.scene.merging import Merged, merged, name_between
from VertebralFractureQuantLib.scene.state import State, state_of
from VertebralFractureQuantLib.spine.curve import SpineCurve, fit_curve
from VertebralFractureQuantLib.spine.genant import measure
from VertebralFractureQuantLib.spine.record import Vertebra
from VertebralFractureQuantLib.spine.straightening import Straightening

LEVELS = ("T5", "T6", "T7", "T8", "T9", "T10", "T11", "T12", "L1", "L2")
PITCH_MM = 26.0
WRONG_MM, WRONG_FROM, WRONG_TO = 14.0, 60.0, 150.0  # the curve bulges to the left over T7 to T10


def spine() -> SpineCurve:
    """A kyphotic and scoliotic spine of 300 mm."""
    s = np.linspace(0, -300, 60)
    return fit_curve(np.stack([10 * np.sin(s / 70), 20 * np.cos(s / 110), s], 1))


def bulged(curve: SpineCurve) -> SpineCurve:
    """The spine's curve as a bright vessel pulled it aside."""
    arcs = np.arange(len(curve.points)) * curve.step
    inside = np.clip((arcs - WRONG_FROM) / (WRONG_TO - WRONG_FROM), 0, 1)
    return fit_curve(curve.points - np.outer(WRONG_MM * np.sin(np.pi * inside) ** 2, [1.0, 0.0, 0.0]))


def middles() -> np.ndarray:
    """The middles of the bodies, RAS mm."""
    return spine().at(20 + PITCH_MM * np.arange(len(LEVELS)))[0]


# --- the curve


def test_one_click_in_the_middle_leads_the_curve_back_over_the_whole_stretch():
    wrong = bulged(spine())
    assert wrong.distance_to(middles()).max() > 12
    repaired = repaired_curve(wrong, middles()[[3]])
    assert repaired.distance_to(middles()[[3]])[0] < 1.0
    assert repaired.distance_to(middles()).max() < 2.0
    assert 1 / np.linalg.norm(repaired.curvatures, axis=1).max() > 50  # mm: nothing folds in the straightened image


@pytest.mark.parametrize("which", [(2, 4), (2, 3, 4), range(10), (0, 4, 9), (9,), (0,)])
def test_the_curve_passes_every_click_within_a_millimetre(which):
    order = np.random.default_rng(len(list(which))).permutation(list(which))
    clicks = middles()[order] + np.random.default_rng(1).normal(0, 1.5, (len(order), 3)) * [1, 1, 0]
    repaired = repaired_curve(bulged(spine()), clicks)
    assert repaired.distance_to(clicks).max() < 1.0
    np.testing.assert_allclose(np.linalg.norm(np.diff(repaired.points, axis=0), axis=1), 1.0, atol=0.02)


def test_two_clicks_are_as_good_as_one_on_each_vertebra():
    few, many = (repaired_curve(bulged(spine()), middles()[which]) for which in ([2, 4], [1, 2, 3, 4, 5]))
    assert few.distance_to(middles()).max() < 1.0 and many.distance_to(middles()).max() < 0.7


@pytest.mark.parametrize("aside", [0.0, 5.0, 14.0, 25.0])
def test_beyond_the_reach_of_the_click_the_curve_stays(aside):
    curve, at = spine(), 150.0
    click = curve.at(np.array([at]))[0] + [aside, 0.0, 0.0]
    reach = max(REPLACED_MM, REPLACED_TIMES * aside)
    repaired = repaired_curve(curve, click)
    far = np.abs(np.arange(len(curve.points) - 1) - at) > reach + 20  # the last step of the curve may be cut
    assert far.any() and repaired.distance_to(curve.points[:-1][far]).max() < 0.06  # resampled
    np.testing.assert_allclose(
        repaired.points[:40] if aside < 14 else 0, curve.points[:40] if aside < 14 else 0, atol=1e-6
    )
    assert repaired.distance_to(click)[0] < 1.0


def test_a_click_on_the_curve_changes_nothing_that_can_be_seen():
    curve = spine()
    repaired = repaired_curve(curve, curve.points[[120]])
    assert repaired.distance_to(curve.points[:-1]).max() < 0.5


def test_a_click_where_the_curve_is_right_holds_it_against_a_far_one_beside_it():
    curve = spine()
    beside, right = curve.points[150] + [25.0, 0, 0], curve.points[190]
    alone, held = repaired_curve(curve, beside[None]), repaired_curve(curve, np.stack([beside, right]))
    below = curve.points[195:230]
    assert alone.distance_to(below).max() > 5
    assert held.distance_to(below).max() < 2.5


def test_clicks_over_the_whole_spine_leave_nothing_of_the_old_curve():
    astray = SpineCurve(spine().points + [60.0, -40.0, 0.0])
    repaired = repaired_curve(astray, middles())
    assert repaired.distance_to(middles()).max() < 1.0
    assert repaired.length > 0.9 * astray.length  # the ends go along, they are not lost
    assert spine().distance_to(repaired.points).max() < 15  # at an end without a click; the old one was 72 mm away


def test_a_click_beyond_the_end_lengthens_the_curve():
    short = SpineCurve(spine().points[:200])
    repaired = repaired_curve(short, spine().points[[260]])
    assert repaired.length == pytest.approx(260, abs=3)
    assert repaired.distance_to(spine().points[:261]).max() < 4.0
    np.testing.assert_allclose(repaired.points[:100], short.points[:100], atol=1e-6)


def test_of_two_clicks_on_one_slice_the_later_one_counts():
    curve = spine()
    mistaken, meant = curve.points[150] + [20.0, 0, 0], curve.points[150] + [5.0, 0, 0]
    repaired = repaired_curve(curve, np.stack([mistaken, meant]))
    np.testing.assert_allclose(repaired.points, repaired_curve(curve, meant[None]).points)


def test_clicks_that_no_spine_can_pass_are_refused():
    with pytest.raises(VFQError) as caught:
        repaired_curve(spine(), spine().points[[150, 156]] + [[0, 40.0, 0], [0, -40.0, 0]])
    assert caught.value.code == "not_along_spine"
    with pytest.raises(VFQError) as caught:
        repaired_curve(spine(), np.empty((0, 3)))
    assert caught.value.code == "too_few_points"


# --- the vertebrae along it


def vertebrae(curve: SpineCurve, levels: Any = LEVELS, share: float = 0.95) -> list[Vertebra]:
    """Bodies of 20 x 30 mm along a curve, as the detector finds them there."""
    found = []
    for i, level in enumerate(levels):
        s = -20 - PITCH_MM * i
        straight = np.array([[[0.0, a, s + 10], [0.0, a, s - 10]] for a in (15.0, 0.0, -15.0)])
        points = Straightening(curve).to_patient(straight)
        shares = {level: share} if level else {}
        found.append(Vertebra(points, measure(points), 0.99, level, level_probabilities=shares))
    return found


def study(found: list[Vertebra], **touched: dict[str, Any]) -> dict[str, State]:
    """The states of a study; `v4={...}` replaces values of the fourth vertebra's."""
    states = {f"v{i + 1}": state_of(v) for i, v in enumerate(found)}
    return {i: {**state, **touched.get(i, {})} for i, state in states.items()}


CONFIRMED = {"review": "confirmed", "reviewer": "reader", "reviewed_at": "2026-01-01T00:00:00+00:00"}


def column(result: Merged) -> list[str | None]:
    """The names from top to bottom."""
    states = [*result.kept.values(), *result.fresh]
    return [s["level"] for s in sorted(states, key=lambda s: -np.mean(s["keypoints"], (0, 1))[2])]


def rescued(known: dict[str, State], levels: Any = LEVELS, share: float = 0.95) -> Merged:
    """Merge with what is found along the true spine."""
    return merged(known, vertebrae(spine(), levels, share), Straightening(spine()), detected=True)


def test_untouched_vertebrae_are_replaced_by_those_on_the_new_curve():
    result = rescued(study(vertebrae(bulged(spine()))))
    assert not result.kept and not result.lost and column(result) == list(LEVELS)
    assert [s["keypoints"] for s in result.fresh] == [state_of(v)["keypoints"] for v in vertebrae(spine())]


@pytest.mark.parametrize(
    "touch",
    [
        CONFIRMED,
        {**CONFIRMED, "review": "rejected"},
        {"origin": "reader", "machine_keypoints": np.zeros((3, 2, 3)).tolist()},
        {"pinned": True},
    ],
)
def test_what_a_reader_touched_stays_untouched_where_the_curve_passes_through_it(touch):
    known = study(vertebrae(bulged(spine())), v9=touch)
    result = rescued(known)
    assert result.kept == {"v9": known["v9"]} and len(result.fresh) == len(LEVELS) - 1
    assert column(result) == list(LEVELS)


def test_a_moved_vertebra_wins_over_the_one_detected_in_its_place():
    """Its middle was moved by 12 mm along the spine: by distance it is another vertebra, by overlap it is not."""
    known = study(vertebrae(spine()))
    moved = np.add(known["v2"]["keypoints"], [0.0, 0.0, 4.0])
    moved[:, 0] += [0.0, 0.0, 16.0]
    known["v2"] = {**known["v2"], "keypoints": moved.tolist(), "origin": "reader"}
    result = rescued(known)
    assert set(result.kept) == {"v2"} and result.kept["v2"]["keypoints"] == moved.tolist()
    assert len(result.fresh) < len(LEVELS)


def test_a_confirmed_vertebra_that_the_curve_leaves_is_replaced_and_reported():
    result = rescued(study(vertebrae(bulged(spine())), v4=CONFIRMED))
    assert not result.kept and result.lost == ["v4"] and len(result.fresh) == len(LEVELS)


def test_the_reader_is_told_how_many_were_found_and_kept_and_whose_points_were_replaced():
    pytest.importorskip("slicer", reason="needs slicer-core: pip install '.[review]'")
    from VertebralFractureQuantLib.scene.merging import rescue_text

    known = study(vertebrae(bulged(spine())), v4=CONFIRMED, v9=CONFIRMED)
    told = rescue_text(rescued(known), ["T8"])
    assert told.startswith("9 vertebrae found along your points. Kept from before: 1. Replaced")
    assert "T8" in told and told.endswith("Undo restores everything.")
    assert "Kept" not in rescue_text(rescued(study(vertebrae(spine()))), [])


def test_a_readers_vertebra_is_never_lost_where_nothing_is_detected():
    known = study(vertebrae(bulged(spine())), v4={**CONFIRMED, "origin": "reader"})
    found = [v for i, v in enumerate(vertebrae(spine())) if i != 3]
    result = merged(known, found, Straightening(spine()), detected=True)
    assert result.kept["v4"]["keypoints"] == known["v4"]["keypoints"] and not result.lost
    assert column(result) == list(LEVELS)  # its name is the one missing between its neighbours


def test_without_networks_vertebrae_stay_where_the_curve_passes():
    known = study(vertebrae(bulged(spine())))
    result = merged(known, [], Straightening(spine()), detected=False)
    assert {"v1", "v2", "v8", "v9", "v10"} <= set(result.kept) and not {"v4", "v5"} & set(result.kept)
    assert result.fresh == [] and result.kept["v9"] == known["v9"]


# --- names


TWO_OFF = ("T7", "T8", "T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4")


def test_a_pinned_name_moves_to_the_vertebra_in_its_place_and_the_others_follow():
    """The reader named T8 where the curve was 14 mm beside the body; the analysis is two levels off."""
    known = study(vertebrae(bulged(spine()), TWO_OFF), v4={"level": "T8", "pinned": True})
    result = rescued(known, TWO_OFF)
    assert not result.kept and column(result) == list(LEVELS)
    assert [s["level"] for s in result.fresh if s["pinned"]] == ["T8"]


def test_of_two_vertebrae_in_one_place_the_pinned_name_is_passed_on():
    known = study(vertebrae(bulged(spine()), TWO_OFF), v4={"level": "T8", "pinned": True})
    twice = {**known, "v11": {**known["v4"], "level": "T10", "pinned": False}}
    assert column(rescued(twice, TWO_OFF)) == list(LEVELS)


def test_all_pinned_names_stay_and_names_between_follow_them():
    known = study(
        vertebrae(bulged(spine()), TWO_OFF), v1={"level": "T5", "pinned": True}, v10={"level": "L2", "pinned": True}
    )
    assert column(rescued(known, TWO_OFF, 0.66)) == list(LEVELS)


def test_names_step_over_a_vertebra_that_was_not_found():
    known = study(vertebrae(bulged(spine())), v9={"pinned": True})
    found = [v for i, v in enumerate(vertebrae(spine(), TWO_OFF)) if i != 5]
    result = merged(known, found, Straightening(spine()), detected=True)
    assert column(result) == [name for i, name in enumerate(LEVELS) if i != 5]


def test_detected_names_that_agree_with_the_pins_are_left_alone():
    """They may know of a T13, which the regular column does not have."""
    variant = ("T6", "T7", "T8", "T9", "T10", "T11", "T12", "T13", "L1", "L2")
    known = study(vertebrae(bulged(spine()), variant), v9={"pinned": True})
    assert column(rescued(known, variant)) == list(variant)


def test_without_pins_names_follow_sure_names_of_vertebrae_that_stay():
    result = rescued(study(vertebrae(bulged(spine())), v9=CONFIRMED), TWO_OFF, 0.66)
    assert column(result) == list(LEVELS)
    assert all(s["level_probabilities"] == {s["level"]: 0.95} for s in result.fresh)


def test_an_unsure_name_of_a_vertebra_that_stays_follows_the_new_analysis():
    known = study(vertebrae(bulged(spine()), TWO_OFF, 0.66), v9=CONFIRMED)
    result = rescued(known)
    assert column(result) == list(LEVELS)
    assert result.kept["v9"]["level_probabilities"] == {"L1": 0.95} and result.kept["v9"]["review"] == "confirmed"


def test_sure_names_from_before_hold_if_the_new_analysis_is_unsure_but_not_against_a_sure_one():
    known = study(vertebrae(bulged(spine())))
    assert column(rescued(known, TWO_OFF, 0.66)) == list(LEVELS)
    assert column(rescued(known, (None,) * len(LEVELS))) == list(LEVELS)
    assert column(rescued(known, TWO_OFF, 0.95)) == list(TWO_OFF)


def test_a_name_between_neighbours_is_the_missing_one():
    assert name_between(["T9", None, "T11"], [1, 1], 1) == "T10"
    assert name_between(["T9", None, "T10"], [1, 1], 1) is None
    assert name_between([None, None], [1], 0) is None
