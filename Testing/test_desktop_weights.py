"""The weights in the module's panel: the choice of `vfq weights use`, networks that follow it, and what measured."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install '.[review]'")
pytest.importorskip("PySide6", reason="needs Qt: pip install '.[test]'")
pytest.importorskip("torch", reason="needs torch, which makes the small networks")

from desktop_bench import Bench, add_volume, make_analysis, make_ct  # noqa: E402
from test_weights import trained  # noqa: E402
from VertebralFractureQuantLib.desktop.labels import BREAK  # noqa: E402
from VertebralFractureQuantLib.networks import installed  # noqa: E402


@dataclass
class Networks:
    """Stands in for loaded networks: their identities."""

    stamps: tuple


class Weights:
    """A second set "ours" with a detector, and the module's choice."""

    def __init__(self, bench: Bench, folder: Path, monkeypatch):
        from VertebralFractureQuantLib.desktop import analysing

        self.bench, self.ui = bench, bench.ui
        self.file = trained(folder / "ours")
        installed.install(self.file)
        self.loaded: list[tuple] = []
        monkeypatch.setattr(analysing, "load_models", self._load)
        del bench.widget.analyst.models  # the bench's stand-in
        bench.widget.weights.show()

    def _load(self, device: str) -> Networks:
        self.loaded.append(installed.networks_of(installed.in_use()))
        return Networks(tuple(replace(stamp, backend="openvino") for stamp in self.loaded[-1]))

    told = property(lambda self: self.ui.weightsLabel.text.replace(BREAK, ""))

    def choose(self, name: str) -> None:
        """Choose a set in the panel, and wait until its networks are loaded."""
        self.ui.weightsComboBox.currentText = name
        self.ui.weightsComboBox._real.textActivated.emit(name)
        self.bench.rest()
        self.bench.desktop.events()

    def study(self, name: str | None = None) -> None:
        """Open a study that a set measured; None for one that names no network."""
        stamps = () if name is None else installed.networks_of(next(s for s in installed.listed() if s.name == name))
        self.bench.children.analysis = lambda ct: replace(make_analysis(ct), models=stamps)
        self.bench.ui.inputSelector.setCurrentNode(add_volume(make_ct(), f"CT {name}"))
        before = self.bench.editor
        self.bench.desktop.press("analyzeButton")
        self.bench.desktop.wait(lambda: self.bench.editor not in (None, before))
        self.bench.rest()


