"""Many scans: analyses in child processes, failures and results on disk, the worklist, and saved reviews."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from VertebralFractureQuantLib.cohort import jobs
from VertebralFractureQuantLib.cohort.jobs import AnalysisJob, JobState, analysis_command, start_process
from VertebralFractureQuantLib.cohort.studies import Outcome, Study, measure_study
from VertebralFractureQuantLib.cohort.worklist import Case, case_status, find_cases
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.imaging.ct import CTVolume
from VertebralFractureQuantLib.imaging.files import write_ct
from VertebralFractureQuantLib.networks.devices import DeviceMemoryError
from VertebralFractureQuantLib.report import reviews as saving
from VertebralFractureQuantLib.report.outputs import discard_unfinished, write_outputs
from VertebralFractureQuantLib.report.reviews import write_review
from VertebralFractureQuantLib.spine.genant import measure_column
from VertebralFractureQuantLib.spine.quality import Flag
from VertebralFractureQuantLib.spine.record import ModelStamp, SpineAnalysis, Vertebra
from VertebralFractureQuantLib.spine.record_json import from_json, to_json

posix = pytest.mark.skipif(os.name != "posix", reason="counts processes as POSIX does")


# --- a job with a fake process


class Played:
    """A fake `Process`: the test decides its lines and its end."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.status: int | None = None
        self.killed = False
        self.words = ""
        self.more = threading.Condition()

    def say(self, *lines: str, end: int | None = None) -> None:
        with self.more:
            self.said += lines
            self.status = end
            self.more.notify_all()

    def lines(self) -> Iterator[str]:
        while True:
            with self.more:
                self.more.wait_for(lambda: self.said or self.status is not None)
                if not self.said:
                    return
                line = self.said.pop(0)
            yield line

    def wait(self) -> int:
        return self.status or 0

    def last_words(self) -> str:
        return self.words

    def kill(self) -> None:
        self.killed = True
        self.say(end=-9)


