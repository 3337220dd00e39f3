"""Measure scans in 3D Slicer without a window:

    Slicer --no-splash --no-main-window --python-script Examples/measure_in_slicer.py RESULTS SCAN [SCAN ...]

A scan is any file that Slicer loads as a volume; its results go to the folder RESULTS/<name>. The exit status is 0 if
all scans were measured, else 3, as for `vfq analyze`.
"""

import sys

import slicer
from VertebralFractureQuantLib.errors import as_coded

from VertebralFractureQuant import VertebralFractureQuantLogic


def measure(scan, results):
    """Analyse one scan and write its results. Returns True if that succeeded."""
    slicer.mrmlScene.Clear()
    try:
        logic = VertebralFractureQuantLogic()
        volume = slicer.util.loadVolume(scan)
        analysis = logic.analyze(volume)
        print(f"{volume.GetName()}: {logic.export(analysis, volume, results)}")
        for vertebra in analysis.vertebrae:
            measured = vertebra.measurement
            print(f"  {vertebra.level or '-':4} G {measured.genant_ratio:.2f} {measured.grade} {measured.shape or ''}")
    except Exception as error:
        print(f"{scan}: {as_coded(error).message}", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    results, *scans = sys.argv[1:]
    measured = [measure(scan, results) for scan in scans]
    slicer.util.exit(0 if all(measured) else 3)
