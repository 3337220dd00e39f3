"""The command `vfq` with a fake library that answers at once: arguments, exit status, messages and files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner
from VertebralFractureQuantLib.cli.app import app
from VertebralFractureQuantLib.cli.common import WIDTH_OF_FILES, output_console, write_whole
from VertebralFractureQuantLib.dicom.export import _write as write_object
from VertebralFractureQuantLib.errors import VFQError, as_coded
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.networks.weights import weights_folder
from VertebralFractureQuantLib.report import overview
from VertebralFractureQuantLib.report.reviews import _write_picture as write_image
from VertebralFractureQuantLib.spine.genant import measure_column
from VertebralFractureQuantLib.spine.quality import Flag
from VertebralFractureQuantLib.spine.record import ModelStamp, SpineAnalysis, Vertebra

MATRIX = np.diag([2.0, 2.0, 2.0, 1.0])
CURVE = np.stack([np.full(121, 20.0), np.full(121, 50.0), 140.0 - np.arange(121)], axis=1)


def column() -> np.ndarray:
    """Four vertebrae 28 mm apart on `CURVE`, the second with a lower anterior height."""
    points = np.zeros((4, 3, 2, 3)) + np.array([20.0, 50.0, 0.0])
    points[..., 1] += np.array([12.0, 0.0, -12.0])[:, None]
    points[..., 2] += (120.0 - 28 * np.arange(4))[:, None, None] + np.array([11.0, -11.0])
    points[1, 0, 0, 2] -= 7.5
    return points


@dataclass
class FakeEngine:
    """A fake library. The name of the input decides: "empty..." has no spine, "defect..." and "huge..." raise."""

    models_error: Exception | None = None

    def read_ct(self, path: Path, series: str | None = None, trust_header: bool = False, files=None) -> CTVolume:
        name = Path(path).name
        if name.startswith("absent"):
            raise VFQError("not_found", f"There is no {path}.")
        if name.startswith("torn"):
            raise VFQError("corrupt_file", "It cannot be read: Input/output error.")
        matrix = MATRIX + (np.diag([0, 0, 0, 1.0])[[3, 0, 1, 2]] * 50 if "other" in str(path) else 0)
        return CTVolume(np.zeros((76, 50, 21), np.int16), matrix, name, (f"series {series} chosen",) if series else ())

    def write_ct(self, ct: CTVolume, path: Path) -> None:
        path.write_bytes(b"ct")

    def load_models(self, device: str) -> str:
        if self.models_error:
            raise self.models_error
        return device

    def analyze(self, ct, models, progress=None, trust_header=False) -> SpineAnalysis:
        if ct.name.startswith("turned") and not trust_header:
            raise VFQError("orientation_contradicts_anatomy", "Front and back seem to be exchanged.")
        if ct.name.startswith("empty"):
            raise VFQError("no_spine_found", "No spine: give a scan of the trunk.")
        if ct.name.startswith("defect"):
            raise ZeroDivisionError("in the /secret/place\nsecond line")
        if ct.name.startswith("huge"):
            raise MemoryError
        if progress:
            progress("detect", 0.5)
        timing = dict.fromkeys(("localize", "straighten", "detect", "measure", "total"), 0.25)
        vertebrae = tuple(Vertebra(k, m) for k, m in zip(column(), measure_column(column()), strict=True))
        place = {"shape": ct.voxels.shape, "spacing_mm": ct.spacing_mm, "ijk_to_ras": ct.ijk_to_ras}
        return SpineAnalysis("x", curve=CURVE, vertebrae=vertebrae, timing_s=timing, trust_header=trust_header, **place)

    def make_phantom(self, seed: int, **options):
        self.phantom_options = options
        truth = SimpleNamespace(
            keypoints=column() + 0.3, levels=["T7", "T8", "T9", "T10"], to_json=lambda: {"seed": seed}
        )
        return CTVolume(np.zeros((76, 50, 21), np.int16), MATRIX, "phantom"), truth


@pytest.fixture
def vfq(tmp_path, monkeypatch):
    """Run `vfq` in an empty folder with the fake library."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(overview, "DPI", 40)  # quick
    engine = FakeEngine()

    def run(*arguments: str):
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, list(arguments), obj=engine)

    run.engine = engine
    return run


