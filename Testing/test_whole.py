"""Whole-file writing: two commands that write one file do not share a temporary name, and a killed one leaves nothing
that counts.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.spine.record import SpineAnalysis
from VertebralFractureQuantLib.whole import beside, visible, whole_file, whole_files

LIBRARY = Path(__file__).resolve().parent.parent / "VertebralFractureQuant" / "VertebralFractureQuantLib"
RECORD = SpineAnalysis("case", status="no_spine_found")


def tables(folder: Path) -> None:
    pl = pytest.importorskip("polars")
    from VertebralFractureQuantLib.cohort.tables import _write

    _write(pl.DataFrame({"case": ["a"]}), folder, "patients", ("csv", "parquet"))


def review(folder: Path) -> None:
    from VertebralFractureQuantLib.report.reviews import write_review

    write_review(RECORD, folder)


def annotation(folder: Path) -> None:
    from VertebralFractureQuantLib.scene.annotation_start import keep_record

    keep_record(folder, RECORD)


def labels(folder: Path) -> None:
    from VertebralFractureQuantLib.labels.files import write_json

    write_json(folder / "dataset.json", {"cases": []})


def gallery(folder: Path) -> None:
    from VertebralFractureQuantLib.cohort.gallery import _replacing

    with _replacing(folder / "index.html") as file:
        file.write("page")


def weights(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    from VertebralFractureQuantLib.networks.architectures import SpineLocalizer
    from VertebralFractureQuantLib.networks.weights import save, save_onnx

    torch.manual_seed(0)
    path = folder / "localizer.safetensors"
    save(SpineLocalizer(), "localizer", path, {"name": "localizer"})
    save_onnx(b"graph", "localizer", path)


WRITERS = (tables, review, annotation, labels, gallery, weights)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("write", WRITERS)
def test_two_commands_that_write_one_file_at_once_both_succeed(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The second command does all of its writing right before the first one renames its file."""
    alone, both = tmp_path / "alone", tmp_path / "both"
    alone.mkdir()
    both.mkdir()
    write(alone)
    pending = [write]

    def after_the_other(rename: Callable) -> Callable:
        def renamed(*paths: Path) -> object:
            if pending:
                pending.pop()(both)
            return rename(*paths)

        return renamed

    monkeypatch.setattr(Path, "replace", after_the_other(Path.replace))
    monkeypatch.setattr(os, "replace", after_the_other(os.replace))
    write(both)
    assert not pending and contents(both) == contents(alone)


@pytest.mark.parametrize("write", WRITERS)
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path)
    before = contents(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises((VFQError, OSError)):
        write(tmp_path)
    assert contents(tmp_path) == before


def test_several_files_are_replaced_together_or_not_at_all(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("old")
    with pytest.raises(ZeroDivisionError), whole_files([one, other], safely=True) as (first, _):
        first.write_text("new")
        raise ZeroDivisionError
    assert contents(tmp_path) == {"one": b"old"}
    with whole_files([one, other], safely=True) as (first, second):
        first.write_text("new")
        second.write_text("second")
    assert contents(tmp_path) == {"one": b"new", "other": b"second"}


def test_what_a_killed_command_left_behind_counts_nowhere(tmp_path):
    from VertebralFractureQuantLib.cohort.worklist import find_cases
    from VertebralFractureQuantLib.evaluation.sources import read_predictions

    (tmp_path / "a.json").write_text("{}")
    beside(tmp_path / "a.json").write_text("{")
    (tmp_path / ".b.0123abcd.partial").mkdir()
    (tmp_path / ".b.0123abcd.partial" / "analysis.json").write_text("{")
    found, problems = read_predictions(tmp_path)
    assert not found and [(p.code, p.file) for p in problems] == [("wrong_schema", "a.json")]
    (tmp_path / "scan.nii").write_bytes(b"")
    beside(tmp_path / "scan.nii").write_bytes(b"")
    assert [case.name for case in find_cases([tmp_path], tmp_path / "out")] == ["scan"]
    assert [path.name for path in visible(tmp_path.iterdir())] == ["a.json", "scan.nii"]


def test_no_file_of_the_library_has_a_fixed_temporary_name():
    fixed = re.compile(r"""(with_name|with_suffix|/)\(?\s*f?["'][^"']*\.(partial|part|tmp|temp)\b""")
    found = [
        f"{path.name}: {line.strip()}"
        for path in LIBRARY.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if fixed.search(line) and "uuid4()" not in line
    ]
    assert not found


def test_a_numpy_file_keeps_its_suffix_while_it_is_written(tmp_path):
    with whole_file(tmp_path / "a.npz") as partial:
        np.savez(partial, a=np.arange(3))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
