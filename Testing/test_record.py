"""The record is unchanged by JSON, accepts unknown keys, and contains nothing about the patient."""

import json
from dataclasses import replace

import numpy as np
import pytest
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.spine.genant import measure_column
from VertebralFractureQuantLib.spine.quality import Flag
from VertebralFractureQuantLib.spine.record import (
    ModelStamp,
    SpineAnalysis,
    Vertebra,
    check_belongs,
    not_counted_text,
    remeasured,
    shown_names,
    vertebra_name,
    worst_text,
)
from VertebralFractureQuantLib.spine.record_json import from_json, read_analysis, to_json

DOCUMENTED = {"schema", "case", "status", "message", "space", "source", "models", "curve", "limits_mm", "vertebrae"}
DOCUMENTED |= {"patient", "timing_s", "quality", "reading"}
DOCUMENTED_OF_VERTEBRA = {"level", "score", "keypoints", "heights_mm", "genant_ratio", "grade", "shape", "borderline"}
DOCUMENTED_OF_VERTEBRA |= {"origin", "review"}


def column(anterior_heights=(20, 20, 15, 20)):
    """Rectangular bodies, 20 mm high, 30 mm deep, 25 mm apart, cranial first, with the given anterior heights."""
    bodies = []
    for i, height in enumerate(anterior_heights):
        low = -25.0 * i
        bodies.append([[[0, p, low + h], [0, p, low]] for p, h in ((15, height), (0, 20), (-15, 20))])
    return np.array(bodies, float)


@pytest.fixture
def analysis():
    points = column()
    vertebrae = [Vertebra(k, m, 0.9) for k, m in zip(points, measure_column(points), strict=True)]
    vertebrae[1] = replace(vertebrae[1], level="T7", origin="reader", review="confirmed")
    return SpineAnalysis(
        case="case 1",
        shape=(133, 512, 512),
        spacing_mm=(2.5, 0.7, 0.7),
        models=(ModelStamp("localizer", "spine", "ab" * 32), ModelStamp("detector", "vertebra", "cd" * 32)),
        curve=np.column_stack([np.zeros(90), np.zeros(90), 10.0 - np.arange(90)]),
        limits_mm=(20.0, 70.0),
        vertebrae=tuple(vertebrae),
        timing_s={"total": 1.5},
    )


def test_a_record_is_unchanged_by_json_text_and_back(analysis):
    once = to_json(analysis)
    again = from_json(json.loads(json.dumps(once, allow_nan=False)))
    assert to_json(again) == once
    assert again.shape == analysis.shape
    assert again.models == analysis.models
    assert (again.vertebrae[1].level, again.vertebrae[1].origin, again.vertebrae[1].review) == (
        "T7",
        "reader",
        "confirmed",
    )
    assert [v.measurement.grade for v in again.vertebrae] == ["normal", "normal", "moderate", "normal"]
    np.testing.assert_array_equal(again.vertebrae[2].keypoints, analysis.vertebrae[2].keypoints)
    np.testing.assert_array_equal(again.curve, analysis.curve)


def test_a_record_of_the_first_version_is_still_read(analysis):
    data = to_json(replace(analysis, ijk_to_ras=np.eye(4)))
    for key in ("machine_keypoints", "pinned", "reviewer", "reviewed_at", "crush_ratio", "level_probabilities"):
        for vertebra in data["vertebrae"]:
            del vertebra[key]
    for each in (data, *data["vertebrae"]):
        del each["quality"]
    for vertebra in data["vertebrae"]:
        del vertebra["physiologic"]
    del data["source"]["ijk_to_ras"], data["models"][0]["backend"]
    older = from_json(data)
    first = older.vertebrae[0]
    assert (older.ijk_to_ras, first.machine_keypoints, first.reviewer, first.pinned) == (None, None, None, False)
    assert (older.quality, first.quality, first.physiologic) == ((), (), None)


def test_reasons_to_doubt_and_physiologic_shapes_are_unchanged_by_json(analysis):
    metal, cut = Flag("metal", "There is metal."), Flag("cut_by_border", "Check it.", ("T7", "V3"))
    vertebrae = [replace(v, physiologic="Lower in front.", quality=(metal,)) for v in analysis.vertebrae]
    told = replace(analysis, vertebrae=tuple(vertebrae), quality=(cut,))
    again = from_json(json.loads(json.dumps(to_json(told))))
    assert again.quality == (cut,)
    assert again.vertebrae[0].quality == (metal,)
    assert again.vertebrae[0].physiologic == "Lower in front."


