"""Files that other programs rely on: they fit the published JSON Schemas, and every field is explained.

`validated` also fails for a key that no schema describes: a new field cannot be written without its description.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from VertebralFractureQuantLib.errors import CODES
from VertebralFractureQuantLib.evaluation.experts import evaluate_annotations
from VertebralFractureQuantLib.evaluation.predictions import evaluate_predictions
from VertebralFractureQuantLib.evaluation.problems import PROBLEMS
from VertebralFractureQuantLib.followup.comparison import compare_aligned
from VertebralFractureQuantLib.followup.matching import Alignment
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.report import comparison_files, evaluation_rows, repeatability, tables
from VertebralFractureQuantLib.report.document import make_report, report_json
from VertebralFractureQuantLib.report.markups import markups_document
from VertebralFractureQuantLib.report.outputs import write_outputs
from VertebralFractureQuantLib.report.prior import prior_of
from VertebralFractureQuantLib.report.reviews import write_review
from VertebralFractureQuantLib.report.schemas import schema
from VertebralFractureQuantLib.report.wording import Wording, languages
from VertebralFractureQuantLib.scene.journal import Journal
from VertebralFractureQuantLib.scene.journal_file import APPLICATION_ID, VERSION
from VertebralFractureQuantLib.spine.curve import fit_curve
from VertebralFractureQuantLib.spine.genant import GRADES, SHAPES, measure, measure_column
from VertebralFractureQuantLib.spine.levels import NAMES
from VertebralFractureQuantLib.spine.quality import Flag
from VertebralFractureQuantLib.spine.reading import ROLES, STARTS, Reading
from VertebralFractureQuantLib.spine.record import ORIGINS, REVIEWS, ModelStamp, SpineAnalysis, Vertebra
from VertebralFractureQuantLib.spine.record_json import from_json, to_json, vertebra_to_json

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "VertebralFractureQuant" / "Resources" / "Schemas"
PAGE = ROOT / "Documentation" / "formats.md"
FORMATS = tuple(
    f"vfq-{name}/1"
    for name in (
        "agreement",
        "analysis",
        "comparison",
        "consensus",
        "dataset",
        "evaluation",
        "healthy",
        "matches",
        "methods",
        "reading",
        "reference",
        "repeatability",
        "report",
        "review",
        "truth",
    )
)
LATER = (
    "level_probabilities",
    "genant_spread",
    "crush_ratio",
    "machine_keypoints",
    "pinned",
    "reviewer",
    "reviewed_at",
    "physiologic",
    "quality",
)
NOW = "2026-01-31T12:00:00+00:00"

# --- schemas


def validator(name: str, part: str = "") -> Draft202012Validator:
    """The validator of a format, or of one of its `$defs`."""
    whole = schema(name)
    body = {"$schema": whole["$schema"], "$defs": whole["$defs"], "$ref": f"#/$defs/{part}"} if part else whole
    return Draft202012Validator(body, format_checker=FormatChecker())


def fits(data: Any, name: str, part: str = "") -> bool:
    return validator(name, part).is_valid(data)


def validated(data: Any, name: str, part: str = "") -> Any:
    """Return `data` after a check that it fits its schema and has no key that the schema does not describe."""
    data = json.loads(json.dumps(data, allow_nan=False))
    problems = [f"{e.json_path}: {e.message:.200}" for e in validator(name, part).iter_errors(data)]
    strict = Draft202012Validator(closed(validator(name, part).schema))
    problems += [f"undescribed: {e.json_path}: {e.message:.200}" for e in strict.iter_errors(data)]
    assert not problems, problems[:5]
    return data


def closed(node: Any, conditional: bool = False) -> Any:
    """Return a schema that allows no further keys. Conditions, and the parts that they add, still allow them."""
    if isinstance(node, list):
        return [closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    added = {node[key]["$ref"].rpartition("/")[2] for key in ("then", "else") if "$ref" in node.get(key, {})}
    kept = {key: value if key in ("allOf", "if", "then", "else") else closed(value) for key, value in node.items()}
    if added:
        kept["$defs"] = {name: closed(part, name in added) for name, part in node["$defs"].items()}
    if isinstance(node.get("properties"), dict) and node.get("type") == "object" and not conditional:
        kept.setdefault("unevaluatedProperties", False)
    return kept


def described(
    node: Any, whole: dict[str, Any], prefix: str = "", seen: tuple[str, ...] = ()
) -> Iterator[tuple[str, Any]]:
    """Yield path (`vertebrae[].level`) and schema of every property; `*` stands for names that are data."""
    name = str(node.get("$ref", "")).removeprefix("#/$defs/")
    if name:
        if name not in (*seen, "vertebra_state", "curve_state"):
            yield from described(whole["$defs"][name], whole, prefix, (*seen, name))
        return
    for key, each in node.get("properties", {}).items():
        path = f"{prefix}.{key}".removeprefix(".")
        yield path, each
        yield from described(each, whole, path, seen)
    if isinstance(node.get("items"), dict):
        yield from described(node["items"], whole, f"{prefix}[]", seen)
    if isinstance(node.get("additionalProperties"), dict):
        yield from described(node["additionalProperties"], whole, f"{prefix}.*", seen)
    for each in node.get("anyOf", ()):
        yield from described(each, whole, prefix, seen)


@pytest.mark.parametrize("name", FORMATS)
def test_each_schema_is_one_of_its_draft_and_says_which_format_it_is(name):
    found = schema(name)
    Draft202012Validator.check_schema(found)
    assert found["title"] == name
    assert found["$id"].endswith(f"/main/{(FOLDER / name.replace('/', '-')).relative_to(ROOT).as_posix()}.schema.json")


def test_every_schema_on_disk_is_tested_and_an_unknown_name_is_refused():
    assert {f"{name.replace('/', '-')}.schema.json" for name in FORMATS} == {p.name for p in FOLDER.iterdir()}
    with pytest.raises(ValueError, match="vfq-analysis-1"):
        schema("vfq-analysis/2")


def test_the_schemas_are_in_the_wheel_where_they_are_looked_for():
    tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    included = build["targets"]["wheel"]["force-include"]
    assert included[FOLDER.relative_to(ROOT).as_posix()] == "VertebralFractureQuantLib/schemas"


def test_what_several_schemas_define_is_the_same_in_all():
    known: dict[str, Any] = {}
    for name in FORMATS:
        for part, found in schema(name)["$defs"].items():
            assert known.setdefault(part, found) == found, (name, part)


@pytest.mark.parametrize("name", FORMATS)
def test_every_property_has_a_description(name):
    whole = schema(name)
    parts = [(whole, ""), *((part, key) for key, part in whole["$defs"].items())]
    for part, key in parts:
        assert part.get("description"), key
        for path, each in described(part, whole, key):
            target = whole["$defs"][each["$ref"].removeprefix("#/$defs/")] if "$ref" in each else each
            assert each.get("description") or target.get("description"), path


def test_closed_lists_are_those_of_the_library():
    from VertebralFractureQuantLib.phantom.anatomy import COLUMN

    vertebra = schema("vfq-analysis/1")["$defs"]["vertebra"]["properties"]
    assert tuple(schema("vfq-analysis/1")["$defs"]["grade"]["enum"]) == GRADES
    assert vertebra["shape"]["enum"] == [*SHAPES, None]
    assert vertebra["level"]["enum"] == [*NAMES, None]
    assert vertebra["level_probabilities"]["propertyNames"]["enum"] == ["C1", *NAMES, "S1"]
    assert (tuple(vertebra["origin"]["enum"]), tuple(vertebra["review"]["enum"])) == (ORIGINS, REVIEWS)
    reading = schema("vfq-analysis/1")["properties"]["reading"]["properties"]
    roles = reading["signatures"]["items"]["properties"]["role"]["enum"]
    assert (tuple(reading["begun_from"]["enum"]), tuple(roles)) == (STARTS, ROLES)
    truth = schema("vfq-truth/1")["$defs"]
    assert truth["level"]["enum"] == list(NAMES)
    assert tuple(truth["partial"]["properties"]["level"]["enum"]) == COLUMN
    status = schema("vfq-analysis/1")["properties"]["status"]["pattern"]
    assert all(re.search(status, code) for code in ("ok", *CODES))
    code = schema("vfq-evaluation/1")["$defs"]["problem"]["properties"]["code"]["pattern"]
    assert all(re.search(code, each) for each in PROBLEMS)


# --- analysis.json and machine.json


def box(s: float, height: float = 22.0, front: float | None = None) -> np.ndarray:
    """Key points `(3, 2, 3)` RAS mm of a body 30 mm deep whose middle is at S = s; `front` is its anterior height."""
    tall = (height if front is None else front, height, height)
    return np.array(
        [[[0.5, a, s + h / 2], [-0.5, a, s - h / 2]] for a, h in zip((15.0, 0.0, -15.0), tall, strict=True)]
    )


STAMPS = tuple(ModelStamp(role, f"{role}-1", "ab" * 32, "openvino") for role in ("localizer", "refiner", "detector"))
CT = CTVolume(np.zeros((90, 80, 85), np.int16), np.diag([2.0, 2.0, 2.8, 1.0]) + 0.0, "scan")
CT.ijk_to_ras[:3, 3] = (-85.0, -80.0, -240.0)


def analysis_of(keypoints: list[np.ndarray], levels: tuple[str | None, ...] = (None,) * 9) -> SpineAnalysis:
    measured = measure_column(keypoints, [0.05] * len(keypoints))
    return SpineAnalysis(
        "scan",
        shape=CT.voxels.shape,
        spacing_mm=CT.spacing_mm,
        ijk_to_ras=CT.ijk_to_ras,
        models=STAMPS,
        curve=fit_curve(np.stack([np.zeros(40), np.zeros(40), np.linspace(0, -220, 40)], 1)).points,
        limits_mm=(10.0, 200.0),
        vertebrae=tuple(
            Vertebra(k, m, 0.99, level, spread=0.05, level_probabilities={level: 0.95, "C1": 0.05} if level else {})
            for k, m, level in zip(keypoints, measured, levels, strict=False)
        ),
        timing_s={"read": 0.5, "localize": 0.1, "total": 1.0},
    )


def edited() -> SpineAnalysis:
    """A column that a reader reviewed: moved, placed, named, confirmed, rejected and left vertebrae."""
    found = analysis_of([box(-30.0 - 32 * i, front=22 - 3 * i) for i in range(5)], ("T9", "T10", "T11", "T12", "L1"))
    first, second, third, fourth, fifth = found.vertebrae
    signed = {"reviewer": "reader", "reviewed_at": NOW}
    moved = replace(first, origin="reader", machine_keypoints=box(-31.0), spread=None)
    placed = Vertebra(fifth.keypoints, fifth.measurement, origin="reader")
    return replace(
        found,
        quality=(Flag("metal", "There is metal at T10.", ("T10",)),),
        reading=Reading("reader", NOW, "reading", "A").signed("reader", NOW, 64 * "0").signed("B", NOW, 64 * "1"),
        vertebrae=(
            replace(moved, review="confirmed", **signed),
            replace(second, pinned=True, physiologic="Lower in front.", quality=(Flag("metal", "There is metal."),)),
            replace(third, review="rejected", **signed),
            replace(fourth, level=None),
            placed,
        ),
    )


UNREAD = SpineAnalysis("case", "corrupt_file", "The file is truncated.")
FAILED = SpineAnalysis(
    "case", "no_spine_found", "No spine.", CT.voxels.shape, CT.spacing_mm, CT.ijk_to_ras, models=STAMPS
)
KINDS = {
    "measured": analysis_of([box(-30.0 - 32 * i) for i in range(3)], ("T9", "T10", "T11")),
    "without levels": analysis_of([box(-30.0 - 32 * i, front=12) for i in range(3)]),
    "a crush": analysis_of([box(-30.0 - 32 * i, 22 if i != 2 else 11) for i in range(5)]),
    "edited by a reader": edited(),
    "all rejected": replace(edited(), vertebrae=edited().vertebrae[2:3]),
    "curve only": analysis_of([]),
    "failed before it was read": UNREAD,
    "failed in the analysis": FAILED,
    "failed, and opened for review": replace(FAILED, curve=analysis_of([]).curve),
    "failed, and a reader placed a vertebra": replace(edited(), limits_mm=None, models=(), timing_s={}),
    "of a record without a matrix": replace(edited(), ijk_to_ras=None, models=(replace(STAMPS[0], backend=None),)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_analyses_of_every_kind_fit_their_schema(kind):
    data = validated(to_json(KINDS[kind]), "vfq-analysis/1")
    validated(to_json(from_json(data)), "vfq-analysis/1")


FRONTS = st.lists(st.floats(0.0, 60.0), max_size=6)


@settings(deadline=None, max_examples=30)
@given(FRONTS, st.sampled_from([None, *NAMES]), st.sampled_from(REVIEWS), st.floats(0.0, 1.0))
def test_whatever_is_measured_fits_the_schema(fronts, level, review, score):
    found = analysis_of([box(-30.0 - 32 * i, front=front) for i, front in enumerate(fronts)], (level,) * 6)
    signed = {} if review == "open" else {"reviewer": "\N{SNOWMAN}", "reviewed_at": NOW}
    vertebrae = tuple(replace(v, score=score, review=review, **signed) for v in found.vertebrae)
    validated(to_json(replace(found, vertebrae=vertebrae)), "vfq-analysis/1")


def test_the_writer_writes_every_field_that_the_schema_describes():
    """A field that is described and never written would mislead; the steps of timing_s are data."""
    whole = schema("vfq-analysis/1")
    paths = {path for path, _ in described(whole, whole) if not path.startswith("timing_s.")}
    written = {re.sub(r"\.level_probabilities\..*", ".level_probabilities", p) for p in paths_of(to_json(edited()))}
    assert paths == {path for path in written if not path.startswith("timing_s.")}


def paths_of(data: Any, prefix: str = "") -> Iterator[str]:
    """The paths of all keys in JSON data."""
    if isinstance(data, dict):
        for key, value in data.items():
            path = f"{prefix}.{key}".removeprefix(".")
            yield path
            yield from paths_of(value, path)
    elif isinstance(data, list):
        for value in data:
            yield from paths_of(value, f"{prefix}[]")


def test_a_file_of_the_first_version_and_one_of_a_later_one_both_fit():
    data = to_json(edited())
    for vertebra in data["vertebrae"]:
        for key in LATER:
            del vertebra[key]
    del data["source"]["ijk_to_ras"], data["models"][0]["backend"]
    del data["reading"]
    assert fits(data, "vfq-analysis/1")
    data["vertebrae"][0]["density_hu"] = data["colour"] = data["patient"]["note"] = "new"
    assert fits(data, "vfq-analysis/1")


def test_every_file_in_a_cases_folder_fits_its_schema(tmp_path):
    machine, reviewed = KINDS["measured"], edited()
    folder = write_outputs(machine, None, tmp_path, pictures=False)
    validated(json.loads((folder / "analysis.json").read_bytes()), "vfq-analysis/1")
    write_review(reviewed, folder)
    assert validated(json.loads((folder / "machine.json").read_bytes()), "vfq-analysis/1") == to_json(machine)
    assert validated(json.loads((folder / "analysis.json").read_bytes()), "vfq-analysis/1") == to_json(reviewed)
    with (folder / "measurements.csv").open(encoding="utf-8") as file:
        assert csv.DictReader(file).fieldnames == list(tables.COLUMNS)
    failed = write_outputs(UNREAD, None, tmp_path)
    validated(json.loads((failed / "analysis.json").read_bytes()), "vfq-analysis/1")


@pytest.mark.parametrize("kind", [kind for kind, analysis in KINDS.items() if analysis.status == "ok"])
@pytest.mark.parametrize("language", languages())
def test_reports_of_every_kind_fit_their_schema(kind, language):
    found = KINDS[kind].vertebrae
    itself = Alignment(tuple((i, i) for i in range(len(found))), 1.0, 0, 5.0)
    prior = prior_of(compare_aligned(found, found, itself), 30) if found else None
    data = validated(json.loads(report_json(make_report(KINDS[kind], Wording(language), None, prior))), "vfq-report/1")
    whole = schema("vfq-report/1")
    written = {re.sub(r"not_assessable\..*", "not_assessable", path) for path in paths_of(data)}
    if kind == "edited by a reader":
        absent = ("vertebrae[].loss.", "signatures[].")  # no fracture; signatures of another content
        assert {path for path, _ in described(whole, whole) if not path.startswith(absent)} <= written


def put(data: Any, path: str, value: Any) -> Any:
    """A copy of `data` with another value at "a.0.b"; `...` deletes."""
    data = json.loads(json.dumps(data))
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    target = data
    for key in way:
        target = target[key]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return data


WRONG = [
    *[(key, ...) for key in to_json(UNREAD) if key not in (*LATER, "reading")],
    *[(f"patient.{key}", ...) for key in ("genant_ratio", "grade", "sdi", "assessed")],
    *[(f"vertebrae.1.{key}", ...) for key in vertebra_to_json(edited().vertebrae[0]) if key not in LATER],
    ("schema", "vfq-analysis/2"),
    ("schema", 1),
    ("case", ""),
    ("status", "No spine found"),
    ("status", "no_spine_found"),  # with vertebrae, and without a message
    ("message", "all is well"),
    ("space", "LPS_mm"),
    ("source.shape", [90, 80]),
    ("source.shape", [90, 80, 0]),
    ("source.shape", None),
    ("source.spacing_mm", [2.8, 2.0, 0.0]),
    ("source.ijk_to_ras", [[1, 0, 0, 0]] * 3),
    ("models.0.role", "oracle"),
    ("models.0.sha256", "AB" * 32),
    ("models.0.backend", "tensorflow"),
    ("curve", []),
    ("curve.0", [0.0, 1.0]),
    ("limits_mm", [1.0]),
    ("limits_mm", [-1.0, 5.0]),
    ("vertebrae.1.level", "S1"),
    ("vertebrae.1.level", "Th9"),
    ("vertebrae.1.level_probabilities", {"T9": 1.1}),
    ("vertebrae.1.level_probabilities", {"X1": 0.5}),
    ("vertebrae.1.score", 1.01),
    ("vertebrae.1.keypoints", [[[0.0] * 3] * 2] * 2),
    ("vertebrae.1.keypoints.0", [[0.0] * 3] * 3),
    ("vertebrae.1.keypoints.0.0", [0.0] * 2),
    ("vertebrae.1.keypoints.0.0.0", None),
    ("vertebrae.1.keypoints.0.0.0", "1"),
    ("vertebrae.1.heights_mm", [20.0, 20.0]),
    ("vertebrae.1.heights_mm.1", -0.1),
    ("vertebrae.1.genant_ratio", 1.01),
    ("vertebrae.1.genant_ratio", -0.01),
    ("vertebrae.1.genant_ratio", None),
    ("vertebrae.1.genant_spread", -0.1),
    ("vertebrae.1.grade", "terrible"),
    ("vertebrae.1.grade", None),
    ("vertebrae.1.shape", "square"),
    ("vertebrae.1.borderline", 1),
    ("vertebrae.1.crush_ratio", -1.0),
    ("vertebrae.1.origin", "machine"),
    ("vertebrae.1.machine_keypoints", [[[0.0] * 3] * 2] * 3),  # of a model's vertebra
    ("vertebrae.0.machine_keypoints", [[0.0] * 3] * 2),
    ("vertebrae.1.pinned", None),
    ("vertebrae.1.review", "perhaps"),
    ("vertebrae.1.reviewer", "reader"),  # of an open vertebra
    ("vertebrae.1.physiologic", True),
    ("vertebrae.1.physiologic", {}),
    ("vertebrae.1.quality", [{"code": "metal"}]),
    ("vertebrae.1.quality", None),
    ("quality.0.where", "T10"),
    ("quality.0.code", "Metal!"),
    ("patient.physiologic", [7]),
    ("vertebrae.0.reviewed_at", "yesterday"),
    ("vertebrae.0.reviewed_at", "2026-01-31T12:00:00+02:00"),
    ("patient.genant_ratio", 1.5),
    ("patient.grade", "worst"),
    ("patient.sdi", 1.5),
    ("patient.sdi", -1),
    ("patient.assessed", [7]),
    ("timing_s.total", -1.0),
    ("timing_s.tidy", "long"),
]


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_a_wrong_analysis_is_refused(path, value):
    right = to_json(edited())
    assert fits(right, "vfq-analysis/1")
    assert not fits(put(right, path, value), "vfq-analysis/1")


@pytest.mark.parametrize(("path", "value"), [("message", ""), ("vertebrae", [{}]), ("patient.grade", "mild")])
def test_a_failure_holds_its_reason_and_no_result(path, value):
    assert not fits(put(to_json(FAILED), path, value), "vfq-analysis/1")
    measured = {"vertebrae": to_json(edited())["vertebrae"]}
    assert not fits({**to_json(FAILED), **measured}, "vfq-analysis/1")


# --- truth.json


@pytest.fixture(scope="module")
def truth() -> dict[str, Any]:
    """Return the truth of a phantom that is drawn but not painted: painting is slow and does not change the truth."""
    from VertebralFractureQuantLib.phantom import PhantomOptions, make_phantom, volume

    with pytest.MonkeyPatch.context() as unpainted:
        unpainted.setattr(volume, "_scan", lambda painter, axes, *_: np.zeros([len(a) for a in axes[::-1]], np.int16))
        return make_phantom(3, PhantomOptions(fracture_rate=0.5, field_of_view="chest"))[1].to_json()


def test_the_truth_of_a_phantom_fits_its_schema_and_has_every_field(truth):
    data = validated(truth, "vfq-truth/1")
    assert data["vertebrae"] and data["partial"] and {v["fracture"] for v in data["vertebrae"]} > {None}
    whole = schema("vfq-truth/1")
    assert {path for path, _ in described(whole, whole)} == set(paths_of(data))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *[(key, ...) for key in ("schema", "seed", "space", "vertebrae", "partial", "curve", "limits_mm", "cobb_deg")],
        *[(f"vertebrae.0.{key}", ...) for key in ("level", "keypoints", "heights_mm", "genant_ratio", "grade")],
        ("schema", "vfq-truth/2"),
        ("seed", -1),
        ("cobb_deg", 400),
        ("vertebrae.0.fracture", "broken"),
        ("vertebrae.0.level", None),
        ("vertebrae.0.genant_ratio", 1.1),
        ("vertebrae.0.heights_mm", [1, 2]),
        ("partial.0.center", [1, 2]),
        ("partial.0.level", "X"),
        ("limits_mm", None),
    ],
)
def test_a_wrong_truth_is_refused(truth, path, value):
    assert not fits(put(truth, path, value), "vfq-truth/1")


# --- review.sqlite and review-unsaved.json


@pytest.fixture(scope="module")
def journalled(tmp_path_factory) -> Path:
    """The folder of a review in which every kind of action happened, its journal closed."""
    import slicer
    from VertebralFractureQuantLib.scene.case_files import open_journal
    from VertebralFractureQuantLib.scene.editor import Editor
    from VertebralFractureQuantLib.scene.machine import Machine, Rescued
    from VertebralFractureQuantLib.scene.state import first_state
    from VertebralFractureQuantLib.scene.straight import reformat
    from VertebralFractureQuantLib.scene.study import StudyScene
    from VertebralFractureQuantLib.scene.unsaved import save_elsewhere
    from VertebralFractureQuantLib.scene.views import Views
    from VertebralFractureQuantLib.spine.curve import SpineCurve

    class Boxes(Machine):
        """A machine without networks: it detects a box at the click."""

        def propose(self, curve: SpineCurve, straight: np.ndarray) -> Vertebra:
            points = box(float(straight[2]))
            return Vertebra(points, measure(points), 0.8, spread=0.04)

    folder = tmp_path_factory.mktemp("review")
    found = analysis_of([box(-30.0 - 32 * i) for i in range(4)], ("T9", "T10", "T11", "T12"))
    study = StudyScene(slicer.vtkMRMLScene(), Views())
    made = reformat(CT, SpineCurve(found.curve))
    study.open(CT, made, found)
    journal = open_journal(folder, first_state(found), found)
    journal.commit("load", {"v4": None}, "reader")  # as of files whose journal was lost
    editor = Editor(study, journal, Boxes(CT, None), "reader")
    study.vertebrae["v1"].node.SetNthControlPointPositionWorld(1, 0.0, 0.0, -24.0)  # a move
    editor.reset("v1")
    study.vertebrae["v1"].node.SetNthControlPointPositionWorld(1, 0.0, 0.0, -24.0)
    editor.review("v1", "confirmed")
    editor.review("v2", "rejected")
    editor.review("v2", "open")
    editor.add(np.array([0.0, 0.0, -130.0]))
    hexagon = box(-170.0)[(0, 1, 2, 2, 1, 0), (0, 0, 0, 1, 1, 1)]
    editor.place(hexagon)
    editor.name("v3", "T12")
    editor.pin("v3", False)
    editor.delete("v2")
    drawn = fit_curve(found.curve + [1.0, 0.0, 0.0])
    along = replace(found, curve=drawn.points, vertebrae=(found.vertebrae[0], found.vertebrae[3]))
    editor.rescue(Rescued.of(editor.known(), along, reformat(CT, drawn)))
    editor.undo()
    editor.redo()
    with pytest.MonkeyPatch.context() as full:
        full.setattr(Journal, "flush", lambda self: None)
        full.setenv("HOME", str(folder))
        full.setenv("USERPROFILE", str(folder))
        editor.undo()
        editor.review("v1", "rejected")
        save_elsewhere(journal.unsaved_acts())
    (kept,) = folder.glob("vfq-unsaved-*.json")
    kept.rename(folder / "review-unsaved.json")
    journal._pending.clear()
    journal.close()
    study.close()
    return folder


def rows(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the tables of a journal as any other program reads them: the values in `origin`, and the actions."""
    with contextlib.closing(sqlite3.connect(folder / "review.sqlite")) as file:
        file.row_factory = sqlite3.Row
        acts = [{**row, "changes": json.loads(row["changes"])} for row in file.execute("SELECT * FROM acts")]
        origin = {name: json.loads(value) for name, value in file.execute("SELECT name, value FROM origin")}
    return origin, acts