def eventually(state: Callable[[], JobState], wanted: Callable[[JobState], bool], within_s: float = 20.0) -> JobState:
    """Return the first state that is `wanted`, or the last one after `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while not wanted(now := state()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return now


def ended(state: JobState) -> bool:
    return state.status != "running"


@pytest.fixture
def played():
    process = Played()
    return AnalysisJob(["analyse"], lambda command: process), process


def test_a_job_reports_the_step_and_the_share_that_is_done(played):
    job, process = played
    assert job.update() == JobState("running", "", 0.0, "", "")
    process.say('{"stage": "detect", "share": 0.6}\n')
    assert eventually(job.update, lambda s: s.stage == "detect").share == 0.6
    process.say('{"done": true}\n', end=0)
    assert eventually(job.update, ended) == JobState("done", "detect", 1.0, "", "")


def test_output_of_libraries_changes_nothing(played):
    job, process = played
    process.say("loading...\n", "[1, 2]\n", "17\n", "{}\n", '{"share": "much"}\n', '{"stage": "read", "share": 0.1}\n')
    assert eventually(job.update, lambda s: s.stage == "read") == JobState("running", "read", 0.1)


def test_a_coded_failure_arrives_with_its_message(played):
    job, process = played
    process.say('{"error": "not_ct", "message": "This is no CT."}\n', end=3)
    state = eventually(job.update, ended)
    assert (state.status, state.code, state.message) == ("failed", "not_ct", "This is no CT.")


@pytest.mark.parametrize(
    ("status", "known"), [(-9, "SIGKILL"), (-11, "SIGSEGV"), (1, "exit status 1"), (0, "exit status 0")]
)
def test_a_child_that_dies_without_a_message_is_a_failure_with_all_that_is_known(played, status, known):
    job, process = played
    process.words = "Fatal error in /home/me/lib/net.py"
    process.say('{"stage": "detect", "share": 0.6}\n', end=status)
    state = eventually(job.update, ended)
    assert (state.status, state.code, state.stage) == ("failed", "child_died", "detect")
    assert "Fatal error in net.py" in state.message and "/home" not in state.message
    if os.name == "posix":
        assert known in state.message


def test_notes_are_kept_in_order(played):
    job, process = played
    process.say('{"note": "series 3 chosen"}\n', '{"note": 7}\n', '{"note": "The CPU was used instead."}\n')
    process.say('{"stage": "detect", "share": 0.6}\n')
    state = eventually(job.update, lambda s: s.stage == "detect")
    assert state.notes == ("series 3 chosen", "The CPU was used instead.")
    process.say('{"done": true}\n', end=0)
    assert eventually(job.update, ended).notes == state.notes


def test_updating_never_waits_for_the_child(played):
    job, _ = played
    started = time.perf_counter()
    for _ in range(100):
        job.update()
    assert time.perf_counter() - started < 2.0


def test_a_host_that_holds_the_interpreter_between_updates_still_receives_messages(played):
    """Slicer's event loop holds the interpreter's lock; here threads switch only when the running one releases it."""
    interval = sys.getswitchinterval()
    job, process = played
    sys.setswitchinterval(60.0)
    try:
        process.say('{"stage": "detect", "share": 0.6}\n')
        assert any(job.update().stage == "detect" for _ in range(20))
    finally:
        sys.setswitchinterval(interval)


def test_cancelling_kills_the_child_and_later_messages_change_nothing(played):
    job, process = played
    job.cancel()
    assert process.killed and job.update().status == "cancelled"
    process.say('{"done": true}\n', end=0)
    time.sleep(0.05)
    assert job.update().status == "cancelled"


def test_cancelling_a_finished_job_leaves_it_done(played):
    job, process = played
    process.say('{"done": true}\n', end=0)
    eventually(job.update, ended)
    job.cancel()
    assert not process.killed and job.update().status == "done"


def test_an_interpreter_that_is_not_there_is_a_failure(tmp_path):
    command = analysis_command(tmp_path / "ct.nii", tmp_path / "out", "ct", interpreter=tmp_path / "PythonSlicer")
    state = AnalysisJob(command).update()
    assert (state.status, state.code) == ("failed", "child_died") and str(tmp_path) not in state.message


# --- a job with a real process


def child(code: str) -> AnalysisJob:
    return AnalysisJob([sys.executable, "-c", code])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


SAY_PID = "print(json.dumps({'stage': str(os.getpid()), 'share': 0.1}), flush=True)"


@posix
def test_cancelling_kills_the_child_and_its_children():
    grandchild = f"import json, os, time; {SAY_PID}; time.sleep(60)"
    job = child(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])")
    pid = int(eventually(job.update, lambda s: bool(s.stage)).stage)
    assert alive(pid)
    job.cancel()
    assert gone(pid) and job.update().status == "cancelled"


@posix
def test_a_killed_child_is_a_failure_with_its_last_words():
    words = "import sys, os; print('no memory in /opt/x/lib.so', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)"
    state = eventually(child(words).update, ended)
    assert state.code == "child_died" and "SIGKILL" in state.message and "no memory in lib.so" in state.message


def air(path: Path) -> Path:
    """Write a volume of air: it can be read, but not measured."""
    write_ct(CTVolume(np.full((40, 40, 40), -1000, np.int16), np.diag([2.0, 2.0, 2.0, 1.0]), "air"), path)
    return path


def test_a_coded_failure_of_the_real_child_is_reported_and_written(tmp_path):
    job = AnalysisJob(analysis_command(air(tmp_path / "air.nii.gz"), tmp_path / "out", "Ärm -x", "cpu"))
    state = eventually(job.update, ended, 60)
    record = json.loads((tmp_path / "out" / "Ärm -x" / "analysis.json").read_text(encoding="utf-8"))
    assert state.status == "failed" and state.code == record["status"] and state.message == record["message"]
    assert state.code in ("not_ct", "no_spine_found")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["Ärm -x"]


def test_a_missing_input_is_reported_without_its_path(tmp_path):
    job = AnalysisJob(analysis_command(tmp_path / "none.nii.gz", tmp_path / "out", "none"))
    state = eventually(job.update, ended, 60)
    assert state.code == "not_found" and str(tmp_path) not in state.message


@posix
def test_a_child_whose_parent_is_killed_ends_too(tmp_path):
    """The parent is killed while the child reads a scan, which takes a minute."""
    slow = "import sys, time, VertebralFractureQuantLib.cohort.jobs as j; j.Library.read_ct = lambda *_: time.sleep(60)"
    slow += "; j.GRACE_S = 0.2; sys.exit(j.main())"
    command = [sys.executable, "-c", slow, "x", "--output", str(tmp_path / "out"), "--case=x"]
    parent = (
        "import sys, time; from VertebralFractureQuantLib.cohort.jobs import AnalysisJob\n"
        f"job = AnalysisJob({command!r})\n"
        "while not job.update().stage: time.sleep(0.01)\n"
        "print(job._process._popen.pid, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(jobs.PACKAGE_PARENT)}
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout
    pid = int(process.stdout.readline())
    assert alive(pid)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert gone(pid)
    assert not (tmp_path / "out" / "x").exists()


@posix
def test_a_cancelled_analysis_leaves_no_half_written_folder(tmp_path):
    writing = tmp_path / "out" / ".scan.0123abcd.partial"
    writing.mkdir(parents=True)
    job = AnalysisJob(
        analysis_command(tmp_path / "scan.nii", tmp_path / "out", "scan"),
        lambda command: start_process([sys.executable, "-c", "import time; time.sleep(60)"]),
    )
    job.cancel()
    assert not list((tmp_path / "out").iterdir())


def test_unfinished_output_of_a_killed_process_is_deleted_and_the_old_folder_is_restored(tmp_path):
    for name in (".a.01234567.partial", ".a.01234567.old", ".b.01234567.partial", ".a.b.partial"):
        (tmp_path / name).mkdir()
    (tmp_path / ".a.01234567.old" / "analysis.json").write_text("{}")
    discard_unfinished(tmp_path, "a")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".a.b.partial", ".b.01234567.partial", "a"]
    assert (tmp_path / "a" / "analysis.json").exists()


def test_a_folder_that_a_killed_process_had_moved_is_restored_before_the_next_run(tmp_path):
    measured(SmallGpu(), tmp_path)
    (tmp_path / "out" / "scan").rename(tmp_path / "out" / ".scan.01234567.old")
    _, notes = measured(SmallGpu(), tmp_path)
    assert "Existing results are kept" in notes[-1]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["scan"]


def test_kept_results_are_not_said_to_be_of_the_series_that_is_asked_for(tmp_path):
    """Two series may have the same grid, and an older record names no series."""
    measured(SmallGpu(), tmp_path)
    study = Study(tmp_path / "scan.nii", "scan", tmp_path / "out", series="1.2.3")
    notes = []
    measure_study(study, SmallGpu(), lambda: SmallGpu().load_models("cpu"), note=notes.append)
    assert "another series" in notes[-1] and "--overwrite" in notes[-1] and "1.2.3" not in notes[-1]


def test_the_results_of_another_series_with_the_same_grid_are_not_returned_as_its_own(tmp_path):
    class OfSeries(SmallGpu):
        def __init__(self, series):
            super().__init__(("The CPU was used.",))
            self.series = series

        def read_ct(self, path, series=None, trust_header=False):
            return replace(super().read_ct(path), series=self.series)

        def analyze(self, ct, models, progress=None, trust_header=False):
            return replace(super().analyze(ct, models), series=ct.series)

    def once_more(series, **options):
        engine, study = OfSeries(series), Study(tmp_path / "scan", "scan", tmp_path / "out", **options)
        return measure_study(study, engine, lambda: engine.load_models("cpu")).record

    assert once_more("sha256:00000001").status == once_more("sha256:00000001").status == "ok"
    refused = once_more("sha256:00000002")
    assert refused.status == "output_exists" and "another DICOM series" in refused.message
    assert once_more("sha256:00000002", overwrite=True).series == "sha256:00000002"


@pytest.mark.thorough
def test_a_phantom_is_analysed_in_a_child_process(tmp_path, painted):

    ct, _ = painted(3, field_of_view="spine", spacing_mm=(1.5, 2.5))
    write_ct(ct, tmp_path / "scan.nii.gz")
    job = AnalysisJob(analysis_command(tmp_path / "scan.nii.gz", tmp_path / "out", "scan", "cpu"))
    assert eventually(job.update, ended, 120) == JobState("done", "write", 1.0)
    files = {p.name for p in (tmp_path / "out" / "scan").iterdir()}
    assert files == {"analysis.json", "measurements.csv", "keypoints.mrk.json"}  # the child draws no pictures


# --- a study: too small a GPU, and failures


STAMP = ModelStamp("detector", "detector-0", "0" * 64)


class SmallGpu:
    """An engine whose GPU runs out of memory during the analysis or, with `notes`, has too little from the start."""

    def __init__(self, notes: tuple[str, ...] = ()):
        self.notes = notes

    def read_ct(self, path: Path, series: str | None = None, trust_header: bool = False) -> CTVolume:
        return CTVolume(np.full((40, 40, 40), -1000, np.int16), np.diag([2.0, 2.0, 2.0, 1.0]), "scan", ("of the scan",))

    def load_models(self, device: str) -> SimpleNamespace:
        return SimpleNamespace(device=device, notes=self.notes if device != "cpu" else (), stamps=(STAMP,))

    def analyze(self, ct, models, progress=None, trust_header=False) -> SpineAnalysis:
        if models.device != "cpu" and not self.notes:
            raise DeviceMemoryError("The GPU ran out of memory.")
        place = {"shape": ct.voxels.shape, "spacing_mm": ct.spacing_mm, "ijk_to_ras": ct.ijk_to_ras}
        return replace(analysis("open", "open"), models=models.stamps, **place)


class Failing(SmallGpu):
    """An engine that fails with a given code."""

    def __init__(self, code: str):
        super().__init__()
        self.code = code

    def analyze(self, ct, models, progress=None, trust_header=False) -> SpineAnalysis:
        raise VFQError(self.code, "It failed.")


def test_the_record_of_a_failure_says_where_the_scan_lies(tmp_path):
    record = from_json(to_json(measured(Failing("no_spine_found"), tmp_path)[0].record))
    assert record.status == "no_spine_found" and record.shape == (40, 40, 40) and record.spacing_mm == (2.0, 2.0, 2.0)
    assert record.ijk_to_ras is not None and record.ijk_to_ras[0, 0] == 2
    assert record.models == (STAMP,)  # the networks that failed


@pytest.mark.parametrize("code", ["bad_weights", "no_device", "out_of_memory", "no_spine_found"])
def test_only_a_failure_of_the_scan_itself_replaces_an_earlier_result(tmp_path, code):
    engine = Failing(code)
    measured(SmallGpu(), tmp_path)
    study = Study(tmp_path / "scan.nii", "scan", tmp_path / "out", overwrite=True, pictures=False)
    assert measure_study(study, engine, lambda: engine.load_models("cuda")).record.status == code
    kept = json.loads((tmp_path / "out" / "scan" / "analysis.json").read_text())["status"]
    assert kept == ("no_spine_found" if code == "no_spine_found" else "ok")


def measured(engine: SmallGpu, tmp_path: Path) -> tuple[Outcome, list[str]]:
    notes: list[str] = []
    study = Study(tmp_path / "scan.nii", "scan", tmp_path / "out", pictures=False)
    return measure_study(study, engine, lambda: engine.load_models("cuda"), note=notes.append), notes


def test_an_analysis_whose_gpu_runs_out_of_memory_is_repeated_on_the_cpu_with_a_note(tmp_path):
    outcome, notes = measured(SmallGpu(), tmp_path)
    assert outcome.error is None and outcome.record.status == "ok"
    assert notes == ["of the scan", "The GPU ran out of memory. The CPU was used instead; it takes longer."]


def test_notes_from_loading_the_networks_are_passed_on(tmp_path):
    _, notes = measured(SmallGpu(("The GPU has 1.0 GB of free memory.",)), tmp_path)
    assert notes == ["of the scan", "The GPU has 1.0 GB of free memory."]


def test_the_child_passes_on_notes_without_its_path(tmp_path):
    scan = tmp_path / "secret" / "scan.nii"
    code = (
        "import sys, VertebralFractureQuantLib.cohort.jobs as j\n"
        "def measure(study, engine, load, progress, note):\n"
        "    note(f'The second image of {study.path} was taken.'); raise SystemExit(0)\n"
        "j.measure_study = measure; j.main()"
    )
    job = AnalysisJob([sys.executable, "-c", code, str(scan), "--output", str(tmp_path), "--case=scan"])
    assert eventually(job.update, ended, 60).notes == ("The second image of scan.nii was taken.",)


# --- the worklist


def analysis(*reviews: str, case: str = "scan") -> SpineAnalysis:
    """Vertebrae 28 mm apart, the second with a lower anterior height, each with the given review."""
    points = np.zeros((len(reviews), 3, 2, 3)) + np.array([20.0, 50.0, 0.0])
    points[..., 1] += np.array([12.0, 0.0, -12.0])[:, None]
    points[..., 2] += (120.0 - 28 * np.arange(len(reviews)))[:, None, None] + np.array([11.0, -11.0])
    points[1:2, 0, 0, 2] -= 7.5
    rows = zip(points, measure_column(points), reviews, strict=True)
    curve = np.stack([np.full(121, 20.0), np.full(121, 50.0), 140.0 - np.arange(121)], axis=1)
    return SpineAnalysis(case, curve=curve, vertebrae=tuple(Vertebra(k, m, review=r) for k, m, r in rows))


def on_disk(tmp_path: Path, text: str | None = None, *reviews: str, begun: bool = False) -> Case:
    folder = tmp_path / "out" / "scan"
    folder.mkdir(parents=True)
    if text is not None or reviews:
        (folder / "analysis.json").write_text(json.dumps(to_json(analysis(*reviews))) if text is None else text)
    if begun:
        (folder / "machine.json").write_bytes(b"")
    return Case("scan", tmp_path / "scan.nii", folder)


def test_cases_are_named_as_the_command_names_them(tmp_path):
    for name in ("one/scan.nii.gz", "one/b c.mha", "one/notes.txt", "dicom/0001.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = find_cases([tmp_path / "one", tmp_path / "dicom", Path("elsewhere/scan.nii")], tmp_path / "out")
    assert [c.name for c in found] == ["b_c", "one_scan", "dicom", "elsewhere_scan"]
    assert [c.source.name for c in found] == ["b c.mha", "scan.nii.gz", "dicom", "scan.nii"]
    assert found[3].folder == tmp_path / "out" / "elsewhere_scan"


def test_a_case_without_an_analysis_is_waiting(tmp_path):
    assert case_status(on_disk(tmp_path)).state == "waiting"
    assert case_status(Case("x", tmp_path / "x.nii", tmp_path / "nowhere" / "x")).state == "waiting"


def test_a_new_analysis_is_ready_and_has_its_worst_grade(tmp_path):
    status = case_status(on_disk(tmp_path, None, "open", "open", "open"))
    assert (status.state, status.worst_grade, status.open, status.total) == ("ready", "moderate", 3, 3)


def test_the_worklist_names_the_doubts_and_counts_a_physiologic_shape_as_normal(tmp_path):
    found = analysis("open", "open", "open")
    vertebrae = (found.vertebrae[0], replace(found.vertebrae[1], physiologic="Lower in front."), found.vertebrae[2])
    flags = (Flag("curve_off_bone", "Press s.", ("V2",)), Flag("thick_slices", "Thick."))
    text = json.dumps(to_json(replace(found, vertebrae=vertebrae, quality=flags)))
    status = case_status(on_disk(tmp_path, text))
    assert (status.worst_grade, status.doubts) == ("normal", "curve_off_bone thick_slices")


@pytest.mark.parametrize(
    ("reviews", "begun", "state", "open_ones"),
    [
        (("confirmed", "open"), True, "in review", 1),
        (("open", "open"), True, "in review", 2),
        (("confirmed", "rejected"), True, "reviewed", 0),
        (("rejected", "rejected"), True, "reviewed", 0),
        (("confirmed", "confirmed"), False, "reviewed", 0),
        (("confirmed", "open"), False, "ready", 1),
    ],
)
def test_a_review_is_done_once_no_vertebra_is_open(tmp_path, reviews, begun, state, open_ones):
    status = case_status(on_disk(tmp_path, None, *reviews, begun=begun))
    assert (status.state, status.open, status.total) == (state, open_ones, 2)


def test_rejected_vertebrae_do_not_count_for_the_worst_grade(tmp_path):
    assert case_status(on_disk(tmp_path, None, "open", "rejected", "open")).worst_grade == "normal"


def test_a_failed_case_has_its_reason(tmp_path):
    record = to_json(SpineAnalysis("scan", status="no_spine_found", message="No spine: give a scan of the trunk."))
    status = case_status(on_disk(tmp_path, json.dumps(record)))
    assert (status.state, status.code) == ("failed", "no_spine_found") and "trunk" in status.message


def damaged() -> list[str]:
    whole = to_json(analysis("open", "open"))
    no_points = {**whole, "vertebrae": [{**whole["vertebrae"][0], "keypoints": [[1, 2]]}]}
    grade = {**whole, "vertebrae": [{**whole["vertebrae"][0], "grade": "odd"}]}
    texts = [json.dumps(d) for d in ([], {}, {"schema": whole["schema"]}, no_points, grade, {**whole, "schema": "x/9"})]
    return ["", "{", "null", json.dumps(whole)[:-40], *texts]


@pytest.mark.parametrize("text", damaged(), ids=range(len(damaged())))
def test_a_damaged_analysis_is_a_coded_failure_not_an_exception(tmp_path, text):
    status = case_status(on_disk(tmp_path, text))
    assert status.state == "failed" and status.code and status.message


# --- a review on disk


@pytest.fixture
def reviewed(tmp_path):
    """A case's folder as `vfq analyze` writes it, without the pictures."""
    folder = on_disk(tmp_path, None, "open", "open").folder
    for name in ("keypoints.mrk.json", "measurements.csv"):
        (folder / name).write_text("the machine's")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_review_rewrites_the_files_and_keeps_the_original_analysis(reviewed):
    machine = (reviewed / "analysis.json").read_bytes()
    for reviews in (("confirmed", "open"), ("confirmed", "rejected")):
        write_review(analysis(*reviews), reviewed)
    assert (reviewed / "machine.json").read_bytes() == machine
    record = from_json(json.loads((reviewed / "analysis.json").read_text()))
    assert [v.review for v in record.vertebrae] == ["confirmed", "rejected"]
    assert "rejected" in (reviewed / "measurements.csv").read_text()
    assert set(contents(reviewed)) == {"analysis.json", "machine.json", "keypoints.mrk.json", "measurements.csv"}