def status(case: str) -> str:
    return json.loads(Path("out", case, "analysis.json").read_text())["status"]


# --- analyze


def test_doubts_are_printed_and_change_no_exit_status(vfq, monkeypatch):
    plain = vfq.engine.analyze

    def doubted(ct, models, *others):
        flag = Flag("curve_off_bone", "The curve may have left the spine: V1 and V2. Press s.", ("V1", "V2"))
        return replace(plain(ct, models, *others), quality=(flag,))

    monkeypatch.setattr(vfq.engine, "analyze", doubted)
    result = vfq("analyze", "scan.nii.gz", "--output", "out")
    assert result.exit_code == 0, result.output
    assert "scan: The curve may have left the spine: V1 and V2. Press s." in result.stdout


def test_a_measured_case_ends_with_status_0_a_table_and_its_folder(vfq):
    result = vfq("analyze", "scan.nii.gz", "--output", "out")
    assert result.exit_code == 0, result.output
    assert "moderate 0.66" in result.stdout and "V2" in result.stdout
    assert Path("out/scan/overview.png").exists()
    assert not list(Path("out").glob(".*"))


def test_one_bad_case_ends_with_status_3_and_the_others_are_done(vfq):
    result = vfq("analyze", "a.nii", "empty.nii", "defect.nii", "huge.nii", "absent.nii", "b.nii", "--output", "out")
    assert result.exit_code == 3
    assert [status(c) for c in ("a", "empty", "defect", "huge", "absent", "b")] == [
        "ok",
        "no_spine_found",
        "internal_error",
        "out_of_memory",
        "not_found",
        "ok",
    ]
    assert [p.name for p in Path("out/empty").iterdir()] == ["analysis.json"]


def test_a_header_that_contradicts_the_body_is_refused_unless_the_user_vouches_for_it(vfq):
    refused = vfq("analyze", "turned.nii", "--output", "out")
    assert refused.exit_code == 3 and status("turned") == "orientation_contradicts_anatomy"
    assert vfq("analyze", "turned.nii", "--output", "out", "--trust-header").exit_code == 0
    assert json.loads(Path("out/turned/analysis.json").read_text())["source"]["trust_header"] is True
    vfq("analyze", "a.nii", "--output", "out")
    assert json.loads(Path("out/a/analysis.json").read_text())["source"]["trust_header"] is False


def test_the_weights_option_replaces_the_shipped_networks(vfq, monkeypatch):
    asked = []

    def load(device, weights, threads):
        asked.append(weights)
        raise VFQError("bad_weights", "None there.")

    monkeypatch.setattr("VertebralFractureQuantLib.analysis.load_models", load)
    monkeypatch.setattr("VertebralFractureQuantLib.imaging.files.read_ct", vfq.engine.read_ct)
    assert vfq("analyze", "a.nii", "--output", "out", "--weights", "runs").exit_code == 3
    assert asked == [Path("runs")] and status("a") == "bad_weights"


def test_with_json_nothing_else_is_on_standard_output(vfq):
    result = vfq("analyze", "a.nii", "empty.nii", "--output", "out", "--json")
    records = json.loads(result.stdout)
    assert [(r["case"], r["status"]) for r in records] == [("a", "ok"), ("empty", "no_spine_found")]
    assert set(records[0]["timing_s"]) == {"read", "localize", "straighten", "detect", "measure", "total"}
    assert "no_spine_found" in result.stderr


def test_an_unexpected_error_is_one_line_and_its_traceback_comes_only_on_request(vfq):
    plain = vfq("analyze", "defect.nii", "--output", "out")
    assert "ZeroDivisionError" in plain.stderr
    assert "Traceback" not in plain.stderr and "second line" not in plain.stderr
    assert "Traceback" in vfq("analyze", "defect.nii", "--output", "out", "--overwrite", "--debug").stderr


def test_no_path_of_the_computer_enters_a_record(vfq, tmp_path):
    vfq("analyze", str(tmp_path / "absent.nii"), "--output", "out")
    record = json.loads(Path("out/absent/analysis.json").read_text())
    assert record["message"] == "There is no absent.nii."
    vfq.engine.models_error = VFQError("bad_weights", r"No '/opt/lib/x/net.bin' and C:\Users\me\net.onnx, 2 mm/px.")
    vfq("analyze", "a.nii", "--output", "out")
    assert "Users" not in (text := Path("out/a/analysis.json").read_text()) and "net.onnx, 2 mm/px." in text
    assert "/secret" not in vfq("analyze", "defect.nii", "--output", "out", "--json").stdout