def test_the_journal_of_a_review_with_every_kind_of_action_fits_its_schema(journalled):
    origin, acts = rows(journalled)
    validated(acts, "vfq-review/1")
    validated(origin["original"], "vfq-review/1", "state")
    validated(origin["context"], "vfq-review/1", "context")
    assert set(origin) == {"original", "context"}
    kinds = schema("vfq-review/1")["$defs"]["action"]["properties"]["kind"]["enum"]
    assert {act["kind"] for act in acts} == set(kinds)


def test_actions_that_were_put_elsewhere_fit_the_same_schema_and_follow_the_journal(journalled):
    unsaved = validated(json.loads((journalled / "review-unsaved.json").read_bytes()), "vfq-review/1")
    _, acts = rows(journalled)
    assert [act["kind"] for act in unsaved] == ["undo", "rejected"]
    assert [act["number"] for act in acts + unsaved] == list(range(1, len(acts) + len(unsaved) + 1))


def test_the_journal_tells_its_version_to_any_program(journalled):
    with contextlib.closing(sqlite3.connect(journalled / "review.sqlite")) as file:
        told = [file.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    assert told == [APPLICATION_ID, VERSION] and f"vfq-review/{VERSION}" in FORMATS
    assert f"`{APPLICATION_ID:#x}`" in PAGE.read_text(encoding="utf-8")


def test_every_field_of_an_action_and_of_a_state_is_written(journalled):
    _, acts = rows(journalled)
    parts = schema("vfq-review/1")["$defs"]
    state = next(after for act in acts for key, (_, after) in act["changes"].items() if key != "curve" and after)
    curve = next(act["changes"]["curve"][1] for act in acts if "curve" in act["changes"])
    for part, written in (("action", acts[0]), ("vertebra_state", state), ("curve_state", curve)):
        assert set(parts[part]["properties"]) == set(written), part


def of_kind(folder: Path, kind: str) -> dict[str, Any]:
    return next(act for act in rows(folder)[1] if act["kind"] == kind)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        *[("move", key, ...) for key in ("number", "at", "who", "kind", "changes", "undoes")],
        ("move", "number", 0),
        ("move", "at", "2026-01-31 12:00"),
        ("move", "who", None),
        ("move", "kind", "push"),
        ("move", "undoes", 1),
        ("undo", "undoes", None),
        ("move", "changes", {}),
        ("move", "changes.v1", [None, None]),
        ("move", "changes.v1.1", ...),
        ("move", "changes.v1.1.origin", "model"),
        ("move", "changes.v1.1.keypoints", [[[0.0] * 3] * 2] * 2),
        ("move", "changes.v1.1.level", "Th9"),
        ("move", "changes.v1.1.review", "perhaps"),
        ("move", "changes.v1.1.pinned", ...),
        ("reset", "changes.v1.1.origin", "reader"),
        ("confirmed", "changes.v1.1.review", "rejected"),
        ("confirmed", "changes.v1.1.reviewed_at", 7),
        ("open", "changes.v2.1.reviewer", "reader"),
        ("delete", "changes.v2.1", {}),
        ("add", "changes.v5.0", {}),
        ("rescue", "changes.curve.1", None),
        ("rescue", "changes.curve.1.curve", [[1.0, 2.0]]),
        ("rescue", "kind", "move"),
    ],
)
def test_a_wrong_action_is_refused(journalled, kind, path, value):
    act = of_kind(journalled, kind)
    assert fits([act], "vfq-review/1")
    assert not fits([put(act, path, value)], "vfq-review/1")


