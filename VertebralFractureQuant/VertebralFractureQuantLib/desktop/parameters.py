"""What the scene keeps of the panel's choices.

It does not stand in the module's file because Slicer's wrapper of parameter nodes needs Qt, which `PythonSlicer` lacks.
"""

from __future__ import annotations

from typing import Annotated

import slicer
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper

from ..scene.outlines import PALETTES

DEVICES = ("auto", "cpu", "cuda", "mps")


@parameterNodeWrapper
class VertebralFractureQuantParameterNode:
    """inputVolume : the CT. device : where the networks run. palette : whether colours tell the grade."""

    inputVolume: slicer.vtkMRMLScalarVolumeNode  # noqa: N815 (Slicer's manner, and the .ui's)
    device: Annotated[str, Choice(list(DEVICES))] = DEVICES[0]
    palette: Annotated[str, Choice(list(PALETTES))] = next(iter(PALETTES))
