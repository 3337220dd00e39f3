"""The panel's choices that are stored in the scene.

They are not in the module's file, because Slicer's parameter node wrapper needs Qt, which `PythonSlicer` lacks.
"""

from __future__ import annotations

from typing import Annotated

import slicer
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper

from ..scene.outlines import PALETTES

DEVICES = ("auto", "cpu", "cuda", "mps")


@parameterNodeWrapper
class VertebralFractureQuantParameterNode:
    """The module's parameters.

    Attributes
    ----------
    inputVolume : the CT.
    device : where the networks run.
    trustHeader : analyse even if the body contradicts the volume's orientation or spacing.
    palette : the colours of the vertebrae, a name in `PALETTES`.
    """

    inputVolume: slicer.vtkMRMLScalarVolumeNode  # noqa: N815 (Slicer's naming, used in the .ui file)
    device: Annotated[str, Choice(list(DEVICES))] = DEVICES[0]
    trustHeader: bool = False  # noqa: N815
    palette: Annotated[str, Choice(list(PALETTES))] = next(iter(PALETTES))