# --- evaluation.json, references


@pytest.fixture
def evaluated(tmp_path) -> SimpleNamespace:
    """Analyses and references on disk, one of each with a problem."""
    analyses, references = tmp_path / "analyses", tmp_path / "references"
    references.mkdir()
    reference = {
        "case": "scan",
        "space": "RAS_mm",
        "vertebrae": [
            {"level": level, "level_certain": True, "keypoints": box(-30.0 - 32 * i).tolist()}
            for i, level in enumerate(("T9", "Th10", None))
        ],
        "partial": [{"level": "T12", "center": [0.0, 0.0, -130.0]}],
        "centerline": [[0.0, 0.0, s] for s in (0.0, -60.0, -140.0)],
    }
    for name in ("scan", "failed"):
        (references / f"{name}.json").write_text(json.dumps({**reference, "case": name}))
    write_outputs(KINDS["measured"], None, analyses, pictures=False)
    write_outputs(replace(FAILED, case="failed"), None, analyses)
    write_outputs(replace(KINDS["measured"], case="other"), None, analyses, pictures=False)
    return SimpleNamespace(analyses=analyses, references=references, reference=reference)


def test_what_an_evaluation_writes_fits_its_schema(evaluated, tmp_path):
    found = evaluate_predictions(evaluated.analyses, evaluated.references, repeats=3)
    data = validated(found.to_json(), "vfq-evaluation/1")
    assert data["problems"] and data["counts"]["failed_scans"] == 1 and data["scans"][0]["point_mm"] is None
    evaluation_rows.write_rows(found.scans, tmp_path / "evaluation.csv")
    with (tmp_path / "evaluation.csv").open(encoding="utf-8") as file:
        assert csv.DictReader(file).fieldnames == list(evaluation_rows.COLUMNS)
    for path, value in (("schema", "vfq-evaluation/2"), ("kind", "guess"), ("counts.found", -1), ("scans", [])):
        assert not fits(put(data, path, value), "vfq-evaluation/1"), path
    assert not fits(put(data, "confusion.true_by_measured", [[1, 2]]), "vfq-evaluation/1")
    assert not fits(put(data, "figures.error.point_mm", {"value": 1.0}), "vfq-evaluation/1")


