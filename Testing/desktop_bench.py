"""A small study, and the module with a child process that the test controls. No network runs."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install '.[review]'")
pytest.importorskip("PySide6", reason="needs Qt: pip install '.[test]'")

from harness.desktop import Desktop  # noqa: E402
from harness.drag import press_and_release  # noqa: E402
from VertebralFractureQuantLib.analysis.curve_repair import PresentCurve, repaired_curve  # noqa: E402
from VertebralFractureQuantLib.cohort import background  # noqa: E402
from VertebralFractureQuantLib.cohort.jobs import MODULE as CHILD  # noqa: E402
from VertebralFractureQuantLib.cohort.jobs import _parser  # noqa: E402
from VertebralFractureQuantLib.desktop.labels import BREAK  # noqa: E402
from VertebralFractureQuantLib.errors import VFQError  # noqa: E402
from VertebralFractureQuantLib.imaging.ct import CTVolume  # noqa: E402
from VertebralFractureQuantLib.imaging.files import read_ct  # noqa: E402
from VertebralFractureQuantLib.report.outputs import write_outputs  # noqa: E402
from VertebralFractureQuantLib.scene.machine import Machine  # noqa: E402
from VertebralFractureQuantLib.scene.straight import Reformat, reformat  # noqa: E402
from VertebralFractureQuantLib.scene.volumes import show_ct  # noqa: E402
from VertebralFractureQuantLib.spine.curve import SpineCurve, fit_curve  # noqa: E402
from VertebralFractureQuantLib.spine.genant import measure_column  # noqa: E402
from VertebralFractureQuantLib.spine.levels import NAMES  # noqa: E402
from VertebralFractureQuantLib.spine.record import SpineAnalysis, Vertebra  # noqa: E402
from VertebralFractureQuantLib.spine.straightening import Straightening  # noqa: E402

MODULE = Path(__file__).resolve().parents[1] / "VertebralFractureQuant" / "VertebralFractureQuant.py"
LEVELS = ("T9", "T10", "T11", "T12", "L1", "L2")
COLUMN = NAMES[:23]
NO_NETWORKS = VFQError("bad_weights", "No networks in this test.")


@lru_cache
def make_ct(millimetres: float = 252.0) -> CTVolume:
    """Return an oblique, anisotropic CT with a gradient, `millimetres` high from head to foot."""
    shape = round(millimetres / 2.8), 80, 85
    voxels = np.add.outer(np.add.outer(np.arange(shape[0]), np.arange(shape[1])), np.arange(shape[2])) - 200
    turn = np.deg2rad(7)
    axes = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1.0]])
    matrix = np.eye(4)
    matrix[:3, :3] = axes * [2.0, 2.0, 2.8]
    matrix[:3, 3] = (-80.0, -70.0, -millimetres + 2.0)
    return CTVolume(voxels.astype(np.int16), matrix, "gradient")


def make_analysis(ct: CTVolume, case: str = "CT", levels: Sequence[str] = LEVELS, pitch: float = 32.0) -> SpineAnalysis:
    """Return an analysis with box-shaped vertebrae along a scoliotic curve; the third is lower in the middle.

    Each box is 0.7 `pitch` high (22.4 mm by default).
    """
    s = np.linspace(0, -pitch * len(levels) - 40, 40)
    curve = fit_curve(np.stack([18 * np.sin(s / 60), 12 * np.cos(s / 90), s], 1))
    boxes = np.stack([box(-20 - pitch * i, 0.7 * pitch) for i in range(len(levels))])
    boxes[2, 1, 0, 2] -= 5.0
    keypoints = Straightening(curve).to_patient(boxes)
    measured = measure_column(keypoints, [0.05] * len(levels))
    each = zip(keypoints, measured, levels, strict=True)
    vertebrae = (Vertebra(k, m, 0.99, level, spread=0.05) for k, m, level in each)
    return SpineAnalysis(
        case,
        shape=ct.voxels.shape,
        spacing_mm=ct.spacing_mm,
        ijk_to_ras=ct.ijk_to_ras,
        curve=curve.points,
        limits_mm=(0.0, curve.length),
        vertebrae=tuple(vertebrae),
    )


def box(s: float, height: float = 22.0) -> np.ndarray:
    """Return the key points `(3, 2, 3)`, straight mm, of a box-shaped body with its centre at S = `s`."""
    return np.array([[[0.5 * a / 15, a, s + h] for h in (height / 2, -height / 2)] for a in (15.0, 0.0, -15.0)])


_reformats: dict[Hashable, Reformat] = {}


def remembered(ct: CTVolume, curve: SpineCurve) -> Reformat:
    """Cache `reformat` for each CT and curve; it takes most of the time of a small study."""
    key = crc32(ct.voxels.tobytes()), ct.ijk_to_ras.tobytes(), curve.points.tobytes()
    return _reformats.get(key) or _reformats.setdefault(key, reformat(ct, curve))


class FakeMachine(Machine):
    """Answers clicks without networks: a box at a click, three boxes along a drawn curve."""

    def propose(self, curve: SpineCurve, straight: np.ndarray) -> Vertebra:
        keypoints = Straightening(curve).to_patient(box(float(straight[2])) + [0, float(straight[1]), 0])
        return Vertebra(keypoints, measure_column(keypoints[None])[0], 0.8, spread=0.04)

    def along(self, points: np.ndarray, present: PresentCurve | None = None) -> tuple[SpineAnalysis, Reformat]:
        curve = repaired_curve(present.curve, points) if present else fit_curve(points[np.argsort(-points[:, 2])])
        found = make_analysis(self.ct, "along", LEVELS[:3])
        return replace(found, curve=curve.points, limits_mm=(0.0, curve.length)), reformat(self.ct, curve)


class Child:
    """A `cohort.jobs.Process` that the test controls."""

    def __init__(self, command: Sequence[str], analysis: Callable[[CTVolume], SpineAnalysis]):
        self.wanted = self._parsed(list(command))
        self.killed = False
        self.words = ""
        self._analysis = analysis
        self._said: list[str] = []
        self._status: int | None = None
        self._more = threading.Condition()

    def say(self, *said: dict[str, Any], end: int | None = None) -> None:
        """Write lines to standard output, then end with the exit status `end`, if given."""
        with self._more:
            self._said += [json.dumps(each) + "\n" for each in said]
            self._status = end
            self._more.notify_all()

    def done(self) -> None:
        """Write the analysis as the real child process does, and end."""
        try:
            ct = read_ct(self.wanted.input)
            record = replace(self._analysis(ct), case=self.wanted.case)
        except VFQError as error:
            ct, record = None, SpineAnalysis(self.wanted.case, status=error.code, message=error.message)
        write_outputs(record, ct, self.wanted.output, self.wanted.overwrite, pictures=False)
        self.say(
            {"done": True} if record.status == "ok" else {"error": record.status, "message": record.message}, end=0
        )

    def _parsed(self, command: list[str]) -> Any:
        return _parser().parse_args(command[command.index(CHILD) + 1 :])

    # -- the methods of a process

    def lines(self) -> Iterator[str]:
        while True:
            with self._more:
                self._more.wait_for(lambda: self._said or self._status is not None)
                if not self._said:
                    return
                line = self._said.pop(0)
            yield line

    def wait(self) -> int:
        return self._status or 0

    def last_words(self) -> str:
        return self.words

    def kill(self) -> None:
        self.killed = True
        self.say(end=-9)


@dataclass(frozen=True)
class CohortEngine:
    """Reads scans as the library does, and measures them with a function of the test."""

    analysis: Callable[[CTVolume], SpineAnalysis]

    def read_ct(self, path: Path, series: Any = None, trust_header: bool = False, files: Any = None) -> CTVolume:
        return read_ct(path, series=series, trust_header=trust_header, files=files)

    def load_models(self, device: str) -> str:
        return device

    def analyze(self, ct: CTVolume, models: Any, progress: Any = None, trust_header: bool = False) -> SpineAnalysis:
        found = self.analysis(ct)
        if found.status != "ok":
            raise VFQError(found.status, found.message)
        return found


class CohortChild(Child):
    """The child process of a cohort."""

    def done(self) -> None:
        """Run the cohort as the real child process does, and end."""
        background.run(self.wanted, self.say, CohortEngine(self._analysis))
        self.say(end=0)

    def _parsed(self, command: list[str]) -> Any:
        return background.options_of(command[command.index(background.MODULE) + 1 :])


class Children:
    """Starts child processes. If `at_once`, each is done at once; else the test controls it."""

    def __init__(self) -> None:
        self.started: list[Child] = []
        self.at_once = True
        self.analysis: Callable[[CTVolume], SpineAnalysis] = make_analysis

    def __call__(self, command: Sequence[str]) -> Child:
        kind = CohortChild if background.MODULE in command else Child
        self.started.append(kind(command, self.analysis))
        if self.at_once:
            self.started[-1].done()
        return self.started[-1]


class Bench:
    """The module with a CT, its child processes and its results folder, and the actions of a user."""

    def __init__(self, desktop: Desktop, folder: Path):
        self.desktop = desktop
        self.folder = folder
        self.children = Children()
        self.settle_in()

    def settle_in(self) -> None:
        """Set up the opened or reloaded module: results folder, no networks, controlled children, short waits."""
        from VertebralFractureQuantLib.desktop import analysing, face
        from VertebralFractureQuantLib.scene import open_case, opening

        opening.reformat = open_case.reformat = remembered
        analysing.POLL_MS = face.POLL_MS = 5
        face.WAITED_FOR_S = face.BESIDE_S = 0.002
        self.ui.resultsPathLineEdit.currentPath = str(self.folder)
        self.widget.analyst._start = self.children
        self.widget.analyst.models = lambda: NO_NETWORKS

    widget = property(lambda self: self.desktop.widget)
    ui = property(lambda self: self.desktop.ui)
    review = property(lambda self: self.widget.face.review)
    study = property(lambda self: self.review.study)
    # None while a study is being opened, so that a test waits for all of it
    editor = property(lambda self: None if self.widget.face.in_steps else self.review.editor)
    said = property(lambda self: self.ui.messageLabel.text.replace(BREAK, ""))

    def add_volume(self, ct: CTVolume, name: str = "CT") -> Any:
        """Add a CT as a volume node and choose it as the input."""
        node = add_volume(ct, name)
        self.ui.inputSelector.setCurrentNode(node)
        return node

    def analyze(self) -> None:
        """Press Analyse and wait for the study."""
        before = self.editor
        self.desktop.press("analyzeButton")
        self.wait_for_study(before)

    def wait_for_study(self, before: Any = None) -> None:
        """Wait until a study other than `before` is open, give it a `FakeMachine`, and go to its first vertebra."""
        self.desktop.wait(lambda: self.editor not in (None, before))
        self.editor.machine = FakeMachine(self.editor.machine.ct, None)
        self.review.select(next(iter(self.study.order), None))
        self.desktop.events()

    def rest(self) -> None:
        """Wait until no thread, no opening and no analysis runs."""
        face, analyst = self.widget.face, self.widget.analyst
        self.desktop.wait(lambda: not face._works and not face.in_steps and not analyst.busy)

    def saved(self) -> dict[str, Any]:
        """Save everything and return the analysis.json of the open study."""
        self.widget.face.save_now()
        return json.loads((self.review.folder / "analysis.json").read_text(encoding="utf-8"))

    def markups(self, row: int) -> Any:
        """Return the vertebra of a row, in cranial order."""
        return self.study.vertebrae[self.study.order[row]]

    def cell(self, row: int, column: int) -> str:
        """Return the text of a cell in the panel's table."""
        return self.ui.vertebraTable.item(row, column).text()

    def shown_ratios(self) -> list[float]:
        """Return G of all rows in the MRML table."""
        column = self.study.nodes["measurements"].GetTable().GetColumnByName("G")
        return [column.GetValue(i) for i in range(column.GetNumberOfValues())]

    def click(self, view: str, world: Sequence[float], moved: bool = True) -> None:
        """Click with the left button at a point in the world coordinates of a slice view, after a mouse move or not."""
        press_and_release(view, pixel(view, world), moved=moved)
        self.desktop.events()


def add_volume(ct: CTVolume, name: str = "CT") -> Any:
    """Add a CT to the scene as a volume node."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    show_ct(node, ct)
    return node


def pixel(view: str, world: Sequence[float]) -> np.ndarray:
    """Return the pixel `(2,)` of a point in the world coordinates of a slice view."""
    node = slicer.app.layoutManager().sliceWidget(view).mrmlSliceNode()
    to_world = slicer.util.arrayFromVTKMatrix(node.GetXYToRAS())
    return (np.linalg.inv(to_world) @ [*world, 1.0])[:2]


@contextmanager
def library_kept() -> Iterator[None]:
    """Restore the library's modules afterwards, because a reload of the module imports the library again."""
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "VertebralFractureQuantLib"}
    try:
        yield
    finally:
        for name in [n for n in sys.modules if n.split(".")[0] == "VertebralFractureQuantLib"]:
            del sys.modules[name]
        sys.modules.update(before)