@pytest.mark.parametrize("damage", [{"quality": [{"code": "metal"}]}, {"quality": 5}, {"physiologic": {"why": "x"}}])
def test_a_damaged_reason_is_refused(analysis, damage):
    data = to_json(analysis)
    data["vertebrae"][0] |= damage
    with pytest.raises(VFQError) as caught:
        from_json(data)
    assert caught.value.code == "not_an_analysis"


def test_a_physiologic_shape_counts_as_normal_for_the_patient(analysis):
    vertebrae = list(analysis.vertebrae)
    vertebrae[2] = replace(vertebrae[2], physiologic="Lower in front, as usual for T7.")
    told = replace(analysis, vertebrae=tuple(vertebrae))
    assert (told.patient_grade, told.spinal_deformity_index, told.physiologic) == ("normal", 0, ("V3",))
    assert told.patient_ratio == 1
    assert to_json(told)["patient"]["physiologic"] == ["V3"]
    assert to_json(told)["vertebrae"][2]["grade"] == "moderate"
    alone = replace(told, vertebrae=(vertebrae[2],))
    assert (alone.patient_grade, alone.spinal_deformity_index, alone.patient_ratio) == ("normal", 0, None)
    assert worst_text(alone) is None


def test_an_impossible_vertebra_counts_only_if_a_reader_confirmed_it(analysis):
    vertebrae = list(analysis.vertebrae)
    vertebrae[2] = replace(vertebrae[2], quality=(Flag("impossible_points", "It overlaps."),))
    told = replace(analysis, vertebrae=tuple(vertebrae))
    assert (told.patient_grade, told.spinal_deformity_index, told.patient_ratio) == ("normal", 0, 1)
    assert to_json(told)["patient"]["not_counted"] == ["V3"]
    assert "V3" not in to_json(told)["patient"]["assessed"] and len(told.assessed) == len(vertebrae)
    assert not_counted_text(told) == "V3 not counted: impossible points"
    for review, grade, left_out in (("confirmed", "moderate", ()), ("rejected", "normal", ())):
        vertebrae[2] = replace(vertebrae[2], review=review)
        judged = replace(told, vertebrae=tuple(vertebrae))
        assert (judged.patient_grade, judged.not_counted) == (grade, left_out)


def test_no_height_is_expected_from_an_impossible_vertebra(analysis):
    tall = np.array(analysis.vertebrae[0].keypoints)
    tall[:, 0, 2] += 60.0
    vertebrae = [replace(analysis.vertebrae[0], keypoints=tall), *analysis.vertebrae[1:]]
    flag = (Flag("impossible_points", "Too tall."),)
    again = remeasured([replace(vertebrae[0], quality=flag), *vertebrae[1:]])
    without = measure_column([v.keypoints for v in vertebrae[1:]])
    assert [v.measurement for v in again[1:]] == without
    assert [v.measurement for v in remeasured(vertebrae)[1:]] != without
    assert again[0].measurement.heights_mm[0] > 60


def test_the_position_of_the_ct_is_kept_to_the_last_digit(analysis):
    matrix = np.diag([1 / 3, 2 / 3, 0.7, 1.0])
    again = from_json(json.loads(json.dumps(to_json(replace(analysis, ijk_to_ras=matrix)))))
    np.testing.assert_array_equal(again.ijk_to_ras, matrix)


def test_a_coded_failure_is_kept_without_vertebrae():
    failed = SpineAnalysis("case 2", status="no_spine_found", message="Give a CT of the trunk.")
    again = from_json(json.loads(json.dumps(to_json(failed))))
    assert (again.status, again.message, again.vertebrae) == ("no_spine_found", "Give a CT of the trunk.", ())
    assert again.curve.shape == (0, 3)
    assert to_json(failed)["patient"] == {
        "genant_ratio": None,
        "grade": None,
        "sdi": None,
        "assessed": [],
        "physiologic": [],
        "not_counted": [],
    }


def test_numbers_of_networks_become_plain_json(analysis):
    first = replace(analysis.vertebrae[0], score=np.float32(0.5))
    data = to_json(replace(analysis, vertebrae=(first,), shape=tuple(np.array([4, 5, 6])), limits_mm=np.ones(2)))
    assert json.loads(json.dumps(data))["vertebrae"][0]["score"] == 0.5


def test_keys_of_a_newer_program_are_ignored(analysis):
    data = to_json(analysis)
    newer = {**data, "colour": "blue", "source": {**data["source"], "kernel": "B70"}}
    newer["vertebrae"] = [{**v, "density": 120} for v in data["vertebrae"]]
    newer["models"] = [{**m, "licence": "x"} for m in data["models"]]
    assert to_json(from_json(newer)) == data