@pytest.fixture
def weights(empty, tmp_path, monkeypatch):
    for name in ("XDG_CONFIG_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "settings"))
    return Weights(empty, tmp_path, monkeypatch)


def detector(stamps) -> str:
    return next(stamp.sha256 for stamp in stamps if stamp.role == "detector")


def test_the_panel_lists_the_sets_and_names_the_networks_in_use(weights):
    box = weights.ui.weightsComboBox
    assert [box.itemText(i) for i in range(box.count)] == ["shipped", "ours"] and box.currentText == "shipped"
    shipped = installed.networks_of(installed.in_use())
    assert [stamp.role for stamp in shipped] == ["localizer", "refiner", "detector"]
    for stamp in shipped:
        assert f"{stamp.name} ({stamp.sha256[:8]})" in weights.told and stamp.role in stamp.name
    weights.choose("ours")
    assert installed.name_in_use() == "ours" and "ours is in use from now on" in weights.bench.said
    assert f"detector 1 ({detector(weights.loaded[-1])[:8]})" in weights.told
    assert f"{shipped[0].name} ({shipped[0].sha256[:8]})" in weights.told  # the set has none of its own
    assert "open study" not in weights.told


def test_networks_that_are_loaded_follow_the_choice_without_a_restart(weights):
    weights.study("shipped")
    machine = weights.bench.editor.machine
    before = detector(machine.models.stamps)
    assert len(weights.loaded) == 1 and weights.told.endswith("They measured the open study.")
    weights.choose("ours")
    assert weights.bench.editor.machine is machine and detector(machine.models.stamps) != before
    assert "The open study was measured by others, the weights shipped: " in weights.told and before[:8] in weights.told
    assert "Analyse the CT again" in weights.told
    weights.choose("ours")  # it is in use already
    weights.study("ours")
    assert len(weights.loaded) == 2 and weights.told.endswith("They measured the open study.")
    installed.use("shipped")  # by the command, while another module is shown
    weights.bench.desktop.widget.exit()
    weights.bench.desktop.widget.enter()
    weights.bench.rest()
    assert detector(weights.bench.editor.machine.models.stamps) == before
    assert weights.ui.weightsComboBox.currentText == "shipped" and "the weights ours" in weights.told


def test_a_study_that_was_being_opened_with_other_networks_gets_those_in_use(weights):
    weights.choose("ours")
    weights.study("ours")
    machine, loads = weights.bench.editor.machine, len(weights.loaded)
    installed.use("shipped")
    machine.models = Networks(installed.networks_of(installed.in_use()))
    installed.use("ours")
    weights.bench.widget.face.changed()
    weights.bench.rest()
    assert machine.models.stamps[2].name == "detector 1" and len(weights.loaded) == loads
    weights.bench.widget.face.changed()
    assert not weights.bench.widget.face._works, "once is enough"


def test_a_study_that_no_network_measured_or_that_is_unknown_is_said_so(weights):
    weights.study(None)
    assert weights.told.endswith("No network measured the open study.")
    weights.study("ours")
    shutil.rmtree(installed.folder_of("ours"))
    weights.bench.widget.weights.show()
    assert "measured by localizer" in weights.told and "detector 1" in weights.told


def test_a_study_begun_by_hand_keeps_its_networks_off(weights):
    weights.bench.add_volume(make_ct())
    weights.bench.desktop.press("beginButton")
    weights.bench.desktop.wait(lambda: weights.bench.editor is not None)
    weights.choose("ours")
    assert weights.loaded and weights.bench.editor.machine.models is None


def test_damaged_weights_are_refused_and_verifying_names_them(weights):
    weights.bench.desktop.press("verifyButton")
    weights.bench.rest()
    assert (
        "shipped: 3 networks are intact" in weights.bench.said and "ours: 1 networks are intact" in weights.bench.said
    )
    inside = installed.folder_of("ours") / weights.file.name
    inside.write_bytes(inside.read_bytes()[:-1] + b"x")
    weights.choose("ours")
    assert "is damaged or was replaced" in weights.bench.said
    assert installed.name_in_use() == weights.ui.weightsComboBox.currentText == "shipped" and not weights.loaded
    weights.bench.desktop.press("verifyButton")
    weights.bench.rest()
    assert "shipped: 3 networks" in weights.bench.said and "ours: The detector weights cannot" in weights.bench.said


def test_weights_in_use_that_are_gone_are_said_and_another_choice_brings_the_networks_back(weights):
    weights.choose("ours")
    shutil.rmtree(installed.folder_of("ours"))
    weights.bench.widget.weights.show()
    assert weights.ui.weightsComboBox.currentIndex == -1 and "No weights are installed as 'ours'" in weights.told
    weights.study("shipped")
    assert weights.bench.editor.machine.models is None
    weights.choose("shipped")
    assert weights.bench.editor.machine.models is not None and weights.told.endswith("They measured the open study.")


def test_no_other_weights_are_chosen_while_an_analysis_runs(weights):
    weights.bench.children.at_once = False
    weights.bench.add_volume(make_ct())
    weights.bench.desktop.press("analyzeButton")
    weights.bench.desktop.wait(lambda: weights.bench.children.started)
    weights.ui.weightsComboBox._real.textActivated.emit("ours")
    assert "Choose others when it has ended" in weights.bench.said and installed.name_in_use() == "shipped"
    weights.bench.children.started[0].done()
    weights.bench.rest()


def test_files_are_checked_even_where_torch_is_missing(weights, monkeypatch):
    def load(role, path):
        raise ImportError("No module named 'torch'")

    monkeypatch.setattr(installed.weights, "load", load)
    weights.bench.desktop.press("verifyButton")
    weights.bench.rest()
    assert "ours: its files fit their model cards. Loading them was not tried" in weights.bench.said