def test_an_interrupted_cohort_is_resumed(vfq):
    vfq("analyze", "a.nii", "--output", "out")
    before = Path("out/a/analysis.json").read_bytes()
    again = vfq("analyze", "a.nii", "b.nii", "--output", "out", "--json")
    assert again.exit_code == 0 and "a: Existing results are kept; use --overwrite to recompute." in again.stderr
    assert [(r["case"], r["status"], len(r["vertebrae"])) for r in json.loads(again.stdout)] == [
        ("a", "ok", 4),
        ("b", "ok", 4),
    ]
    assert Path("out/a/analysis.json").read_bytes() == before
    assert "Existing results" not in vfq("analyze", "a.nii", "--output", "out", "--overwrite").stderr


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_the_analysis_of_another_ct_of_the_same_name_is_neither_used_nor_replaced(vfq, options):
    vfq("analyze", "x/scan.nii", "--output", "out")
    before = Path("out/scan/analysis.json").read_bytes()
    refused = vfq("analyze", "other/scan.nii", "--output", "out", *options)
    assert refused.exit_code == 3 and "output_exists" in refused.stderr and "another CT" in refused.stderr
    assert Path("out/scan/analysis.json").read_bytes() == before


def test_an_existing_analysis_by_other_networks_is_refused(vfq):
    vfq("analyze", "a.nii", "--output", "out")
    vfq.engine.load_models = lambda device: SimpleNamespace(stamps=(ModelStamp("detector", "detector-0", "f00"),))
    refused = vfq("analyze", "a.nii", "--output", "out")
    assert refused.exit_code == 3 and "other networks" in refused.stderr
    assert vfq("analyze", "a.nii", "--output", "out", "--overwrite").exit_code == 0


def test_a_scan_that_can_no_longer_be_read_keeps_its_result(vfq):
    vfq("analyze", "a.nii", "--output", "out")
    Path("out/a").rename("out/torn")
    files = sorted(p.name for p in Path("out/torn").iterdir())
    assert vfq("analyze", "torn.nii", "--output", "out", "--overwrite").exit_code == 3
    assert status("torn") == "ok" and sorted(p.name for p in Path("out/torn").iterdir()) == files


def test_an_output_that_cannot_be_written_is_a_coded_failure(vfq):
    Path("out").write_text("a file")
    result = vfq("analyze", "a.nii", "--output", "out", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)[0]["status"] == "output_not_writable"


def test_two_inputs_of_the_same_name_are_both_kept_and_reported(vfq):
    result = vfq("analyze", "x/scan.nii", "y/scan.nii", "--output", "out")
    assert result.exit_code == 0
    assert sorted(p.name for p in Path("out").iterdir()) == ["x_scan", "y_scan"]
    assert str(Path("x/scan.nii")) in result.stderr