def test_a_picture_of_the_original_points_is_renamed_by_a_review(reviewed):
    (reviewed / "overview.png").write_bytes(b"picture")
    write_review(analysis("confirmed", "open"), reviewed)
    assert not (reviewed / "overview.png").exists()
    assert (reviewed / "machine-overview.png").read_bytes() == b"picture"


def test_the_original_analysis_can_be_passed_in(tmp_path):
    folder = on_disk(tmp_path).folder
    write_review(analysis("confirmed"), folder, machine=analysis("open"))
    assert json.loads((folder / "machine.json").read_text())["vertebrae"][0]["review"] == "open"


def test_a_reviewed_record_is_never_kept_as_the_original(tmp_path):
    folder = on_disk(tmp_path).folder
    for _ in range(2):
        write_review(analysis("confirmed"), folder)
    assert not (folder / "machine.json").exists()


def fail_at(count: int, error: OSError) -> Callable[..., None]:
    """Return an os.replace that fails from the `count`-th call on."""
    calls, real = iter(range(99)), os.replace

    def replace_or_fail(source: Path, target: Path) -> None:
        if next(calls) >= count:
            raise error
        real(source, target)

    return replace_or_fail


def test_a_save_that_fails_leaves_every_old_file_whole(reviewed, monkeypatch):
    before = contents(reviewed)
    monkeypatch.setattr(saving.os, "replace", fail_at(0, OSError(errno.EROFS, "Read-only file system")))
    with pytest.raises(VFQError) as refused:
        write_review(analysis("confirmed", "open"), reviewed)
    assert refused.value.code == "output_not_writable" and "Read-only" in refused.value.message
    assert contents(reviewed) == before