def test_what_an_evaluation_of_annotations_writes_fits_its_schema(tmp_path):
    for patient in range(2):
        readings = {f"expert{e}": annotated(1.0 + 0.05 * (e + patient)) for e in (1, 2)}
        (tmp_path / f"p{patient}.json").write_text(json.dumps({"Annotation": readings}))
    data = evaluate_annotations(tmp_path, repeats=2).to_json()
    validated(data, "vfq-evaluation/1")
    assert data["kind"] == "annotations" and data["experts"] and data["problems"]
    assert not fits(put(data, "experts.0.unit", "inches"), "vfq-evaluation/1")


def annotated(scale: float) -> list[dict[str, Any]]:
    """One expert's vertebrae in voxels [row, column, slice]."""
    return [
        {"type": level, "segments": (scale * -box(-30.0 - 32 * i)[..., [1, 0, 2]] + [90.0, 50.0, 0.0]).tolist()}
        for i, level in enumerate(("Th9", "Th10"))
    ]


def test_a_reference_is_what_the_evaluation_takes_for_one(evaluated):
    assert fits(evaluated.reference, "vfq-reference/1")
    for path, value in (
        ("schema", "vfq-reference/1"),
        ("space", "LPS_mm"),
        ("space", ...),
        ("vertebrae", ...),
        ("vertebrae.0.keypoints", ...),
        ("vertebrae.0.keypoints", [[1, 2, 3]]),
        ("vertebrae.0.level", "S1"),
        ("partial.0.center", ...),
        ("centerline", [[1, 2]]),
    ):
        wrong = put({"schema": None, **evaluated.reference}, path, value)
        assert not fits(wrong, "vfq-reference/1"), path
        (evaluated.references / "scan.json").write_text(json.dumps(wrong))
        problems = evaluate_predictions(evaluated.analyses, evaluated.references, repeats=0).problems
        noted = [p.code for p in problems if p.file == "scan.json"]
        assert noted, path


