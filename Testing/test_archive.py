"""From archive to archive: what is taken and refused, what survives kills and failures, what the archive gets.

The listener runs in a process of its own with a stub in place of the networks (`archive_stub`); the archive is a second
C-STORE service (`archive_cases`), in `test_archive_orthanc` a real one.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from archive_cases import (
    ARCHIVE,
    SENDER,
    TITLE,
    Archive,
    Listening,
    Scanner,
    Studies,
    free_port,
    send,
    study_uid,
    wait_for,
)
from dicom_cases import PATIENT, record, trunk
from pynetdicom import AE, build_context
from pynetdicom.sop_class import MRImageStorage, Verification  # type: ignore[attr-defined]
from typer.testing import CliRunner
from VertebralFractureQuantLib.archive import listener as listening
from VertebralFractureQuantLib.archive import receiver as receiving
from VertebralFractureQuantLib.archive import sender as sending
from VertebralFractureQuantLib.archive.child import Child
from VertebralFractureQuantLib.archive.folders import Folders, holds, instance_name, study_name
from VertebralFractureQuantLib.archive.listener import Settings, Steps
from VertebralFractureQuantLib.archive.preparing import Prepared, Task, check
from VertebralFractureQuantLib.archive.queue import Entry, Queue, only_one, read_queue
from VertebralFractureQuantLib.archive.receiver import Receiver, printable
from VertebralFractureQuantLib.archive.sender import Archive as Address
from VertebralFractureQuantLib.cli.app import app
from VertebralFractureQuantLib.cli.review import of_a_listener
from VertebralFractureQuantLib.cohort.worklist import case_status, find_cases
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.report.outputs import write_record
from VertebralFractureQuantLib.spine.record_json import read_analysis

SECRETS = [PATIENT["PatientName"], "Muster", "Erika", PATIENT["PatientID"], PATIENT["AccessionNumber"], "1.2.826.0.7"]


class Association:
    """An association that sends until it is ended."""

    def __init__(self) -> None:
        self.alive = True

    def is_alive(self) -> bool:
        return self.alive


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = Queue(tmp_path / "queue.sqlite")
    yield queue
    queue.close()


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Studies:
    return Studies(tmp_path_factory.mktemp("template"))


@pytest.fixture
def archive() -> Iterator[Archive]:
    archive = Archive().start()
    yield archive
    archive.stop()


@pytest.fixture
def listener(tmp_path: Path, archive: Archive) -> Iterator[Listening]:
    listener = Listening(tmp_path / "listener", archive.port).start()
    yield listener
    listener.kill()


def ready(queue: Queue, name: str = "one", files: tuple[str, ...] = ("a", "b")) -> Entry:
    """Bring a study through the queue until its objects wait to be sent."""
    ended = Association()
    ended.alive = False
    queue.receive(name, ended)
    queue.settle(0)
    study = queue.next("complete")
    assert study and study.name == name and queue.analysed(study, files)
    found = queue.next("analysed")
    assert found
    return found


# The queue


def test_a_study_is_complete_when_nothing_has_come_for_a_while_and_nobody_sends_it(queue: Queue):
    association = Association()
    assert queue.receive("one", association) and not queue.receive("one", association)
    assert queue.settle(0) == [] and queue.next("complete") is None  # its association is open
    association.alive = False
    assert queue.settle(60) == []
    assert queue.settle(0) == ["one"]
    assert queue.state("one") == "complete"


def test_an_association_that_went_on_to_another_study_does_not_hold_the_first_one_back(queue: Queue):
    association = Association()
    queue.receive("one", association)
    queue.receive("two", association)
    assert queue.settle(0) == ["one"]


def test_a_late_instance_opens_a_study_again_and_what_was_made_of_it_does_not_count(queue: Queue):
    ended = Association()
    ended.alive = False
    queue.receive("one", ended)
    queue.settle(0)
    study = queue.next("complete")
    assert study
    assert queue.receive("one", ended)
    assert not queue.analysed(study, ["a"]) and queue.state("one") == "receiving"
    queue.settle(0)
    assert not queue.analysed(study, ["a"]), "the state is the same, the round is not"
    assert not queue.failed(study, "child_died") and not queue.again(study, "child_died", 1, 0)


def test_objects_that_were_accepted_are_not_sent_again_after_a_restart(tmp_path: Path):
    queue = Queue(tmp_path / "queue.sqlite")
    ready(queue)
    queue.offer("one", "a")
    queue.accept("one", "a")
    queue.offer("one", "b")
    queue.close()
    queue = Queue(tmp_path / "queue.sqlite")
    assert queue.unsent("one") == ["b"] and queue.offered("one") == ["a", "b"]
    queue.close()


def test_the_objects_of_an_earlier_round_are_not_sent_any_more(queue: Queue):
    ready(queue, files=("old", "same"))
    queue.accept("one", "same")
    ready(queue, files=("new", "same"))
    assert queue.unsent("one") == ["new"] and queue.offered("one") == ["same"]


def test_attempts_wait_until_they_are_due_and_others_go_first(queue: Queue):
    first = ready(queue, "one")
    assert queue.again(first, "archive_unreachable", 1, time.time() + 3600)
    assert queue.next("analysed") is None
    assert ready(queue, "two").name == "two"
    (held, _) = queue.entries()
    assert (held.code, held.attempts) == ("archive_unreachable", 1)


def test_a_restart_tries_failures_again_that_have_passed_but_not_those_of_the_scan(queue: Queue):
    for name, code in (("one", "child_died"), ("two", "missing_slices")):
        assert queue.failed(ready(queue, name), code)
    assert queue.retry_failed(listening.PASSING, "complete") == ["one"]
    assert (queue.state("one"), queue.state("two")) == ("complete", "failed")


def test_a_file_of_another_program_is_no_queue_and_is_left_alone(tmp_path: Path):
    path = tmp_path / "queue.sqlite"
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE theirs (a)")
    file.close()
    for read in (Queue, read_queue):
        with pytest.raises(VFQError) as info:
            read(path)
        assert info.value.code == "not_a_queue"
    assert path.read_bytes()[18:20] == b"\1\1", "it is not in WAL mode"
    path.write_text("no database " * 100)
    with pytest.raises(VFQError) as info:
        Queue(path)
    assert info.value.code == "not_a_queue" and path.read_text().startswith("no database")


def test_one_folder_has_one_listener(tmp_path: Path):
    with only_one(tmp_path / "lock"):
        with pytest.raises(VFQError) as info, only_one(tmp_path / "lock"):
            pass
        assert info.value.code == "queue_in_use"
    with only_one(tmp_path / "lock"):
        pass


# Failures and attempts


class Refusing:
    """A child or an archive that always fails in the same way."""

    stopped = False

    def __init__(self, code: str):
        self.code, self.calls = code, 0

    def run(self, task: Task) -> Prepared:
        self.calls += 1
        return Prepared(self.code)

    def send(self, *_: Any) -> None:
        self.calls += 1
        raise VFQError(self.code, "It fails.")


def steps(tmp_path: Path, queue: Queue, child: Any, log: list[tuple[str, str, str]]) -> Steps:
    settings = Settings(Task(tmp_path, ""), TITLE, 1, [SENDER], Address("127.0.0.1", 1, ARCHIVE), retry_s=0.0)
    return Steps(settings, Folders(tmp_path), queue, child, lambda *event: log.append(event))


@pytest.mark.parametrize(("code", "attempts"), [("missing_slices", 1), ("no_spine_found", 1), ("out_of_memory", 3)])
def test_an_analysis_is_repeated_only_if_that_can_help(tmp_path: Path, queue: Queue, code: str, attempts: int):
    log: list[tuple[str, str, str]] = []
    child = Refusing(code)
    ended = Association()
    ended.alive = False
    queue.receive("one", ended)
    queue.settle(0)
    made = steps(tmp_path, queue, child, log)
    while made.analyse():
        pass
    assert child.calls == attempts
    (entry,) = queue.entries()
    assert (entry.state, entry.code) == ("failed", code)
    assert [event[1] for event in log] == [code] * attempts and "failed" in log[-1][2]


def test_refusals_are_bounded_and_said_and_an_archive_that_is_away_is_waited_for(
    tmp_path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch
):
    log: list[tuple[str, str, str]] = []
    made = steps(tmp_path, queue, Refusing("unused"), log)
    ready(queue)
    monkeypatch.setattr(listening, "MOST_REFUSALS", 3)
    away, refusing = Refusing("archive_unreachable"), Refusing("archive_refused")
    monkeypatch.setattr(listening, "send", away.send)
    for _ in range(60):
        assert made.send()
    assert queue.state("one") == "analysed"
    monkeypatch.setattr(listening, "send", refusing.send)
    while made.send():
        pass
    assert refusing.calls == 3, "the attempts while it was away do not count"
    assert queue.state("one") == "failed" and log[-1][1] == "archive_refused" and "of 3" in log[-2][2]
    made.resume()
    assert queue.state("one") == "analysed"


def test_waits_double_up_to_a_quarter_of_an_hour(tmp_path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch):
    made = steps(tmp_path, queue, Refusing("unused"), [])
    made = replace(made, settings=replace(made.settings, retry_s=30.0))
    study = ready(queue)
    waits = []
    for attempts in range(40):
        monkeypatch.setattr(listening.time, "time", lambda: 0.0)
        made._failed(study._replace(attempts=attempts, code="archive_unreachable"), "archive_unreachable", None)
        waits.append(queue.entries()[0].due)
    assert waits[:5] == [30, 60, 120, 240, 480] and set(waits[5:]) == {900}


@pytest.mark.parametrize("content", [None, b""])
def test_an_outbox_that_was_emptied_or_damaged_is_filled_again(tmp_path: Path, queue: Queue, content: bytes | None):
    made = steps(tmp_path, queue, Refusing("unused"), [])
    ready(queue, files=("a",))
    damaged = made.folders.outbox / "one" / "a"
    if content is not None:
        damaged.parent.mkdir(parents=True)
        damaged.write_bytes(content)
    assert made.send()
    assert queue.state("one") == "complete" and not damaged.exists()


def echo(text: str) -> str:
    """Work for a child: repeat the text, refuse it, or die."""
    if text == "refuse":
        raise VFQError("no_spine_found", "No spine.")
    if text == "die":
        import os

        os._exit(9)
    return text


def test_a_child_that_dies_is_replaced_and_its_failures_keep_their_codes():
    child: Child[str, str] = Child(echo)
    try:
        assert child.run("one") == "one"
        with pytest.raises(VFQError) as info:
            child.run("refuse")
        assert info.value.code == "no_spine_found"
        with pytest.raises(VFQError) as info:
            child.run("die")
        assert info.value.code == "child_died"
        assert child.run("two") == "two"
    finally:
        child.stop()
    with pytest.raises(VFQError) as info:
        child.run("three")
    assert info.value.code == "cancelled"


# Receiving


def test_an_instance_that_cannot_be_written_is_not_answered_with_success(
    tmp_path: Path, queue: Queue, studies: Studies, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    log: list[tuple[str, str, str]] = []
    folders, port = Folders(tmp_path / "full"), free_port()
    folders.prepare()
    receiver = Receiver(TITLE, [SENDER], folders, queue, lambda *event: log.append(event))
    receiver.start("127.0.0.1", port)
    try:
        monkeypatch.setattr(receiving, "write_durably", full)
        assert send(studies.make(1)[:1], port) == [0xA700]
        assert [event[1] for event in log] == ["receiving", "output_not_writable"]
        monkeypatch.undo()
        assert send(studies.make(1)[:1], port) == [0]
        with pytest.raises(VFQError) as info:
            Receiver(TITLE, [SENDER], folders, queue, lambda *event: None).start("127.0.0.1", port)
        assert info.value.code == "port_in_use"
    finally:
        receiver.stop()
    assert len(list((folders.studies / study_name(study_uid(1))).iterdir())) == 1


def test_nobody_may_send_if_nobody_is_named(tmp_path: Path, queue: Queue):
    with pytest.raises(ValueError, match="everybody"):
        Receiver(TITLE, [], Folders(tmp_path), queue, lambda *event: None)


def test_an_instance_is_the_same_whoever_received_it(tmp_path: Path):
    def file(meta: bytes, data: bytes) -> bytes:
        return b"\0" * 128 + b"DICM\x02\0\0\0UL\x04\0" + len(meta).to_bytes(4, "little") + meta + data

    target = tmp_path / "one.dcm"
    assert not holds(target, file(b"a", b"pixels"))
    target.write_bytes(file(b"a", b"pixels"))
    assert holds(target, file(b"another receiver", b"pixels"))
    with pytest.raises(VFQError) as info:
        holds(target, file(b"a", b"other pixels"))
    assert info.value.code == "instance_differs"


def test_what_a_caller_calls_itself_cannot_forge_a_line_of_the_log():
    assert printable("AET\n2026 sent:\x1b[2J " + "x" * 200).startswith("'AET?2026 sent:?[2J xx")
    assert "\n" not in printable("a\nb") and len(printable("x" * 200)) < 90


@pytest.mark.thorough
def test_what_is_not_wanted_is_refused_with_a_code_and_leaves_nothing(listener: Listening, studies: Studies):
    assert send(studies.make(1)[:1], listener.port, sender="STRANGER") == [-1]
    assert send(studies.make(1)[:1], listener.port, title="OTHER") == [-1]
    service = AE(SENDER)
    service.add_requested_context(MRImageStorage)
    association = service.associate("127.0.0.1", listener.port, ae_title=TITLE)
    assert not association.accepted_contexts
    association.abort()
    service.requested_contexts = [build_context(Verification)]
    association = service.associate("127.0.0.1", listener.port, ae_title=TITLE)
    assert association.send_c_echo().Status == 0
    association.release()
    nameless = studies.make(1)[0]
    del nameless.StudyInstanceUID
    assert send([nameless], listener.port) == [0xA900]
    wait_for(lambda: listener.codes().count("unknown_ae_title") == 2, listener.said)
    wait_for(lambda: "not_accepted" in listener.codes() and "bad_instance" in listener.codes(), listener.said)
    assert "'STRANGER'" in "".join(listener.log) and "MR Image Storage" in "".join(listener.log)
    assert listener.states() == {} and not list(listener.folders.studies.iterdir())
    assert not list(listener.folders.incoming.iterdir())


# The whole way


@pytest.mark.thorough
def test_a_study_comes_and_its_results_go_and_nobody_is_named_on_the_way(
    listener: Listening, studies: Studies, archive: Archive
):
    assert set(send(studies.make(1), listener.port)) == {0}
    listener.wait_until(1, "sent")
    assert sorted(one.Modality for one in archive.of_study(1)) == ["DOC", "OT", "SR"]
    assert {str(one.PatientID) for one in archive.of_study(1)} == {PATIENT["PatientID"]}
    assert listener.codes() == ["listening", "receiving", "complete", "analysed", "sent"]
    named = [listener.folders.queue, *listener.root.glob("queue.sqlite-*"), *listener.folders.cases.rglob("*.json")]
    said = "".join(listener.log) + "".join(path.read_bytes().decode("latin-1") for path in named)
    said += "".join(str(path.relative_to(listener.root)) for path in listener.root.rglob("*"))
    assert not [secret for secret in SECRETS if secret in said]

    # Sent twice: nothing happens. Another picture under the same UID: refused, the first one stays.
    assert set(send(studies.make(1)[:3], listener.port)) == {0}
    other = studies.make(1)[0]
    other.PixelData = bytes(len(other.PixelData))
    assert send([other], listener.port) == [0xA900]
    assert listener.codes()[5:] == ["instance_differs"] and listener.state(1) == "sent"

    # A worklist of the results; a study that is not analysed is not in it.
    (listener.root / "slow").touch()
    assert set(send(studies.make(2), listener.port)) == {0}
    listener.wait_until(2, "complete")
    shown = find_cases(*of_a_listener([listener.root], None))
    assert [(case.name, case_status(case).state) for case in shown] == [(study_name(study_uid(1)), "ready")]
    assert shown[0].folder == listener.folders.cases / shown[0].name
    assert listener.end() == 0
    assert listener.codes()[-1] == "stopped"


@pytest.mark.thorough
def test_two_studies_of_one_patient_at_once_stay_apart(listener: Listening, studies: Studies, archive: Archive):
    pairs = zip(studies.make(1), studies.make(2), strict=True)
    assert set(send([one for pair in pairs for one in pair], listener.port)) == {0}
    for number in (1, 2):
        listener.wait_until(number, "sent")
        assert len(archive.of_study(number)) == 3
    series = {str(one.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].SeriesInstanceUID)
              for number in (1, 2) for one in archive.reports(number)}  # fmt: skip
    assert series == {f"{study_uid(number)}.1" for number in (1, 2)}


@pytest.mark.thorough
def test_late_images_open_a_study_again_and_supersede_its_result_only_if_it_changes(
    listener: Listening, studies: Studies, archive: Archive
):
    gap = studies.make(1)
    assert set(send(gap[:10] + gap[13:], listener.port)) == {0}
    listener.wait_until(1, "failed")
    assert "missing_slices" in listener.codes() and not archive.of_study(1)
    assert set(send(gap[10:13], listener.port)) == {0}
    listener.wait_until(1, "sent")
    (first,) = archive.reports(1)

    assert set(send(studies.make(1, series=2, slices=slice(0, 6)), listener.port)) == {0}  # a worse series
    wait_for(lambda: listener.codes().count("receiving") == 3, listener.said)
    listener.wait_until(1, "sent")
    assert archive.reports(1) == [first] and set(archive.times.values()) == {1}

    fitter = studies.make(1, series=3)
    for one in fitter:
        one.ConvolutionKernel = "B30f"
    more = [one for one in studies.make(1, series=4, slices=slice(-1, None))]
    z = more[0].ImagePositionPatient
    more[0].ImagePositionPatient = [z[0], z[1], z[2] + 5]
    for one in [*fitter, *more]:
        one.SeriesInstanceUID = f"{study_uid(1)}.3"
    more[0].InstanceNumber = len(fitter) + 1
    assert set(send([*fitter, *more], listener.port)) == {0}
    wait_for(lambda: len(archive.reports(1)) == 2, listener.said)
    listener.wait_until(1, "sent")
    second = next(one for one in archive.reports(1) if one.SOPInstanceUID != first.SOPInstanceUID)
    named = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID


@pytest.mark.thorough
def test_images_that_come_during_the_analysis_are_in_the_only_result_that_is_sent(
    listener: Listening, studies: Studies, archive: Archive
):
    (listener.root / "slow").touch()
    instances = studies.make(1)
    assert set(send(instances[:33], listener.port)) == {0}
    listener.wait_until(1, "complete")
    assert set(send(instances[33:], listener.port)) == {0}
    (listener.root / "slow").unlink()
    listener.wait_until(1, "sent")
    (report,) = archive.reports(1)
    (series,) = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert len(series.ReferencedSOPSequence) == len(instances)
    assert "PredecessorDocumentsSequence" not in report
    assert len(archive.stored) == 3


@pytest.mark.thorough
def test_an_archive_that_refuses_fails_after_accepting_and_goes_away_gets_everything_once(
    listener: Listening, studies: Studies, archive: Archive
):
    behaviours = {1: 0xA700, 3: -1}  # refuses the first object, breaks the association at the third
    archive.behaviour = lambda n: behaviours.get(n, 0)
    assert set(send(studies.make(1), listener.port)) == {0}
    listener.wait_until(1, "sent")
    assert len(archive.of_study(1)) == 3 and set(archive.times.values()) == {1}
    assert "archive_refused" in listener.codes() or "archive_unreachable" in listener.codes()

    archive.stop()
    assert set(send(studies.make(2), listener.port)) == {0}
    listener.wait_until(2, "analysed")
    wait_for(lambda: listener.codes().count("archive_unreachable") >= 2, listener.said)
    archive.start()
    listener.wait_until(2, "sent")
    assert len(archive.of_study(2)) == 3 and set(archive.times.values()) == {1}


@pytest.mark.thorough
def test_what_a_reader_confirms_follows_as_a_verified_report(listener: Listening, studies: Studies, archive: Archive):
    assert set(send(studies.make(1), listener.port)) == {0}
    listener.wait_until(1, "sent")
    (first,) = archive.reports(1)
    assert first.VerificationFlag == "UNVERIFIED"
    case = listener.folders.cases / study_name(study_uid(1))
    automatic = read_analysis(case / "analysis.json")
    (case / "analysis.json").rename(case / "machine.json")
    reviewed = record(trunk(), ("confirmed", "confirmed", "rejected", "open"))
    write_record(replace(automatic, vertebrae=reviewed.vertebrae), case / "analysis.json")
    assert send(studies.make(2)[:1], listener.port) == [0]
    listener.wait_until(2, "failed")  # the listener has looked at everything since
    assert archive.reports(1) == [first], "one vertebra is still open"
    reviewed = record(trunk(), ("confirmed", "confirmed", "rejected", "confirmed"))
    write_record(replace(automatic, vertebrae=reviewed.vertebrae), case / "analysis.json")
    wait_for(lambda: len(archive.reports(1)) == 2, listener.said)
    listener.wait_until(1, "sent")
    second = next(one for one in archive.reports(1) if one.SOPInstanceUID != first.SOPInstanceUID)
    assert second.VerificationFlag == "VERIFIED"
    named = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID
    listener.kill()
    listener.start()
    assert send(studies.make(3)[:1], listener.port) == [0]
    listener.wait_until(3, "failed")
    assert listener.state(1) == "sent" and len(archive.reports(1)) == 2 and set(archive.times.values()) == {1}


@pytest.mark.thorough
def test_a_crash_of_an_analysis_leaves_the_receiver_alone_and_the_study_is_analysed_again(
    listener: Listening, studies: Studies, archive: Archive
):
    (listener.root / "crash").touch()
    assert set(send(studies.make(1), listener.port)) == {0}
    wait_for(lambda: "child_died" in listener.codes(), listener.said)
    assert send(studies.make(2)[:1], listener.port) == [0]
    listener.wait_until(1, "sent")
    assert len(archive.of_study(1)) == 3


@pytest.mark.thorough
def test_nothing_is_lost_or_doubled_when_the_listener_is_killed_at_random(
    listener: Listening, studies: Studies, archive: Archive
):
    luck = random.Random(27)
    scanners = [Scanner(studies.make(number), listener.port) for number in range(3)]
    for _ in range(3):
        time.sleep(luck.uniform(0, 6))
        listener.kill()
        listener.start()
    for scanner in scanners:
        scanner.wait()
    for number in range(3):
        listener.wait_until(number, "sent")
        assert len(archive.of_study(number)) == 3 and len(archive.reports(number)) == 1
    assert len(archive.stored) == 9


# The command


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--aet", "A" * 17], "16"),
        (["--from", "A\\B"], "backslash"),
        (["--forward", "pacs:PACS"], "HOST:PORT:AET"),
        (["--forward", "pacs:0:PACS"], "HOST:PORT:AET"),
        (["--language", "xx"], "bad_template"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_received(tmp_path: Path, options: list[str], words: str):
    usual = {"--port": "11112", "--aet": TITLE, "--from": SENDER, "--forward": "pacs:104:PACS"}
    usual |= {"--output": str(tmp_path / "out"), **dict(zip(options[::2], options[1::2], strict=True))}
    done = CliRunner().invoke(app, ["listen", *(part for pair in usual.items() for part in pair)])
    assert done.exit_code in (2, 3) and words in done.output.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "highdicom" else found(name))
    with pytest.raises(VFQError) as info:
        check(Task(tmp_path, ""))
    assert info.value.code == "missing_dependency" and "highdicom" in info.value.message


def test_an_archive_that_is_not_there_is_said_to_be_unreachable(tmp_path: Path, studies: Studies):
    path = tmp_path / instance_name("1")
    studies.make(1)[0].save_as(path)
    with pytest.raises(VFQError) as info:
        sending.send(Address("127.0.0.1", free_port(), ARCHIVE), TITLE, [path], print, print)
    assert info.value.code == "archive_unreachable"


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to sign a certificate")
def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://localhost:{server.server_port}/dicom-web"
    try:
        done = CliRunner().invoke(app, ["fetch", url, "--study", "1.2", "--output", str(tmp_path)])
        assert done.exit_code == 3 and done.output.startswith("archive_unreachable: The certificate")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        done = CliRunner().invoke(app, ["fetch", url, "--study", "1.2", "--output", str(tmp_path)])
        assert "archive_refused:" in done.output, "it is vouched for, and is no archive"
    finally:
        server.shutdown()


@pytest.mark.parametrize("asked", [{}, {"patient": "*"}, {"patient": "12?4"}, {"accession": ""}])
def test_a_query_that_could_name_other_patients_is_refused_before_it_is_sent(asked):
    from VertebralFractureQuantLib.archive.web import find_studies

    with pytest.raises(VFQError) as refused:
        find_studies(None, **asked)  # type: ignore[arg-type]
    assert refused.value.code == "nothing_found" and "other patients" in refused.value.message


class OneSeries:
    """An archive of one series; `meanwhile` is called while its images arrive."""

    def __init__(self, images, meanwhile=lambda: None):
        self.images, self.meanwhile = images, meanwhile

    def search_for_series(self, *_: object, **__: object) -> list:
        return [{"0020000E": {"Value": ["1.2.3"]}, "00201209": {"Value": [len(self.images)]}}]

    def iter_series(self, *_: object, **__: object):
        yield self.images[0]
        self.meanwhile()
        yield from self.images[1:]


def test_a_second_fetch_of_a_study_says_that_another_one_is_running(tmp_path: Path, studies: Studies):
    from VertebralFractureQuantLib.archive.web import fetch_study

    images, second = studies.make(1, slices=slice(3)), []

    def meanwhile() -> None:
        with pytest.raises(VFQError) as refused:
            fetch_study(OneSeries(images), "1.2", tmp_path)
        second.append(refused.value)

    folder = fetch_study(OneSeries(images, meanwhile), "1.2", tmp_path)
    assert [error.code for error in second] == ["fetch_in_progress"] and "Wait until" in second[0].message
    assert len(list(folder.iterdir())) == 3 and [path.name for path in tmp_path.iterdir()] == [folder.name]
    with pytest.raises(VFQError) as refused:
        fetch_study(OneSeries(images), "1.2", tmp_path)
    assert refused.value.code == "output_exists"


def test_a_study_whose_fetch_failed_can_be_fetched_again(tmp_path: Path, studies: Studies):
    from VertebralFractureQuantLib.archive.web import fetch_study

    def meanwhile() -> None:
        raise ConnectionError("cut")

    with pytest.raises(VFQError) as refused:
        fetch_study(OneSeries(studies.make(1, slices=slice(2)), meanwhile), "1.2", tmp_path)
    assert refused.value.code == "archive_unreachable"
    assert len(list(fetch_study(OneSeries(studies.make(1, slices=slice(2))), "1.2", tmp_path).iterdir())) == 2


def test_a_patients_other_studies_are_fetched_when_one_is_there_or_on_its_way(tmp_path: Path, monkeypatch):
    from VertebralFractureQuantLib.archive import web

    def fetched(client: object, uid: str, output: Path, tell: object) -> Path:
        if uid in ("1", "2"):
            raise VFQError({"1": "output_exists", "2": "fetch_in_progress"}[uid], "Said.")
        return output / uid

    monkeypatch.setattr(web, "connect", lambda url: None)
    monkeypatch.setattr(web, "find_studies", lambda *_: ["1", "2", "3"])
    monkeypatch.setattr(web, "fetch_study", fetched)
    done = CliRunner().invoke(app, ["fetch", "https://pacs/x", "--patient", "4711", "--output", str(tmp_path)])
    assert done.exit_code == 3
    assert "output_exists: Said." in done.output and "fetch_in_progress: Said." in done.output
    assert f"{tmp_path / '3'} fetched." in done.output


def test_images_that_a_killed_fetch_left_are_deleted_by_the_next_one(tmp_path):
    from VertebralFractureQuantLib.archive import web

    hours = [2.0, 0.1, 2.0]
    left = [tmp_path / f".partial-0000000{i}-{name}" for i, name in enumerate(("study", "study", "other"))]
    for folder, age in zip(left, hours, strict=True):
        folder.mkdir()
        (folder / "image.dcm").write_bytes(b"pixels")
        os.utime(folder, (time.time() - 3600 * age,) * 2)
    web.discard_abandoned(tmp_path / "study")
    assert [folder.exists() for folder in left] == [False, True, True]  # one may be running, one is another study