@pytest.mark.parametrize(
    ("schema", "code"),
    [("vfq-analysis/2", "newer_schema"), ("other/1", "not_an_analysis"), (None, "not_an_analysis")],
)
def test_another_schema_is_refused(schema, code):
    with pytest.raises(VFQError) as caught:
        from_json({"schema": schema, "case": "x", "status": "ok"})
    assert caught.value.code == code


@pytest.mark.parametrize(
    "damage",
    [
        {"case": ...},
        {"vertebrae": [{}]},
        {"vertebrae": 7},
        {"curve": [[1, 2]]},
        {"source": {"ijk_to_ras": [[1, 2], [3, 4]]}},
        {"keypoints": [[1, 2, 3]]},
        {"keypoints": [[[float("nan")] * 3] * 2] * 3},
        {"grade": "terrible"},
        {"review": "perhaps"},
        {"shape": "square"},
        {"case": 7},
        {"status": None},
        {"space": "LPS_mm"},
        {"source": [1]},
        {"source": {"shape": [4, 5]}},
        {"source": {"spacing_mm": ["1", "1", "1"]}},
        {"source": {"ijk_to_ras": [[float("inf")] * 4] * 4}},
        {"models": [7]},
        {"curve": [["1", "2", "3"]]},
        {"curve": [[10**400, 0, 0]]},
        {"limits_mm": [1]},
        {"vertebrae": {}},
        {"timing_s": {"total": "long"}},
        {"keypoints": [[["1", "2", "3"]] * 2] * 3},
        {"machine_keypoints": [1]},
        {"heights_mm": [20, 20]},
        {"heights_mm": [20, 20, float("nan")]},
        {"genant_ratio": "0.8"},
        {"genant_ratio": 10**400},
        {"score": True},
        {"genant_spread": []},
        {"level": 7},
        {"level_probabilities": {"T7": None}},
        {"pinned": "no"},
        {"borderline": 0},
        {"reviewer": ["a"]},
    ],
)
def test_damage_anywhere_is_reported_without_a_traceback(analysis, damage):
    data = to_json(analysis)
    for key, value in damage.items():
        target = data if key in data else data["vertebrae"][0]
        target[key] = value
        if value is ...:
            del target[key]
    with pytest.raises(VFQError) as caught:
        from_json(data)
    assert caught.value.code == "not_an_analysis"


def test_a_file_is_read_or_refused_by_its_name(analysis, tmp_path):
    path = tmp_path / "analysis.json"
    with pytest.raises(VFQError, match=r"analysis\.json") as caught:
        read_analysis(path)
    assert caught.value.code == "not_found"
    for damaged in ("{", "", "[" * 100_000, "7", "NaN", "\N{SNOWMAN}"):
        path.write_text(damaged, encoding="utf-16" if damaged == "\N{SNOWMAN}" else "utf-8")
        with pytest.raises(VFQError) as caught:
            read_analysis(path)
        assert caught.value.code == "not_an_analysis"
    path.write_text('{"schema": "vfq-analysis/2"}')
    with pytest.raises(VFQError, match="newer version") as caught:
        read_analysis(path)
    assert caught.value.code == "newer_schema"
    path.write_text(json.dumps(to_json(analysis)))
    assert to_json(read_analysis(path)) == to_json(analysis)


def test_a_stored_ratio_is_the_ratio_of_the_stored_points(analysis):
    turned = [
        v.keypoints @ np.linalg.qr(np.arange(9).reshape(3, 3) ** 2 + np.eye(3))[0] / 3 for v in analysis.vertebrae
    ]
    vertebrae = tuple(Vertebra(k, m) for k, m in zip(turned, measure_column(turned), strict=True))
    again = from_json(json.loads(json.dumps(to_json(replace(analysis, vertebrae=vertebrae)))))
    for v, m in zip(again.vertebrae, measure_column([v.keypoints for v in again.vertebrae]), strict=True):
        assert v.measurement == m


def test_the_review_of_a_vertebra_is_kept(analysis):
    first = replace(
        analysis.vertebrae[0],
        machine_keypoints=analysis.vertebrae[1].keypoints,
        pinned=True,
        reviewer="a",
        reviewed_at="2026-01-02T03:04:05+00:00",
    )
    again = from_json(to_json(replace(analysis, vertebrae=(first,)))).vertebrae[0]
    np.testing.assert_array_equal(again.machine_keypoints, first.machine_keypoints)
    assert (again.pinned, again.reviewer, again.reviewed_at) == (True, "a", "2026-01-02T03:04:05+00:00")