@pytest.mark.realct
def test_our_own_references_fit_their_schema(data_dir):
    found = sorted((data_dir / "reference").glob("*.json"))
    assert found
    for path in found:
        validated(json.loads(path.read_bytes()), "vfq-reference/1")


# --- Documentation/formats.md

EXPLAINED = {  # heading of the page: format and part of its schema
    "analysis.json": ("vfq-analysis/1", ""),
    "report.json": ("vfq-report/1", ""),
    "comparison.json": ("vfq-comparison/1", ""),
    "truth.json": ("vfq-truth/1", ""),
    "Actions": ("vfq-review/1", "action"),
    "State of a vertebra": ("vfq-review/1", "vertebra_state"),
    "State of the curve": ("vfq-review/1", "curve_state"),
    "Context": ("vfq-review/1", "context"),
    "evaluation.json": ("vfq-evaluation/1", ""),
    "Of vfq evaluate predictions": ("vfq-evaluation/1", "predictions"),
    "methods.json": ("vfq-methods/1", ""),
    "Of vfq evaluate annotations": ("vfq-evaluation/1", "annotations"),
    "repeatability.json": ("vfq-repeatability/1", ""),
    "dataset.json": ("vfq-dataset/1", ""),
    "labels": ("vfq-reading/1", ""),
    "consensus": ("vfq-consensus/1", ""),
    "agreement.json": ("vfq-agreement/1", ""),
    "References": ("vfq-reference/1", ""),
    "matches.json": ("vfq-matches/1", ""),
}


