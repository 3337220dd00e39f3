"""The scripted module: the four classes that 3D Slicer looks for, thin around `VertebralFractureQuantLib`.

Today it offers its Logic to the Python console and to scripts; its panel says so. Points stay RAS mm, as in MRML.
"""

from __future__ import annotations

import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

RESEARCH_USE = "For research use only, not for diagnosis."


class VertebralFractureQuant(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = "Vertebral Fracture Quantification"
        parent.categories = ["Quantification"]
        parent.contributors = ["The VertebralFractureQuant authors"]
        parent.helpText = "Six key points, heights, Genant ratio and grade of every vertebra on a CT. " + RESEARCH_USE
        parent.acknowledgementText = "Method: Zakharov et al. 2023, anchor-free landmark localisation."


class VertebralFractureQuantWidget(ScriptedLoadableModuleWidget):
    """A panel that tells what works today and pretends nothing."""

    def setup(self):
        """Called by Slicer when the panel is first opened."""
        super().setup()
        import qt

        text = (
            "The analysis runs from the Python console:\n\n"
            "logic = slicer.modules.VertebralFractureQuantWidget.logic\n"
            "logic.analyze(slicer.util.getNode('MyCT'))\n\n" + RESEARCH_USE
        )
        self.logic = VertebralFractureQuantLogic()
        label = qt.QLabel(text)
        label.wordWrap = True
        self.layout.addWidget(label)
        self.layout.addStretch(1)


class VertebralFractureQuantLogic(ScriptedLoadableModuleLogic):
    """From a volume node to a measured spine."""

    def analyze(self, volumeNode, device="auto"):
        """The `SpineAnalysis` of a vtkMRMLScalarVolumeNode that holds a CT.

        Raises
        ------
        VFQError : with a code and a message that says what to do, when it cannot be measured.
        """
        from VertebralFractureQuantLib.analysis import analyze, load_models

        return analyze(self.ctFromNode(volumeNode), load_models(device))

    def ctFromNode(self, volumeNode):
        """The node's voxels and geometry as a checked `CTVolume`; a linear parent transform is applied."""
        from VertebralFractureQuantLib.scene.volumes import ct_of

        return ct_of(volumeNode)


class VertebralFractureQuantTest(ScriptedLoadableModuleTest):
    """Slicer's self test: geometry survives the way from a node."""

    def runTest(self):
        """Called by Slicer's self-test."""
        import numpy as np

        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
        voxels = np.linspace(-1000, 900, 120).astype(np.int16).reshape(4, 5, 6)
        slicer.util.updateVolumeFromArray(node, voxels)
        node.SetSpacing(0.7, 0.8, 2.0)
        node.SetOrigin(10, 20, 30)
        ct = VertebralFractureQuantLogic().ctFromNode(node)
        np.testing.assert_array_equal(ct.voxels, voxels)
        np.testing.assert_allclose(ct.spacing_mm, (2.0, 0.8, 0.7))
        np.testing.assert_allclose(ct.ijk_to_ras[:3, 3], (10, 20, 30))
