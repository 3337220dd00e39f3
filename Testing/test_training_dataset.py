"""Fine-tuning on a label set: which labels teach, who measures whom, early stopping, and runs that are interrupted.

The scans are bright bars in water, read from files as any CT; their networks have four channels.
"""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402
from VertebralFractureQuantLib.cli.app import app  # noqa: E402
from VertebralFractureQuantLib.errors import VFQError  # noqa: E402
from VertebralFractureQuantLib.imaging.ct import CTVolume  # noqa: E402
from VertebralFractureQuantLib.imaging.files import write_ct  # noqa: E402
from VertebralFractureQuantLib.labels.dataset import (  # noqa: E402
    FILE,
    case_of,
    changing,
    create,
    load,
    with_cases,
    with_readers,
)
from VertebralFractureQuantLib.labels.reading import Label, LabelReading  # noqa: E402
from VertebralFractureQuantLib.labels.store import path_of, save  # noqa: E402
from VertebralFractureQuantLib.labels.teaching import digest_of, lessons_of, read_lesson  # noqa: E402
from VertebralFractureQuantLib.networks import weights  # noqa: E402
from VertebralFractureQuantLib.networks.architectures import ARCHITECTURES  # noqa: E402
from VertebralFractureQuantLib.spine.levels import CLASSES  # noqa: E402
from VertebralFractureQuantLib.training import checkpoints, real, train, tubes  # noqa: E402
from VertebralFractureQuantLib.training.folds import folds_of, whole  # noqa: E402
from VertebralFractureQuantLib.training.real import Lessons  # noqa: E402

LEVELS = ("T10", "T11", "T12", "L1", "L2")
SILENT = {"report": lambda line: None}


def points_of(index, shift=0.0):
    """Key points `(3, 2, 3)` RAS mm of a level body of 22 mm height and 30 mm depth; the first is the highest."""
    top = 130.0 - 30 * index
    return np.array([[[0.0, a + shift, top], [0.0, a + shift, top - 22]] for a in (15.0, 0.0, -15.0)])


def scan(path, seed=0):
    """Write a CT of 2 mm voxels with five bodies, and noise."""
    voxels = np.random.default_rng(seed).normal(40, 5, (80, 50, 50)).astype(np.int16)
    matrix = np.diag([-2.0, -2.0, 2.0, 1.0])
    matrix[:3, 3] = (50.0, 50.0, -10.0)
    for i in range(5):
        upper, lower = ((130.0 - 30 * i - down + 10) / 2 for down in (0, 22))
        voxels[int(lower) : int(upper), 17:33, 15:35] = 300
    voxels[:, :4] = voxels[:, -4:] = -1000  # air
    write_ct(CTVolume(voxels, matrix, path.name), path)


def label_set(folder, count=3, readers=("Ann",)):
    """Make a label set of `count` cases of as many patients, read by all readers; return its folder."""
    folder.mkdir()
    for n in range(count):
        scan(folder / f"case{n}.nii.gz", n)
    labels = folder / "labels"
    create(labels, "ours", {})
    with changing(labels) as held:
        cases = [case_of(folder / f"case{n}.nii.gz", f"case{n}", f"patient{n}", labels) for n in range(count)]
        held[0] = with_cases(with_readers(held[0], readers), cases)
    for reader in readers:
        for case in cases:
            marks = tuple(Label(level, points_of(i)) for i, level in enumerate(LEVELS))
            save(load(labels), LabelReading(case.name, reader, state="final", labels=marks, ct_sha256=case.sha256))
    return labels