def explained(heading: str) -> list[str]:
    """The fields that the bullets of a section of the page begin with: "- `a`, `b` (text): ..."."""
    page = re.sub(r"```.*?```", "", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", page, re.DOTALL | re.MULTILINE)
    assert section, heading
    fields = []
    for bullet in re.findall(r"^- (`.*?)(?=^- |^\S|^$|\Z)", section[1], re.DOTALL | re.MULTILINE):
        names = re.match(r"(?:`[^`]+`(?: \([^)]*\))?,?\s*)+:?", bullet)
        assert names
        fields += re.findall(r"`([^`]+)`", re.sub(r"\([^)]*\)", "", names[0]))
    return fields


@pytest.mark.parametrize("heading", EXPLAINED)
def test_the_page_explains_every_field_of_a_schema_and_names_no_other(heading):
    name, part = EXPLAINED[heading]
    whole = schema(name)
    fields = explained(heading)
    assert sorted(fields) == sorted({path for path, _ in described(whole["$defs"][part] if part else whole, whole)})


@pytest.mark.parametrize(
    ("heading", "columns"),
    [
        ("measurements.csv", tables.COLUMNS),
        ("evaluation.csv", evaluation_rows.COLUMNS),
        ("comparison.csv", comparison_files.COLUMNS),
        ("repeatability.csv", repeatability.COLUMNS),
    ],
)
def test_the_page_explains_every_column_of_a_table(heading, columns):
    assert sorted(explained(heading)) == sorted(columns)


def test_the_page_names_only_fields_of_the_markups_that_are_written():
    fields = explained("keypoints.mrk.json")
    assert fields and set(fields) <= set(paths_of(markups_document(edited())))


def test_the_page_has_a_section_for_every_file_that_its_table_lists():
    page = PAGE.read_text(encoding="utf-8")
    anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)", page, re.MULTILINE)}
    linked = set(re.findall(r"\]\(#([^)]+)\)", page))
    assert linked and linked <= anchors


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_the_example_on_the_page_fits_the_schema_and_is_read():
    (example,) = map(json.loads, blocks("json"))
    validated(example, "vfq-analysis/1")
    (vertebra,) = from_json(example).vertebrae
    measured = measure(vertebra.keypoints)
    np.testing.assert_allclose(measured.heights_mm, vertebra.measurement.heights_mm, atol=0.02)
    assert measured.genant_ratio == pytest.approx(vertebra.measurement.genant_ratio, abs=0.002)
    assert (measured.grade, measured.shape) == (vertebra.measurement.grade, vertebra.measurement.shape)


