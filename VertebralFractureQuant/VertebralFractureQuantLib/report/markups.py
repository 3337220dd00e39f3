"""`keypoints.mrk.json` for 3D Slicer: for each vertebra a closed curve of six control points, all in one file.

Points are RAS mm in memory and LPS mm on disk, in the order A+ M+ P+ P- M- A- (`keypoints.outline`), according to
Slicer's markups schema 1.0.3.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..spine.genant import deciding_text
from ..spine.keypoints import from_outline, outline
from ..spine.record import SpineAnalysis, Vertebra, vertebra_name

SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/"
    "Resources/Schema/markups-schema-v1.0.3.json#"
)
POINT_NAMES = ("A+", "M+", "P+", "P-", "M-", "A-")

# The colours differ in brightness as well as hue, so that red-green colour blindness does not hide a fracture.
GRADE_COLORS = {
    "normal": (0.30, 0.79, 0.66),
    "mild": (0.97, 0.90, 0.39),
    "moderate": (0.96, 0.60, 0.14),
    "severe": (1.00, 0.30, 0.30),
}

_LPS_RAS = np.array([-1.0, -1.0, 1.0])


def markups_document(analysis: SpineAnalysis) -> dict[str, Any]:
    """Return the markups file of `analysis` as a JSON object."""
    return {"@schema": SCHEMA, "markups": [_markup(v, i) for i, v in enumerate(analysis.vertebrae)]}


def write_markups(analysis: SpineAnalysis, path: Path) -> None:
    """Write `keypoints.mrk.json`. Raises OSError if it cannot be written."""
    path.write_text(json.dumps(markups_document(analysis), indent=1, allow_nan=False), encoding="utf-8")


def read_markups(path: Path) -> list[tuple[str, np.ndarray]]:
    """Read names and key points `(3, 2, 3)` RAS mm of the six-point closed curves in a markups file.

    Other markups are ignored. Both coordinate systems of the schema (LPS, RAS) can be read. Raises ValueError if the
    file is not a markups file.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or "markups" not in document:
        raise ValueError(f"{path.name} is not a Slicer markups file")
    return [(m.get("name", ""), _keypoints(m)) for m in document["markups"] if _is_vertebra(m)]


def _is_vertebra(markup: dict[str, Any]) -> bool:
    return markup.get("type") == "ClosedCurve" and len(markup.get("controlPoints", ())) == len(POINT_NAMES)


def _keypoints(markup: dict[str, Any]) -> np.ndarray:
    hexagon = np.array([p["position"] for p in markup["controlPoints"]], float)
    in_ras = markup.get("coordinateSystem", "LPS") == "RAS"
    return from_outline(hexagon if in_ras else hexagon * _LPS_RAS)


def _markup(vertebra: Vertebra, index: int) -> dict[str, Any]:
    name = vertebra_name(vertebra, index)
    points = outline(vertebra.keypoints) * _LPS_RAS
    return {
        "type": "ClosedCurve",
        "name": f"{name} G {deciding_text(vertebra.measurement)}",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": False,
        "fixedNumberOfControlPoints": True,
        "labelFormat": "%N-%d",
        "controlPoints": [_control_point(name, i, p) for i, p in enumerate(points)],
        # Empty, because Slicer would still show a stored height after a point was moved.
        "measurements": [],
        "display": _display(GRADE_COLORS[vertebra.measurement.grade]),
    }


def _control_point(name: str, index: int, position: np.ndarray) -> dict[str, Any]:
    return {
        "id": str(index + 1),
        "label": f"{name} {POINT_NAMES[index]}",
        "description": "",
        "associatedNodeID": "",
        # Adding zero turns -0.0, a result of the change of axes, into 0.0.
        "position": (position + 0.0).tolist(),
        "orientation": [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0],
        "selected": True,
        "locked": False,
        "visibility": True,
        "positionStatus": "defined",
    }


def _display(color: tuple[float, float, float]) -> dict[str, Any]:
    return {
        "visibility": True,
        "opacity": 1.0,
        "color": list(color),
        "selectedColor": list(color),
        "activeColor": [1.0, 1.0, 1.0],
        "propertiesLabelVisibility": True,
        "pointLabelsVisibility": False,
        "textScale": 2.5,
        "glyphType": "Sphere3D",
        "glyphScale": 1.2,
        "glyphSize": 2.0,
        "useGlyphScale": True,
        "sliceProjection": True,
        "sliceProjectionUseFiducialColor": True,
        "sliceProjectionOutlinedBehindSlicePlane": False,
        "sliceProjectionColor": list(color),
        "sliceProjectionOpacity": 0.8,
        "lineThickness": 0.3,
    }
