"""The journal: every finished action is on disk, whatever happens next."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.scene.journal import Journal

FIRST = {"curve": [[0.1, 0.2, 0.30000000000000004]], "v1": {"keypoints": [1 / 3], "level": None}, "v2": {"level": "L1"}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "review.sqlite"


@pytest.fixture
def journal(path: Path):
    journal = Journal(path, FIRST, {"models": ["abc"]})
    yield journal
    journal.close()


def reopened(journal: Journal, path: Path) -> Journal:
    journal.close()
    return Journal(path, {"something": "else"})


def test_a_new_journal_holds_the_first_state(journal):
    assert journal.state == journal.original == FIRST
    assert (journal.undoable, journal.redoable, journal.unsaved, journal.problem) == (None, None, 0, None)


def test_actions_survive_closing_to_the_last_digit(journal, path):
    journal.commit("move", {"v1": {"keypoints": [0.1 + 0.2, 1e-17]}}, "a")
    journal.commit("delete", {"v2": None}, "b")
    state = journal.state
    again = reopened(journal, path)
    assert again.state == state and "v2" not in again.state
    assert again.original == FIRST and again.context == {"models": ["abc"]}
    assert [(a.number, a.who, a.kind) for a in again.trail()] == [(1, "a", "move"), (2, "b", "delete")]
    again.close()


def test_a_commit_without_a_change_is_no_action(journal):
    journal.commit("move", {"v1": FIRST["v1"]}, "a")
    journal.commit("move", {"v1": {"keypoints": (1 / 3,), "level": None}}, "a")  # a tuple, which JSON reads as a list
    journal.commit("delete", {"never there": None}, "a")
    assert journal.trail() == []


def test_later_changes_by_the_caller_do_not_reach_the_journal(journal):
    points = [1.0, 2.0]
    journal.commit("move", {"v1": {"keypoints": points}}, "a")
    points.append(3.0)
    assert journal.state["v1"] == {"keypoints": [1.0, 2.0]}


@pytest.mark.parametrize("kind", ["undo", "redo"])
def test_undo_and_redo_cannot_be_committed_as_actions(journal, kind):
    with pytest.raises(ValueError, match="cannot be committed as an action"):
        journal.commit(kind, {"v1": 1}, "a")
    assert journal.trail() == []


def test_undo_and_redo_go_through_all_actions_also_after_reopening(journal, path):
    states = [dict(journal.state)]
    for i in range(5):
        journal.commit(f"act{i}", {"v1": {"n": i}, f"new{i}": i}, "a")
        states.append(dict(journal.state))
    journal.undo("a")
    journal = reopened(journal, path)
    assert journal.redoable == "act4"
    for expected in reversed(states[:-2]):
        assert journal.undo("a")
        assert journal.state == expected
    assert journal.undo("a") is None
    for expected in states[1:]:
        assert journal.redo("a")
        assert journal.state == expected
    assert journal.redo("a") is None
    journal.close()


def test_undo_returns_what_changed(journal):
    journal.commit("delete", {"v2": None}, "a")
    assert journal.undo("a") == {"v2": (None, {"level": "L1"})}
    assert journal.redo("a") == {"v2": ({"level": "L1"}, None)}


def test_after_a_new_action_there_is_nothing_to_redo(journal):
    journal.commit("one", {"v1": 1}, "a")
    journal.undo("a")
    journal.commit("two", {"v1": 2}, "a")
    assert journal.redoable is None and journal.redo("a") is None
    assert journal.undoable == "two"


def test_the_trail_only_grows_and_cannot_be_rewritten(journal, path):
    journal.commit("one", {"v1": 1}, "a")
    journal.undo("b")
    journal.redo("c")
    assert [(a.kind, a.who, a.undoes) for a in journal.trail()] == [
        ("one", "a", None),
        ("undo", "b", 1),
        ("redo", "c", 1),
    ]
    journal.close()
    with sqlite3.connect(path) as file:
        for statement in ("UPDATE acts SET who = 'x'", "DELETE FROM acts"):
            with pytest.raises(sqlite3.IntegrityError, match="never"):
                file.execute(statement)
    file.close()


@settings(deadline=None, max_examples=25)
@given(st.lists(st.sampled_from(["commit", "delete", "undo", "redo"]), max_size=30))
def test_any_sequence_of_actions_reads_back_unchanged(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("j") / "review.sqlite"
    journal = Journal(path, FIRST)
    for i, step in enumerate(steps):
        if step == "commit":
            journal.commit("set", {f"v{i % 3}": i}, "a")
        elif step == "delete":
            journal.commit("delete", {f"v{i % 3}": None}, "a")
        else:
            getattr(journal, step)("a")
    seen = journal.state, journal.undoable, journal.redoable, journal.trail()
    journal = reopened(journal, path)
    assert (journal.state, journal.undoable, journal.redoable, journal.trail()) == seen
    journal.close()


def test_after_kill_9_every_finished_action_is_there(path):
    script = f"""