def test_the_programs_on_the_page_run(tmp_path, journalled, monkeypatch):
    find_schema, print_ratios, list_readings, read_journal = blocks("python")
    (tmp_path / "results" / "scan").mkdir(parents=True)
    write_review(edited(), tmp_path / "results" / "scan")
    assert told(list_readings, tmp_path, monkeypatch) == "reader from A signed by []\n"
    shutil.rmtree(tmp_path / "results")
    write_outputs(KINDS["without levels"], None, tmp_path / "results", pictures=False)
    write_outputs(UNREAD, None, tmp_path / "results")
    assert told(find_schema, tmp_path, monkeypatch) == "vfq-analysis/1\n"
    assert told(print_ratios, tmp_path, monkeypatch).splitlines() == [
        "case corrupt_file The file is truncated.",
        *[f"scan V{n} 0.55 severe" for n in (1, 2, 3)],
    ]
    _, acts = rows(journalled)
    shutil.copy(journalled / "review.sqlite", tmp_path)
    with contextlib.closing(Journal(tmp_path / "review.sqlite", {})) as journal:
        count = len(set(journal.state) - {"curve"})
    assert count > 1 and told(read_journal, journalled, monkeypatch) == f"{len(acts)} actions, {count} vertebrae\n"


def told(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the output of a program that runs in a folder."""
    monkeypatch.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(program, {})
    return printed.getvalue()