def test_a_folder_that_is_skipped_because_it_lies_beside_scans_is_reported(vfq):
    for name in ("scans/a.nii", "scans/anna/0001.dcm", "scans/results/a/analysis.json"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")
    said = vfq("analyze", "scans", "--output", "out").stderr
    assert str(Path("scans/anna")) in said and "results" not in said


def test_a_folder_of_images_stands_for_its_files(vfq):
    Path("scans").mkdir()
    for name in ("b.nii.gz", "a.mha", "notes.txt"):
        Path("scans", name).write_bytes(b"")
    records = json.loads(vfq("analyze", "scans", "--output", "out", "--json").stdout)
    assert [r["case"] for r in records] == ["a", "b"]


def test_missing_networks_give_every_case_a_coded_result(vfq):
    vfq.engine.models_error = VFQError("bad_weights", "The weights are damaged: install again.")
    result = vfq("analyze", "a.nii", "b.nii", "--output", "out", "--json")
    assert result.exit_code == 3
    assert {r["status"] for r in json.loads(result.stdout)} == {"bad_weights"}


def test_the_chosen_series_is_passed_on_and_notes_about_the_scan_are_printed(vfq):
    result = vfq("analyze", "dicom", "--series", "1.2.3", "--output", "out")
    assert result.exit_code == 0 and "series 1.2.3 chosen" in result.stderr


def test_the_series_of_a_refused_folder_are_printed_but_not_recorded(vfq):
    def refuse(path, series=None, trust_header=False):
        raise VFQError("mixed_series", "Two phases.", ("Not read: 8 slices, UID 1.2.3",))

    vfq.engine.read_ct = refuse
    result = vfq("analyze", "dicom", "--output", "out")
    assert result.exit_code == 3 and "8 slices, UID 1.2.3" in result.stderr
    assert "1.2.3" not in Path("out", "dicom", "analysis.json").read_text()


def test_with_a_series_a_folder_that_also_holds_an_image_is_dicom(vfq):
    Path("scans").mkdir()
    Path("scans", "other.nii.gz").write_bytes(b"")
    Path("scans", "slice.dcm").write_bytes(b"")
    result = vfq("analyze", "scans", "--series", "1.2.3", "--output", "out", "--json")
    assert [r["case"] for r in json.loads(result.stdout)] == ["scans"]
    both = vfq("analyze", "scans", "--output", "both", "--json")
    assert [r["case"] for r in json.loads(both.stdout)] == ["other", "scans"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("analyze", "--output", "out"),
        ("analyze", "a.nii"),
        ("analyze", "a.nii", "--output", "out", "--device", "abacus"),
        ("review", "a.nii", "--output", "out", "--device", "abacus"),
        ("analyze", "a.nii", "b.nii", "--output", "out", "--series", "1.2"),
        ("bench", "--shape", "512x512"),
        ("bench", "--spacing", "0.7x0.7x-1"),
        ("fly",),
    ],
)
def test_wrong_usage_ends_with_status_2_and_writes_nothing(vfq, arguments):
    assert vfq(*arguments).exit_code == 2
    assert not Path("out").exists()


def test_ctrl_c_leaves_finished_cases_and_no_half_written_one(vfq):
    finished = vfq.engine.analyze

    def interrupted(ct, models, *others):
        if ct.name == "b.nii":
            raise KeyboardInterrupt
        return finished(ct, models, *others)

    vfq.engine.analyze = interrupted
    stopped = vfq("analyze", "a.nii", "b.nii", "--output", "out")
    assert stopped.exit_code not in (0, 2, 3) and "1 of 2 scans are done" in stopped.stderr
    assert [p.name for p in Path("out").iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out_of_memory"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), "out_of_memory"),
        (RuntimeError("odd"), "internal_error"),
        (VFQError("not_ct", "MR"), "not_ct"),
    ],
)
def test_every_exception_has_a_code(error, code):
    assert as_coded(error).code == code


# --- demo, phantom, bench, version


def test_the_demo_compares_with_the_truth_and_names_the_overview_image(vfq):
    result = vfq("demo", "--no-review", "--seed", "3")
    assert result.exit_code == 0, result.output
    assert "Found 4 of 4 vertebrae, 0 false; mean point error 0.52 mm." in result.stdout
    assert {"ct.nii.gz", "truth.json", "overview.png"} <= {p.name for p in Path("vfq-demo/phantom-3").iterdir()}
    assert str(Path("vfq-demo/phantom-3/overview.png")) in result.stdout
    assert vfq("demo", "--no-review", "--seed", "3").exit_code == 3
    assert vfq("demo", "--no-review", "--seed", "3", "--overwrite").exit_code == 0


def test_a_phantom_gets_the_given_options_and_no_others(vfq):
    result = vfq(
        "phantom", "--output", "ct.nii.gz", "--truth", "t/truth.json", "--scoliosis", "40", "--spacing", "0.7x0.8"
    )
    assert result.exit_code == 0, result.output
    assert vfq.engine.phantom_options == {"scoliosis_deg": 40.0, "spacing_mm": (0.7, 0.8)}
    assert Path("ct.nii.gz").exists() and json.loads(Path("t/truth.json").read_text()) == {"seed": 0}


