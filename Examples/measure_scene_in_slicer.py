"""Measure every CT of the current scene of 3D Slicer. In its Python console:

    exec(open("Examples/measure_scene_in_slicer.py").read())
    measure_scene("RESULTS")

The results of a volume go to the folder RESULTS/<name of the volume>, as `vfq analyze` writes them. Label maps,
straightened images of open studies and volumes with results are left alone. Slicer waits while it runs; the Cohort
section of the module measures a folder of scans in the background.
"""

import slicer
from VertebralFractureQuantLib.errors import as_coded
from VertebralFractureQuantLib.scene.volumes import ROLE

from VertebralFractureQuant import VertebralFractureQuantLogic


def measure_scene(results, device="auto"):
    """Measure each volume, write its results and print a line for it. Returns the analyses by name of the volume."""
    logic, found = VertebralFractureQuantLogic(), {}
    for volume in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        if volume.IsA("vtkMRMLLabelMapVolumeNode") or volume.GetAttribute(ROLE) not in (None, "ct"):
            continue
        try:
            analysis = logic.analyze(volume, device)
            logic.export(analysis, volume, results)
        except Exception as error:
            failure = as_coded(error)
            print(f"{volume.GetName()}: {failure.code}: {failure.message}")
            continue
        found[volume.GetName()] = analysis
        worst = analysis.patient_grade or "no vertebra assessed"
        print(f"{volume.GetName()}: {worst}, {len(analysis.graded)} vertebrae, SDI {analysis.spinal_deformity_index}")
    return found
