"""Expected heights: what a vertebra would be without its fracture, from its neighbours; and the fit on phantoms."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.report.terminal import doubt_lines, vertebra_table
from VertebralFractureQuantLib.spine.expected import (
    CRUSH,
    FITS,
    expectations,
    expectations_of,
    losses_text,
    sentence,
)
from VertebralFractureQuantLib.spine.expected_model import NAME, _folder, coefficients, read_coefficients
from VertebralFractureQuantLib.spine.genant import GRADES, heights, measure_column
from VertebralFractureQuantLib.spine.levels import LEVELS
from VertebralFractureQuantLib.spine.record import SpineAnalysis, Vertebra, remeasured
from VertebralFractureQuantLib.spine.record_json import from_json, to_json
from VertebralFractureQuantLib.training import expected as fitting

T4_TO_L4 = LEVELS[LEVELS.index("T4") : LEVELS.index("L5")]
PLACES = [LEVELS.index(level) for level in T4_TO_L4]


def usual(levels=T4_TO_L4, size=1.0):
    """The mean lengths `(n, 4)` of these levels: the healthy column that the coefficients describe."""
    return size * np.exp(coefficients().level_means[[LEVELS.index(level) for level in levels]])


def bodies(lengths):
    """Key points `(n, 3, 2, 3)` of bodies with these heights and depths, 5 mm apart."""
    low, found = 0.0, []
    for a, m, p, depth in lengths:
        low -= max(a, m, p) + 5
        places = zip((depth / 2, 0.0, -depth / 2), (a, m, p), strict=True)
        found.append([[[0, y, low + h / 2], [0, y, low - h / 2]] for y, h in places])
    return np.array(found)


def broken(level, left, lengths=None, levels=T4_TO_L4):
    """The column in which one level keeps these shares of its three heights."""
    found = np.array(usual(levels) if lengths is None else lengths)
    found[levels.index(level), :3] *= left
    return found


def test_in_a_column_of_usual_shapes_every_height_is_expected_as_it_is():
    lengths = usual(size=0.9)
    for e, measured in zip(expectations_of(lengths, T4_TO_L4), lengths, strict=True):
        np.testing.assert_allclose(e.heights_mm, measured[:3], rtol=0.04)
        assert max(map(abs, e.loss)) < 0.04
        assert e.grade == "normal"


@pytest.mark.parametrize("left", [(0.6, 0.8, 1.0), (0.9, 0.55, 1.0), (0.7, 0.7, 0.7)])
def test_a_fracture_loses_what_was_taken_from_its_heights(left):
    e = expectations_of(broken("T9", left), T4_TO_L4)[T4_TO_L4.index("T9")]
    np.testing.assert_allclose(e.loss, 1 - np.array(left), atol=0.02)
    assert e.crushed is (max(left) < 1 - CRUSH)
    assert GRADES.index(e.grade) >= 2


def test_a_loss_is_not_clamped_where_a_height_is_larger_than_expected():
    assert expectations_of(broken("T9", (1.0, 1.15, 1.0)), T4_TO_L4)[5].loss[1] == pytest.approx(-0.15, abs=0.03)


def test_heights_lost_by_neighbours_are_not_lost_to_what_is_expected():
    lengths = broken("T8", (0.55, 0.7, 1.0), broken("T10", (0.6, 0.75, 0.97)))
    beside = expectations_of(lengths, T4_TO_L4)[T4_TO_L4.index("T9")]
    np.testing.assert_allclose(beside.loss, 0, atol=0.03)
    assert beside.neighbours == 4


def test_a_crushed_neighbour_whose_g_is_normal_is_not_believed():
    lengths = broken("T9", (0.65, 0.65, 0.65))
    found = expectations_of(lengths, T4_TO_L4)
    assert found[5].crushed and found[5].neighbours == 6
    assert max(abs(loss) for i in (4, 6) for loss in found[i].loss) < 0.03
    assert found[6].neighbours == 5


def test_where_all_are_fractured_the_expectation_says_that_no_neighbour_is_sound():
    lengths = usual() * (0.7, 0.85, 1.0, 1.0)
    found = expectations_of(lengths, T4_TO_L4)
    assert {e.neighbours for e in found} == {0}
    assert all(np.isfinite(e.heights_mm).all() for e in found)


def test_a_single_vertebra_has_no_expectation_and_two_have_one_with_a_larger_deviation():
    points = bodies(usual())
    assert expectations(points[:1], ["T4"]) == [None]
    assert expectations([], []) == []
    pair, whole = expectations(points[:2], T4_TO_L4[:2]), expectations(points, T4_TO_L4)
    relative = [e.sd_mm[0] / e.heights_mm[0] for e in (pair[0], whole[0], whole[5])]
    assert relative == sorted(relative, reverse=True) and relative[0] > 1.1 * relative[2]
    assert pair[0].neighbours == 1


def test_neighbours_count_up_to_three_levels_away_and_gaps_count_as_levels():
    levels = ["T4", "T5", "T9"]
    lengths = usual(levels)
    assert expectations_of(lengths, levels)[2] is None
    assert expectations_of(usual(["T4", "T5", "T8"]), ["T4", "T5", "T8"])[2].neighbours == 1


def test_c2_is_neither_expected_nor_used():
    levels = list(LEVELS[:5])
    alone = expectations_of(usual(levels), levels)
    assert alone[0] is None
    tall = usual(levels)
    tall[0] *= 3
    assert expectations_of(tall, levels)[1:] == alone[1:]


def test_without_names_heights_are_expected_with_a_larger_deviation():
    named, unnamed = (expectations_of(broken("T9", (0.6, 0.8, 1.0)), names)[5] for names in (T4_TO_L4, [None] * 13))
    np.testing.assert_allclose(unnamed.loss, named.loss, atol=0.06)
    assert unnamed.sd_mm[0] > named.sd_mm[0]


@pytest.mark.parametrize(("added", "after"), [("T13", "T12"), ("L6", "L5")])
def test_an_added_level_stands_in_its_place(added, after):
    at = LEVELS.index(after) + 1
    levels = [*LEVELS[10:at], added, *LEVELS[at:]]
    like = [after if level == added else level for level in levels]
    found = expectations_of(usual(like), levels)
    assert all(max(map(abs, e.loss)) < 0.05 for e in found)


def test_a_name_that_a_reader_has_not_set_is_counted_from_the_others():
    levels = list(T4_TO_L4)
    levels[4] = None
    found = expectations_of(usual(), levels)
    assert [e.heights_mm for e in found] == [e.heights_mm for e in expectations_of(usual(), T4_TO_L4)]


def test_a_fused_pair_is_not_taken_for_a_tall_vertebra_by_its_neighbours():
    lengths = broken("T9", (2.1, 2.1, 2.1))
    found = expectations_of(lengths, T4_TO_L4)
    assert max(found[5].loss) < -1
    assert all(max(map(abs, found[i].loss)) < 0.03 for i in (4, 6))


def test_a_patient_wedged_at_several_levels_is_wedged_like_the_neighbours():
    lengths = usual()
    for level, left in (("T6", 0.9), ("T7", 0.88), ("T8", 0.9), ("T9", 0.93), ("T10", 0.93)):
        lengths[T4_TO_L4.index(level), 0] *= left
    points = bodies(lengths)
    told = {
        level: sentence(e, m)
        for level, e, m in zip(T4_TO_L4, expectations(points, T4_TO_L4), measure_column(points), strict=True)
    }
    assert told["T7"] == "Wedged like its neighbours: physiologic wedging likely."
    assert told["T4"] == told["L2"] == ""


def test_a_wedge_that_its_neighbours_do_not_share_is_not_excused():
    points = bodies(broken("T7", (0.75, 0.85, 1.0)))
    e, m = expectations(points, T4_TO_L4)[3], measure_column(points)[3]
    assert m.grade != "normal" and max(e.loss) > FITS
    assert sentence(e, m) == ""
    assert sentence(None, m) == losses_text(None) == ""
    assert losses_text(e).startswith("A 2")


def test_rejected_vertebrae_have_no_expectation_and_impossible_ones_are_not_used():
    points = bodies(broken("T9", (1.5, 1.5, 1.5)))
    column = [Vertebra(k, m, level=n) for k, m, n in zip(points, measure_column(points), T4_TO_L4, strict=True)]
    column[5] = replace(column[5], review="rejected")
    found = remeasured(column)
    assert found[5].expected is None
    assert found[6].expected.neighbours == 5
    np.testing.assert_allclose(found[6].expected.loss, 0, atol=0.03)


def test_a_record_keeps_what_is_expected_and_an_older_one_has_nothing():
    points = bodies(broken("T9", (0.6, 0.8, 1.0)))
    column = [Vertebra(k, m, level=n) for k, m, n in zip(points, measure_column(points), T4_TO_L4, strict=True)]
    analysis = SpineAnalysis("case", vertebrae=remeasured(column))
    data = json.loads(json.dumps(to_json(analysis)))
    assert [v.expected for v in from_json(data).vertebrae] == [v.expected for v in analysis.vertebrae]
    t9 = data["vertebrae"][5]
    np.testing.assert_allclose(t9["height_loss"], 1 - np.array(t9["heights_mm"]) / t9["expected_heights_mm"])
    assert t9["expected_from"] == {"neighbours": 6, "model": coefficients().stamp}
    for key in ("expected_heights_mm", "expected_heights_sd_mm", "height_loss", "height_loss_sd", "loss_grade"):
        t9.pop(key)
    assert from_json(data).vertebrae[5].expected is None
    data["vertebrae"][4]["height_loss"] = [0.1, 0.2]
    with pytest.raises(VFQError, match="damaged"):
        from_json(data)


def test_the_terminal_shows_the_losses_and_what_the_neighbours_say():
    lengths = broken("T9", (0.7, 0.7, 0.7))
    points = bodies(lengths)
    column = [Vertebra(k, m, level=n) for k, m, n in zip(points, measure_column(points), T4_TO_L4, strict=True)]
    column[5] = replace(column[5], measurement=replace(column[5].measurement, shape=None))
    analysis = SpineAnalysis("case", vertebrae=tuple(remeasured(column)))
    cells = list(vertebra_table(analysis).columns[9].cells)
    assert [round(float(x) / 10) for x in str(cells[5]).split("/")] == [3, 3, 3]
    assert not any("look for a crush" in line.plain for line in doubt_lines(analysis))  # its shape says it
    unsaid = [replace(v, measurement=replace(v.measurement, shape=None)) for v in analysis.vertebrae]
    lines = [line.plain for line in doubt_lines(replace(analysis, vertebrae=tuple(unsaid)))]
    assert any(line.startswith("Against the neighbours: T9: All heights are more than 20% lower") for line in lines)


def test_losses_follow_a_moving_point_in_less_than_half_a_millisecond():
    levels = list(LEVELS[1:])
    lengths = broken("T9", (0.6, 0.8, 1.0), usual(levels), levels)
    points = bodies(lengths)
    expectations(points, levels)
    spent = []
    for i in range(50):
        points[10, 0, 0, 2] += 1e-3 * i
        start = time.perf_counter()
        expectations(points, levels)
        spent.append(time.perf_counter() - start)
    assert min(spent) < 5e-4


def test_coefficients_that_were_changed_are_refused(tmp_path):
    text = (_folder() / f"{NAME}.json").read_text()
    path = tmp_path / "changed.json"
    path.write_text(text.replace("0.025", "0.026", 1))
    with pytest.raises(VFQError, match="SHA-256") as caught:
        read_coefficients(path)
    assert caught.value.code == "bad_weights"
    path.write_text("{}")
    with pytest.raises(VFQError):
        read_coefficients(path)


def test_the_fit_is_reproducible_and_uses_healthy_twins():
    pytest.importorskip("sklearn")
    card = fitting.fit(150, 5)
    assert card == fitting.fit(150, 5)
    means = np.array(card["coefficients"]["level_means"])
    np.testing.assert_allclose(means, coefficients().level_means, atol=0.06)
    assert "no patient" in card["data"]


@pytest.mark.thorough
def test_the_shipped_coefficients_are_those_that_the_fit_gives():
    pytest.importorskip("sklearn")
    given, shipped = fitting.fit()["coefficients"], json.loads((_folder() / f"{NAME}.json").read_text())["coefficients"]
    for key in given:
        np.testing.assert_allclose(given[key], shipped[key], rtol=0.05 if key == "planes" else 0, atol=2e-6)


def test_twins_differ_by_their_fractures_alone():
    healthy, fractured, is_fractured = fitting.draw_twins(20, 3)
    plain = fitting.draw_twins(20, 3, rate=0.0)[0]
    np.testing.assert_array_equal(healthy[~is_fractured], fractured[~is_fractured])
    assert (fractured[is_fractured] < healthy[is_fractured])[:, :3].any(1).all()
    assert plain.shape == healthy.shape


def test_the_losses_of_fractured_phantoms_are_true_on_average():
    healthy, fractured, is_fractured = (x[:, 1:] for x in fitting.draw_twins(60, 77, trend=0.0))
    found = [expectations_of(lengths, LEVELS[1:]) for lengths in fractured]
    errors = np.array([[e.loss for e in column] for column in found]) - (1 - fractured / healthy)[..., :3]
    assert np.abs(errors[is_fractured].mean(0)).max() < 0.02
    assert np.abs(errors[is_fractured]).mean() < 0.04


def test_depth_and_heights_are_those_of_the_key_points():
    lengths = usual()
    np.testing.assert_allclose(heights(bodies(lengths)), lengths[:, :3])
    for e, same in zip(expectations(bodies(lengths), T4_TO_L4), expectations_of(lengths, T4_TO_L4), strict=True):
        np.testing.assert_allclose(e.heights_mm, same.heights_mm)
        np.testing.assert_allclose(e.loss, same.loss, atol=1e-9)