def test_a_full_disk_is_found_before_any_file_is_replaced(reviewed, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = contents(reviewed)
    monkeypatch.setattr(saving, "write_measurements", full)
    with pytest.raises(VFQError) as refused:
        write_review(analysis("confirmed", "open"), reviewed)
    assert "No space left" in refused.value.message and str(reviewed.parent) not in refused.value.message
    assert contents(reviewed) == before


def test_an_interrupted_save_leaves_each_file_old_or_new_and_the_next_save_completes_it(reviewed, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(saving.os, "replace", fail_at(2, OSError(errno.EIO, "Input/output error")))
        with pytest.raises(VFQError):
            write_review(analysis("confirmed", "open"), reviewed)
    now = contents(reviewed)
    assert json.loads(now["analysis.json"])["vertebrae"][0]["review"] == "confirmed"
    assert json.loads(now["machine.json"])["vertebrae"][0]["review"] == "open"
    assert now["measurements.csv"] == b"the machine's"
    write_review(analysis("confirmed", "open"), reviewed)
    assert json.loads((reviewed / "machine.json").read_text())["vertebrae"][0]["review"] == "open"


@pytest.mark.parametrize("kept", ["review.sqlite", "machine.json"])
def test_a_review_is_never_overwritten(reviewed, kept):
    (reviewed / kept).write_bytes(b"")
    before = contents(reviewed)
    failed = replace(analysis(), status="not_ct", message="MR")
    for overwrite in (False, True):
        with pytest.raises(VFQError) as refused:
            write_outputs(failed, None, reviewed.parent, overwrite)
        assert refused.value.code == "output_exists" and "reader's review" in refused.value.message
    assert contents(reviewed) == before


def test_a_review_that_begins_while_the_case_is_analysed_again_is_kept(reviewed):
    begin = {"extra": lambda p: (reviewed / "review.sqlite").write_bytes(b"acts")}
    with pytest.raises(VFQError):
        write_outputs(replace(analysis(), status="not_ct"), None, reviewed.parent, True, begin)
    assert (reviewed / "review.sqlite").read_bytes() == b"acts"
    assert [p.name for p in reviewed.parent.iterdir()] == ["scan"]