import sys
from pathlib import Path
from VertebralFractureQuantLib.scene.journal import Journal
journal = Journal(Path({str(path)!r}), {{}})
for i in range(10_000):
    journal.commit("set", {{"n": i}}, "a")
    print(i, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    for line in child.stdout:
        if int(line) == 40:
            break
    os.kill(child.pid, signal.SIGKILL) if hasattr(signal, "SIGKILL") else child.kill()
    printed = [40, *map(int, child.stdout.read().split())]
    child.wait()
    journal = Journal(path, {})
    assert journal.state["n"] >= printed[-1]
    assert len(journal.trail()) == journal.state["n"] + 1
    journal.close()


def test_a_second_opener_is_refused_at_once(journal, path):
    start = time.perf_counter()
    with pytest.raises(VFQError, match="open in another window") as caught:
        Journal(path, FIRST)
    assert caught.value.code == "study_in_use"
    assert time.perf_counter() - start < 3  # SQLite's own wait for a lock is 5 s


def test_another_process_is_refused_until_the_journal_is_closed(journal, path):
    script = f"""
from pathlib import Path
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.scene.journal import Journal
try:
    print(Journal(Path({str(path)!r}), {{}}).original["v2"]["level"])
except VFQError as error:
    print(error.code)
"""
    said = [subprocess.check_output([sys.executable, "-c", script], text=True).strip()]
    journal.close()
    said.append(subprocess.check_output([sys.executable, "-c", script], text=True).strip())
    assert said == ["study_in_use", "L1"]


def test_a_folder_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(VFQError) as caught:
        Journal(tmp_path / "file" / "review.sqlite", FIRST)
    assert caught.value.code == "output_not_writable"


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be read as a header" * 40, b"SQLite format 3\0" + b"\1" * 200]
)
def test_a_damaged_file_is_not_a_journal(path, content):
    path.write_bytes(content)
    with pytest.raises(VFQError) as caught:
        Journal(path, FIRST)
    assert caught.value.code == "not_a_journal"
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_left_unchanged(path):
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE mine (x)")
    file.close()
    with pytest.raises(VFQError) as caught:
        Journal(path, FIRST)
    assert caught.value.code == "not_a_journal"
    with sqlite3.connect(path) as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    file.close()


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE origin",
        "DROP TABLE acts",
        "UPDATE origin SET value = '7'",
        "UPDATE origin SET value = '{'",
        "INSERT INTO acts VALUES (1, 't', 'a', 'undo', '{}', NULL)",
        "INSERT INTO acts VALUES (1, 't', 'a', 'set', '[]', NULL)",
        "INSERT INTO acts VALUES (1, 't', 'a', 'set', '{\"v1\": 7}', NULL)",
    ],
)
def test_a_damaged_journal_is_refused_and_not_locked(journal, path, damage):
    journal.close()
    with sqlite3.connect(path) as file:
        file.execute(damage)
    file.close()
    for _ in range(2):  # the first refusal must not keep the file locked
        with pytest.raises(VFQError, match="damaged") as caught:
            Journal(path, FIRST)
        assert caught.value.code == "not_a_journal"


def test_a_newer_journal_is_refused(journal, path):
    journal.close()
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version=99")
    file.close()
    with pytest.raises(VFQError, match="newer") as caught:
        Journal(path, FIRST)
    assert caught.value.code == "not_a_journal"


def test_actions_that_the_disk_refuses_are_written_later(journal, path):
    journal._file.execute("PRAGMA max_page_count=6")
    big = "x" * 50_000
    journal.commit("one", {"v1": big}, "a")
    journal.commit("two", {"v2": 2}, "a")
    assert journal.unsaved == 2 and "cannot be written" in journal.problem
    assert journal.state["v2"] == 2 and journal.undoable == "two"
    journal._file.execute("PRAGMA max_page_count=100000")
    journal.flush()
    assert journal.unsaved == 0 and journal.problem is None
    again = reopened(journal, path)
    assert again.state["v1"] == big and again.state["v2"] == 2
    again.close()


def test_values_that_are_not_json_are_refused_before_anything_changes(journal):
    with pytest.raises(ValueError):
        journal.commit("set", {"v1": float("nan")}, "a")
    assert journal.state == FIRST and journal.trail() == []