@pytest.fixture
def labels(tmp_path):
    return label_set(tmp_path / "data")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A label set that no test changes."""
    return label_set(tmp_path_factory.mktemp("shared") / "data")


def code_of(call, *arguments, **options):
    with pytest.raises(VFQError) as caught:
        call(*arguments, **options)
    return caught.value.code


def test_the_labels_of_a_reader_are_the_reference_of_a_case(shared):
    lessons = lessons_of(load(shared), "Ann")
    assert [lesson.patient for lesson in lessons] == ["patient0", "patient1", "patient2"]
    reference = lessons[0].reference
    assert reference.levels == LEVELS
    assert np.allclose(reference.keypoints, [points_of(i) for i in range(5)])
    places = reference.partial[:, 2]
    assert ((places > 130) | (places < -12)).all(), "within the labelled spine everything is learned from"
    assert places.max() > 145 and places.min() < -25
    assert code_of(lessons_of, load(shared), "Bob") == "unknown_reader"
    assert len(lessons_of(load(shared), left_out=("case1",))) == 2


def test_what_no_reader_labelled_is_neither_vertebra_nor_background(labels):
    file = next(labels.glob("readings/*/case0.json"))
    data = json.loads(file.read_text())
    del data["vertebrae"][2]
    file.write_text(json.dumps(data))
    lesson = lessons_of(load(labels))[0]
    missing = points_of(2).mean((0, 1))
    assert lesson.reference.levels == ("T10", "T11", "L1", "L2")
    assert np.linalg.norm(lesson.reference.partial - missing, axis=1).min() < 6
    case = read_lesson(lesson)
    tube = real.real_tube([replace(case, whole=False)], np.random.default_rng(3))
    assert not any(CLASSES[i] == "T12" for i in tube.level if i != tubes.UNKNOWN)
    assert (tube.level == tubes.UNKNOWN).any() and tube.holds_spine.all(), "beyond the labels is not 'no spine'"
    column = real.real_column([case], np.random.default_rng(1))
    between = (column.keypoints[1, :, 1] + column.keypoints[2, :, 0]).mean(0) / 2
    assert np.linalg.norm(column.ignored - between, axis=1).min() < 8


def test_readers_who_disagree_about_a_vertebra_do_not_teach_it(tmp_path):
    labels = label_set(tmp_path / "data", 1, ("Ann", "Bob"))
    file = next(labels.glob("readings/Bob*/case0.json"))
    data = json.loads(file.read_text())
    data["vertebrae"][3]["keypoints"] = points_of(3, 5.0).tolist()
    data["vertebrae"][4]["keypoints"] = points_of(4, 1.0).tolist()
    file.write_text(json.dumps(data))
    (lesson,) = lessons_of(load(labels))
    assert lesson.reference.levels == ("T10", "T11", "T12", "L2")
    assert np.allclose(lesson.reference.keypoints[-1], points_of(4, 0.5)), "the mean of both readers"
    assert np.linalg.norm(lesson.reference.partial - points_of(3).mean((0, 1)), axis=1).min() < 6
    assert lessons_of(load(labels), "Bob")[0].reference.levels == LEVELS


def test_a_case_is_cropped_around_its_spine_without_moving_it(shared):
    lesson = lessons_of(load(shared))[0]
    case = read_lesson(lesson)
    middle = points_of(2).mean((0, 1))
    assert case.ct.sample(middle) == 300 and case.ct.sample(middle + (0, 0, 15)) < 60


def test_labels_and_cts_that_do_not_fit_are_refused(labels, tmp_path):
    dataset = load(labels)
    scan(tmp_path / "data" / "case1.nii.gz", seed=99)
    assert code_of(lambda: [read_lesson(one) for one in lessons_of(dataset)]) == "other_ct"
    (tmp_path / "data" / "case1.nii.gz").unlink()
    assert code_of(lessons_of, dataset) == "not_found"
    assert len(lessons_of(dataset, left_out=("case1",))) == 2
    file = path_of(dataset, LabelReading("case0", "Ann"))
    whole_text = file.read_text()
    data = json.loads(whole_text)
    data["vertebrae"][0]["keypoints"] = (points_of(0) + (0, 0, 400)).tolist()
    file.write_text(json.dumps(data))
    assert code_of(lessons_of, dataset) == "bad_labels"
    file.write_text(json.dumps({**json.loads(whole_text), "ct_sha256": "0" * 64}))
    assert code_of(lessons_of, dataset) == "other_ct"
    file.write_text(json.dumps({**json.loads(whole_text), "schema": "vfq-reading/9"}))
    assert code_of(lessons_of, dataset) == "newer_schema"
    file.write_text(json.dumps({**json.loads(whole_text), "state": "draft"}))
    assert code_of(lessons_of, dataset, None, ("case1", "case2")) == "too_few_labels", "a draft does not teach"


def test_no_patient_is_on_two_sides_and_each_is_unseen_once():
    patients = [f"p{n // 2}" for n in range(22)]
    folds = folds_of(patients, 4, seed=1)
    for fold in [*folds, whole(patients, 1)]:
        assert not fold.taught & fold.aside and not (fold.taught | fold.aside) & fold.unseen
        assert fold.taught | fold.aside | fold.unseen == set(patients) and fold.aside
    assert sorted(p for fold in folds for p in fold.unseen) == sorted(set(patients))
    assert folds == folds_of(patients[::-1], 4, seed=1) != folds_of(patients, 4, seed=2)
    assert code_of(folds_of, patients, 12, 1) == code_of(folds_of, patients, 1, 1) == "too_few_labels"


@pytest.fixture
def quick(monkeypatch, tmp_path):
    return quick_recipe(monkeypatch, tmp_path)


def quick_recipe(monkeypatch, tmp_path):
    """A recipe of the detector with a small network; phantoms are real columns too, as painting takes seconds."""
    torch.set_num_threads(1)
    start = tmp_path / "start" / "detector.safetensors"
    torch.manual_seed(0)
    weights.save(ARCHITECTURES["detector"]((4, 4, 4, 4, 4)), "detector", start, {"name": "start"})
    scores = iter(range(1000, 0, -1))
    task = replace(train.TASKS["detector"], validate=lambda *_: {"score": float(next(scores))}, validated=1)
    monkeypatch.setitem(train.TASKS, "detector", task)
    monkeypatch.setattr(train, "export_or_report", lambda *_: None)
    recipe = replace(train.RECIPES["detector"], batch=2, workers=0, pool=2, reuse=3, validate_every=2, steps=6)
    return replace(recipe, start=str(start), real_share=1.0)


def given(shared, monkeypatch):
    """Return the cases of the shared label set, and let its first case stand for all phantoms."""
    lessons = lessons_of(load(shared))
    cases = [read_lesson(one) for one in lessons]
    task = train.TASKS["detector"]
    paint = replace(task, paint=lambda rng, device="cpu": real.real_column(cases[:1], rng))
    monkeypatch.setitem(train.TASKS, "detector", paint)
    return Lessons(tuple(cases[:2]), tuple(cases[2:]), "label set ours", digest_of(lessons))


def test_an_interrupted_run_has_the_same_weights_bit_by_bit(shared, monkeypatch, tmp_path):
    check_interrupted(shared, monkeypatch, tmp_path, workers=0)


def test_an_interrupted_run_with_two_workers_has_the_same_weights(shared, tmp_path):
    # In a process of its own: workers are copies of their process, which in a run of all tests has Qt, VTK and threads.
    code = "import pathlib, sys, pytest, test_training_dataset as tests\n"
    code += "with pytest.MonkeyPatch.context() as patch:\n"
    code += "    tests.check_interrupted(pathlib.Path(sys.argv[1]), patch, pathlib.Path(sys.argv[2]), workers=2)"
    command = [sys.executable, "-c", code, str(shared), str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def check_interrupted(shared, monkeypatch, tmp_path, workers):
    recipe = replace(quick_recipe(monkeypatch, tmp_path), workers=workers)
    lessons = given(shared, monkeypatch)
    whole_run = train.train(recipe, tmp_path / "whole", lessons=lessons, **SILENT)
    # Stopped between two validations, then killed, then resumed.
    train.train(replace(recipe, minutes=0), tmp_path / "parts", lessons=lessons, **SILENT)
    saved = checkpoints.read(tmp_path / "parts", "detector", "cpu")
    assert saved["step"] == 1
    with pytest.raises(KeyboardInterrupt):
        train.train(recipe, tmp_path / "parts", lessons=lessons, report=interrupt_at(4))
    assert checkpoints.read(tmp_path / "parts", "detector", "cpu")["step"] == 4
    parts = train.train(recipe, tmp_path / "parts", lessons=lessons, **SILENT)
    assert parts.read_bytes() == whole_run.read_bytes()
    ends = [checkpoints.read(tmp_path / name, "detector", "cpu") for name in ("whole", "parts")]
    for name, value in ends[0]["model"].items():
        assert torch.equal(value, ends[1]["model"][name]), name


def interrupt_at(step):
    def report(line):
        if f"step {step} " in line:
            raise KeyboardInterrupt

    return report


def test_a_run_that_gets_no_better_stops_and_keeps_its_best(quick, shared, monkeypatch, tmp_path):
    scores = iter([9.0, 9.0, 8.0, 8.0, *[50.0] * 40])  # phantoms and real cases, at each validation
    task = replace(train.TASKS["detector"], validate=lambda *_: {"score": next(scores)})
    monkeypatch.setitem(train.TASKS, "detector", task)
    lessons = given(shared, monkeypatch)
    recipe = replace(quick, steps=100, patience=2)
    path = train.train(recipe, tmp_path / "run", lessons=lessons, **SILENT)
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    assert [row["step"] for row in rows] == ["0", "2", "4", "6"]
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["validation"]["step"] == 2 and card["validation"]["score"] == 16.0
    before = path.read_bytes()
    train.train(recipe, tmp_path / "run", lessons=lessons, **SILENT)
    assert path.read_bytes() == before, "a run that has stopped stays as it is"


def test_weights_that_get_worse_are_not_kept(quick, shared, monkeypatch, tmp_path):
    scores = iter(float(n) for n in range(1000))
    task = replace(train.TASKS["detector"], validate=lambda *_: {"score": next(scores)})
    monkeypatch.setitem(train.TASKS, "detector", task)
    path = train.train(replace(quick, steps=2), tmp_path / "run", lessons=given(shared, monkeypatch), **SILENT)
    start, kept = (weights.load("detector", path=p)[0].state_dict() for p in (train.Path(quick.start), path))
    assert all(torch.equal(start[name], kept[name]) for name in start)


def test_a_run_is_not_resumed_with_other_labels(quick, shared, monkeypatch, tmp_path):
    lessons = given(shared, monkeypatch)
    train.train(replace(quick, steps=2), tmp_path / "run", lessons=lessons, **SILENT)
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    other = replace(lessons, digest="other")
    assert code_of(train.train, quick, tmp_path / "run", lessons=other, **SILENT) == "bad_checkpoint"
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


def test_a_full_disk_is_said_and_leaves_the_checkpoint(quick, shared, monkeypatch, tmp_path):
    lessons = given(shared, monkeypatch)
    train.train(replace(quick, steps=2), tmp_path / "run", lessons=lessons, **SILENT)
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(train.Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        train.train(quick, tmp_path / "run", lessons=lessons, **SILENT)
    monkeypatch.undo()
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


def test_the_command_trains_by_folds_and_prints_the_tables_of_unseen_patients(quick, shared, monkeypatch, tmp_path):
    given(shared, monkeypatch)
    monkeypatch.setitem(train.RECIPES, "detector", quick)
    monkeypatch.setattr(train, "TUNING", {"validate_every": 1, "patience": 2})
    seen = []

    def analyzed(ct, models, trust_header):
        seen.append((ct.name, models.stamps[2].name))
        raise VFQError("no_vertebra_found", "None here.")

    monkeypatch.setattr("VertebralFractureQuantLib.labels.tuning.analyze", analyzed)
    output = tmp_path / "run"
    command = ["train", "detector", "--dataset", str(shared), "--output", str(output), "--steps", "1", "--folds", "3"]
    command += ["--batch", "1", "--workers", "0", "--start", quick.start, "--device", "cpu"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, (result.output, result.exception)
    names = [f"case{n}" for n in range(3)]
    assert sorted(p.name for p in (output / "after").iterdir()) == names
    assert sorted(p.stem for p in (output / "references").iterdir()) == names
    assert sorted(name for name, network in seen if network == "start") == names, "before"
    assert sorted(name for name, network in seen if network != "start") == names, "after, each by its own fold"
    for when in ("before", "after"):
        figures = json.loads((output / f"evaluation-{when}" / "evaluation.json").read_text())
        assert figures["counts"]["true_vertebrae"] == 15 if "true_vertebrae" in figures["counts"] else figures["counts"]
    card = json.loads((output / "detector.json").read_text())
    assert card["name"] == "detector tuned on ours" and "label set ours: 2 CTs" in card["data"]
    assert "case0" not in json.dumps(card) and str(shared) not in json.dumps(card)
    assert weights.load("detector", path=output / "detector.safetensors")


def test_the_command_refuses_what_it_cannot_learn_from(shared, tmp_path):
    def run(*more):
        return CliRunner().invoke(app, ["train", *more, "--output", str(tmp_path / "run")])

    localizer = run("localizer", "--dataset", str(shared))
    assert localizer.exit_code == 3 and "no_real_data" in localizer.stderr
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / FILE).write_text(json.dumps({"schema": "vfq-dataset/9"}))
    assert "newer_schema" in run("detector", "--dataset", str(newer)).stderr
    assert "unknown_reader" in run("detector", "--dataset", str(shared), "--reader", "Zoe").stderr
    assert "too_few_labels" in run("detector", "--dataset", str(shared), "--folds", "4").stderr
    assert run("detector", "--dataset", str(shared), "--references", str(shared)).exit_code == 2
    assert not (tmp_path / "run").exists()
