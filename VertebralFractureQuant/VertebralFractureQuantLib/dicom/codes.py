"""Concepts of the structured report: SNOMED CT, DCM and UCUM where they have one, else the private scheme `99VFQ`.

A concept is a `pydicom.sr.coding.Code` (value, scheme, meaning). Documentation/dicom.md lists them.
"""

from __future__ import annotations

import re

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from ..spine.genant import GRADES, SHAPES

SCHEME, SCHEME_NAME = "99VFQ", "VertebralFractureQuant"
SCHEMA = "vfq-sr/1"
LONGEST_MEANING = 64  # characters of VR LO

# CID 7603 "Vertebra"; V1, T13 and L6 have no code there, so they qualify `VERTEBRA`.
LEVELS = dict(
    zip(
        ("C1", "C2", "C3", "C4", "C5", "C6", "C7"),
        ("14806007", "39976000", "113205007", "5329002", "36978003", "36054005", "87391001"),
        strict=True,
    )
)
LEVELS |= {
    "T1": "64864005",
    "T2": "53733008",
    "T3": "1626008",
    "T4": "73071006",
    "T5": "56401006",
    "T6": "45296009",
    "T7": "62487009",
    "T8": "11068009",
    "T9": "82687006",
    "T10": "7610001",
    "T11": "12989004",
    "T12": "23215003",
    "L1": "66794005",
    "L2": "14293000",
    "L3": "36470004",
    "L4": "11994002",
    "L5": "49668003",
    "S1": "54735007",
}
VERTEBRA = Code("51282000", "SCT", "Vertebra")
SIDES = (codes.SCT.Anterior, codes.SCT.Central, codes.SCT.Posterior)  # of the heights, in this order
SEVERITY = Code("246112005", "SCT", "Severity")
SEVERITIES = dict(
    zip(
        GRADES,
        (
            Code("17621005", "SCT", "Normal"),
            Code("255604002", "SCT", "Mild"),
            Code("6736007", "SCT", "Moderate"),
            Code("24484000", "SCT", "Severe"),
        ),
        strict=True,
    )
)
INDETERMINATE = Code("82334004", "SCT", "Indeterminate")
YES, NO = Code("373066001", "SCT", "Yes"), Code("373067005", "SCT", "No")
MM, PERCENT, COUNT = codes.UCUM.Millimeter, codes.UCUM.Percent, codes.UCUM.NoUnits
RATIO = Code("{ratio}", "UCUM", "ratio")
HEIGHT = codes.DCM.Height
COMMENT = Code("121106", "DCM", "Comment")

# Findings, names of measurements and of evaluations, values of evaluations, names of texts.
MEANINGS = {
    "VFX": "Vertebral fracture",
    "NOVFX": "No vertebral fracture",
    "NOTASSESSED": "Vertebra not assessable",
    "REJECTED": "Detection rejected by the reader",
    "SPINE": "Summary of the spine",
    "GRATIO": "Genant ratio: smallest of the three heights / largest",
    "GRATIOSD": "Standard deviation of the Genant ratio, network's estimate",
    "LOSS": "Height loss, of the largest of the three heights",
    "NEIGHBOURRATIO": "Mean height / height expected from the neighbours",
    "NEIGHBOURLOSS": "Height loss, of the height expected from the neighbours",
    "SCORE": "Confidence of the detection",
    "LEVELPROB": "Probability of the level",
    "GENANT": "Genant semiquantitative grade",
    **{f"G{n}": f"Genant grade {n} ({grade})" for n, grade in enumerate(GRADES)},
    "NOGRADE": "Not graded",
    "TYPE": "Type of vertebral fracture (lowest height)",
    **{shape.upper(): f"{shape.capitalize()} deformity" for shape in SHAPES},
    "NOTYPE": "No type, or not graded",
    "PHYSIOLOGIC": "Physiologic shape, counted as normal",
    "BORDERLINE": "Ratio close to the threshold of a grade",
    "LEVELNAME": "Identification of the level",
    "CERTAIN": "Level is certain",
    "DOUBTFUL": "Level is in doubt",
    "UNKNOWN": "Level is unknown",
    "BYREADER": "Level was set by the reader",
    "ORIGIN": "Origin of the key points",
    "MODEL": "Placed automatically",
    "READER": "Placed or moved by the reader",
    "REVIEW": "State of the review",
    "OPEN": "Not reviewed",
    "CONFIRMED": "Confirmed by the reader",
    "REVIEWED": "All vertebrae reviewed",
    "PARTLY": "Some vertebrae reviewed",
    "DOUBT": "Reason to doubt the result",
    "READERNAME": "Reader who reviewed the vertebra",
    "REVIEWTIME": "Time of the review, UTC",
    "SDI": "Spinal deformity index",
    "WORSTGRADE": "Worst Genant grade of the patient",
    "COUNTED": "Number of vertebrae that are counted",
    "SDILEVELS": "Number of levels from T4 to L4 that are counted",
    "LACKING": "Why levels from T4 to L4 are not counted",
    "OUTSIDE": "Above or below all vertebrae that were found",
    "GAP": "Not found between others",
    "CURVE": "Length of the spine's curve",
    "CURVESTART": "Arc length on the curve where the seen spine begins",
    "CURVEEND": "Arc length on the curve where the seen spine ends",
    "SCHEMA": "Format of the private content",
    "GRID": "Voxel grid: shape k, j, i; rows of ijk to RAS mm",
    "VOUCHED": "User vouched for orientation and spacing in the header",
    "WHERE": "Vertebra concerned",
}


def own(value: str) -> Code:
    """Return the private concept with this value, a key of `MEANINGS`."""
    return Code(value, SCHEME, MEANINGS[value])


def own_level(name: str) -> Code:
    """Return the private concept of a vertebra that SNOMED CT does not name: "T13", "L6", or "V3"."""
    told = f"Vertebra {name[1:]} of the scan, counted from the top" if name.startswith("V") else f"{name} vertebra"
    return Code(name, SCHEME, told)


def doubt(code: str) -> Code:
    """Return the private concept of a quality code (`spine.quality.CODES`)."""
    return Code(code, SCHEME, code.replace("_", " ").capitalize()[:LONGEST_MEANING])


def level(name: str) -> tuple[Code, Code | None]:
    """Return the anatomic location of a vertebra by its name, and its modifier; None where SNOMED CT names it."""
    if name == "S1":
        return Code(LEVELS[name], "SCT", "Sacrum"), None
    return (Code(LEVELS[name], "SCT", f"{name} vertebra"), None) if name in LEVELS else (VERTEBRA, own_level(name))


def level_name(location: str, modifier: str | None) -> str | None:
    """Return the name of a level from the code values of `level`; None for a vertebra without a name."""
    named = {value: name for name, value in LEVELS.items()}.get(location, modifier)
    return None if named is None or re.fullmatch(r"V\d+", named) else named