def test_an_analysis_belongs_to_a_ct_of_the_same_position(analysis):
    matrix = np.diag([0.7, 0.8, 2.0, 1.0])
    matrix[:3, 3] = (10, 20, 30)
    known = replace(analysis, shape=(40, 50, 60), spacing_mm=(2.0, 0.8, 0.7), ijk_to_ras=matrix)
    check_belongs(known, (40, 50, 60), matrix + 1e-6)
    shifted = matrix.copy()
    shifted[2, 3] += 0.2
    turned = matrix @ np.diag([1, -1, 1, 1])
    for shape, other in (((40, 50, 61), matrix), ((40, 50, 60), shifted), ((40, 50, 60), turned)):
        with pytest.raises(VFQError) as caught:
            check_belongs(known, shape, other)
        assert caught.value.code == "other_ct"
    older = replace(known, ijk_to_ras=None)
    check_belongs(older, (40, 50, 60), shifted)
    with pytest.raises(VFQError):
        check_belongs(older, (40, 50, 60), matrix * 1.01)
    with pytest.raises(VFQError):
        check_belongs(replace(known, shape=None), (40, 50, 60), matrix)


ADDED_TO_VERTEBRA = {"crush_ratio", "genant_spread", "level_probabilities", "machine_keypoints", "pinned"}
ADDED_TO_VERTEBRA |= {"reviewer", "reviewed_at", "physiologic", "quality"}
ADDED_TO_VERTEBRA |= {"expected_heights_mm", "expected_heights_sd_mm", "height_loss", "height_loss_sd"}
ADDED_TO_VERTEBRA |= {"loss_grade", "expected_from"}


def test_the_documented_keys_are_there_and_no_place_for_patient_data(analysis):
    data = to_json(analysis)
    assert set(data) == DOCUMENTED
    assert set(data["source"]) == {"shape", "spacing_mm", "ijk_to_ras", "trust_header", "series"}
    assert all(set(m) == {"role", "name", "sha256", "backend"} for m in data["models"])
    assert set(data["patient"]) == {"genant_ratio", "grade", "sdi", "assessed", "physiologic", "not_counted"}
    assert all(set(v) == DOCUMENTED_OF_VERTEBRA | ADDED_TO_VERTEBRA for v in data["vertebrae"])


def test_the_patient_has_the_grade_of_the_worst_assessed_vertebra(analysis):
    assert analysis.patient_ratio == pytest.approx(0.75)
    assert (analysis.patient_grade, analysis.spinal_deformity_index) == ("moderate", 2)


def test_a_rejected_vertebra_does_not_count(analysis):
    vertebrae = list(analysis.vertebrae)
    vertebrae[2] = replace(vertebrae[2], review="rejected")
    rejected = replace(analysis, vertebrae=tuple(vertebrae))
    assert (rejected.patient_grade, rejected.patient_ratio, rejected.spinal_deformity_index) == ("normal", 1, 0)
    assert to_json(rejected)["patient"]["assessed"] == ["V1", "T7", "V4"]


def test_vertebrae_without_a_level_are_counted_from_the_top(analysis):
    assert [vertebra_name(v, i) for i, v in enumerate(analysis.vertebrae)] == ["V1", "T7", "V3", "V4"]


def test_a_doubtful_name_is_shown_with_a_question_mark(analysis):
    named = [replace(v, level=name) for v, name in zip(analysis.vertebrae, ("T6", "T7", None, "T9"), strict=True)]
    named[1] = replace(named[1], level_probabilities={"T7": 0.7, "T8": 0.2})
    assert shown_names(named) == ["T6", "T7?", "V3", "T9"]
    named[0] = replace(named[0], pinned=True)
    assert shown_names(named) == ["T6", "T7", "V3", "T9"]


def test_the_deformity_index_adds_the_grades_of_all_vertebrae():
    points = column((20, 15.8, 20, 14, 11, 20))  # G 1, .79, 1, .7, .55, 1: grades 0 + 1 + 0 + 2 + 3 + 0
    vertebrae = tuple(Vertebra(k, m) for k, m in zip(points, measure_column(points), strict=True))
    spine = SpineAnalysis("case 3", vertebrae=vertebrae)
    assert (spine.patient_grade, spine.spinal_deformity_index) == ("severe", 6)


def test_records_can_be_compared_and_kept_in_sets(analysis):
    assert analysis == analysis
    assert len({analysis, replace(analysis)}) == 2
