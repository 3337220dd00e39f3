"""The examples for 3D Slicer do what they say."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer", reason="needs slicer-core: pip install '.[review]'")
pytest.importorskip("PySide6", reason="needs Qt: pip install '.[test]'")

from desktop_bench import add_volume, make_analysis, make_ct
from VertebralFractureQuantLib import analysis as room
from VertebralFractureQuantLib.errors import VFQError
from VertebralFractureQuantLib.spine.record_json import read_analysis

EXAMPLES = Path(__file__).resolve().parents[1] / "Examples"


def test_every_ct_of_the_scene_is_measured_and_the_others_are_left_alone(opened, tmp_path, monkeypatch, capsys):
    """`opened` has a study with the volume "CT" and its straightened image in the scene."""

    def analyze(ct, models):
        if ct.voxels.max() == 1:
            raise VFQError("not_ct", "No Hounsfield units.")
        return make_analysis(ct, ct.name)

    monkeypatch.setattr(room, "load_models", lambda device: None)
    monkeypatch.setattr(room, "analyze", analyze)
    add_volume(make_ct(), "Second")
    add_volume(replace(make_ct(), voxels=(make_ct().voxels > 0).astype(np.int16)), "Mask")
    measured = runpy.run_path(str(EXAMPLES / "measure_scene_in_slicer.py"))["measure_scene"](tmp_path / "measured")
    assert sorted(measured) == ["CT", "Second"]
    assert sorted(p.name for p in (tmp_path / "measured").iterdir()) == ["CT", "Second"]
    assert len(read_analysis(tmp_path / "measured" / "Second" / "analysis.json").vertebrae) == 6
    told = capsys.readouterr().out
    assert "Mask: not_ct" in told and "Second: " in told and "6 vertebrae" in told and "Straightened" not in told