def test_tables_in_a_file_are_wide_unless_columns_is_set(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert output_console().width == WIDTH_OF_FILES
    monkeypatch.setenv("COLUMNS", "90")
    assert output_console().width == 90


@pytest.mark.parametrize(
    "wrong",
    [
        *(("--seed", "-1"), ("--output", "ct.txt"), ("--output", "ct.mhd")),
        *(("--scoliosis", degrees) for degrees in ("500", "nan", "inf", "-1")),
        *(("--noise", noise) for noise in ("nan", "inf", "-inf", "-3", "1e30")),
        *(("--spacing", mm) for mm in ("nanx1", "1xinf", "-0.7x0.8", "0x1", "1x", "0.0001x1", "1x30")),
        *(("--fracture-rate", rate) for rate in ("nan", "2")),
    ],
)
def test_an_impossible_phantom_is_refused_before_it_is_made(vfq, wrong):
    refused = vfq("phantom", "--output", "ct.nii.gz", *wrong)
    assert refused.exit_code == 2 and wrong[0] in refused.output
    assert not hasattr(vfq.engine, "phantom_options") and not list(Path().glob("ct.*"))


@pytest.mark.parametrize(
    "truth", ["ct.nii.gz", "CT.nii.gz", "./ct.nii.gz", "a/../ct.nii.gz", "link.json", "linked/ct.nii.gz"]
)
@pytest.mark.parametrize("there", [True, False])
def test_a_phantom_and_its_truth_cannot_be_one_file(vfq, truth, there):
    Path("a").mkdir()
    Path("link.json").symlink_to("ct.nii.gz")
    Path("linked").symlink_to(".")
    if there:
        Path("ct.nii.gz").write_bytes(b"old")
    refused = vfq("phantom", "--output", "ct.nii.gz", "--truth", truth, "--overwrite")
    assert refused.exit_code == 2 and "--truth" in refused.output
    assert not hasattr(vfq.engine, "phantom_options")
    assert Path("ct.nii.gz").exists() == there and (not there or Path("ct.nii.gz").read_bytes() == b"old")


def test_a_phantom_replaces_a_file_only_with_overwrite(vfq):
    Path("ct.nii.gz").write_bytes(b"old")
    assert vfq("phantom", "--output", "ct.nii.gz").exit_code == 3
    assert Path("ct.nii.gz").read_bytes() == b"old"
    assert vfq("phantom", "--output", "ct.nii.gz", "--overwrite").exit_code == 0
    assert Path("ct.nii.gz").read_bytes() == b"ct"


def test_the_bench_prints_each_part_memory_and_the_straightening(vfq):
    result = vfq("bench", "--shape", "40x50x60", "--spacing", "1x1x2.5", "--repeats", "2")
    assert result.exit_code == 0, result.output
    for part in ("read", "localize", "straighten", "detect", "measure", "total", "peak memory", "times)"):
        assert part in result.stdout


def test_a_failing_demo_or_bench_ends_with_its_code(vfq):
    vfq.engine.models_error = VFQError("bad_weights", "The weights are damaged.")
    for command in ("demo", "bench"):
        result = vfq(command, *(("--shape", "20x20x20") if command == "bench" else ()))
        assert result.exit_code == 3 and "bad_weights: The weights are damaged." in result.stderr
    assert not list(Path("vfq-demo").iterdir())


# --- train, mix


def test_training_options_change_the_recipe_and_nothing_else_does(vfq, monkeypatch):
    train = pytest.importorskip("VertebralFractureQuantLib.training.train")
    seen = []
    monkeypatch.setattr(train, "train", lambda recipe, folder, device, report: seen.append(recipe) or folder)
    options = ("--steps", "9", "--start", "shipped", "--rate", "1e-3", "--pool", "24", "--reuse", "36")
    options += ("--channels", "8-16-32-48-64")
    assert vfq("train", "detector", "--output", "run", *options).exit_code == 0
    changed = {"steps": 9, "start": "shipped", "learning_rate": 1e-3, "pool": 24, "reuse": 36}
    changed["channels"] = (8, 16, 32, 48, 64)
    assert seen == [replace(train.RECIPES["detector"], **changed)]
    refused = vfq("train", "detector", "--output", "run", "--channels", "24,48")
    assert refused.exit_code == 3 and "bad_channels" in refused.stderr and len(seen) == 1


def test_a_mixture_has_equal_shares_by_default_and_replaces_no_file_without_overwrite(vfq):
    pytest.importorskip("torch")
    shipped = str(weights_folder() / "refiner.safetensors")
    assert vfq("mix", "refiner", shipped, shipped, "--output", "mixed").exit_code == 0
    content = Path("mixed/refiner.safetensors").read_bytes()
    assert [m["share"] for m in json.loads(Path("mixed/refiner.json").read_text())["mixture"]] == [1.0, 1.0]
    again = vfq("mix", "refiner", shipped, "--output", "mixed")
    assert again.exit_code == 3 and "output_exists" in again.stderr
    assert Path("mixed/refiner.safetensors").read_bytes() == content
    lopsided = vfq("mix", "refiner", shipped, shipped, "--share", "0.5", "--output", "other")
    assert lopsided.exit_code == 3 and "bad_shares" in lopsided.stderr and not Path("other").exists()


@pytest.mark.parametrize(
    ("command", "default"),
    [("review", "vfq-review"), ("train", "from the recipe"), ("phantom", "0.2"), ("analyze", "the weights in use")],
)
def test_help_states_defaults_that_are_not_plain_values(vfq, command, default):
    assert f"[default: ({default})]" in vfq(command, "--help").output


def test_the_version_is_printed(vfq):
    assert vfq("--version").stdout.startswith("vfq ")


def test_help_needs_no_heavy_import():
    heavy = "{'torch', 'matplotlib', 'scipy', 'SimpleITK'}"
    script = f"import sys, VertebralFractureQuantLib.cli.app; print({heavy} & set(sys.modules))"
    environment = {"PYTHONPATH": str(Path(sys.modules["VertebralFractureQuantLib"].__file__).parents[1])}
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert out.stdout.strip() == "set()"


def test_a_command_ends_without_examining_every_object():
    script = (
        "import atexit, gc\n"
        "from VertebralFractureQuantLib.cli.app import app\n"
        "atexit.register(lambda: print('spared', gc.get_freeze_count() > 10_000))\n"
        "app(['weights', 'list'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(sys.modules["VertebralFractureQuantLib"].__file__).parents[1])}
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert out.stdout.splitlines()[-1] == "spared True"


def test_review_lists_what_analyze_would_and_says_what_it_passes_over(vfq, tmp_path, monkeypatch):
    serving = pytest.importorskip("VertebralFractureQuantLib.browser.serve")
    from test_ct import body, dicom_series
    from VertebralFractureQuantLib.cohort.worklist import find_cases

    folder, served = tmp_path / "in", []
    for name in ("b", "c"):
        dicom_series(folder / name, body((8, 6, 7)), tags={"0020|000d": f"1.2.{name == 'c':d}"})
    (folder / "a.nii.gz").write_bytes(b"")
    (folder / "notes").mkdir()
    monkeypatch.setattr(serving, "serve", lambda cases, settings: served.extend(cases))
    result = vfq("review", str(folder), "--output", str(tmp_path / "out"), "--no-browser")
    assert result.exit_code == 0 and [case.name for case in served] == ["a", "b", "c"]
    assert served == find_cases([folder], tmp_path / "out")
    assert f"{folder / 'notes'} is skipped because there are scans beside it" in result.output + result.stderr


def test_two_commands_that_write_one_file_at_once_leave_one_whole_file(tmp_path):
    target = tmp_path / "table.csv"

    def write(path):
        with path.open("w") as file:
            file.write("of this ")
            file.flush()
            write_whole(target, lambda other: other.write_text("a longer text of the other command"))
            file.write("command")

    write_whole(target, write)
    assert target.read_text() == "of this command" and [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_dicom_objects_and_images_that_are_written_twice_at_once_are_whole(tmp_path):
    target = tmp_path / "object.dcm"

    class Twice:
        """A DICOM object; while it is written, another command writes the same file."""

        def save_as(self, path, **options):
            with path.open("w") as file:
                write_object(SimpleNamespace(save_as=lambda other, **given: other.write_text("of the other")), target)
                file.write("of this command")

    write_object(Twice(), target)
    assert target.read_text() == "of this command"
    picture, record = tmp_path / "overview.png", SimpleNamespace(curve=[0])

    def draw(analysis, ct, path):
        with path.open("w") as file:
            write_image(record, ct, picture, lambda a, c, other: other.write_text("of the other"))
            file.write("of this command")

    write_image(record, None, picture, draw)
    assert picture.read_text() == "of this command"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["object.dcm", "overview.png"]
