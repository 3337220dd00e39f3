"""Six-point references: key points, names and curve of one CT as an annotator set them, in RAS mm.

A reference is a JSON object with `case`, `ct_file`, `space` ("RAS_mm"), `vertebrae[]` (`level`, `level_certain`,
`keypoints` `(3, 2, 3)`, `confidence`), `partial[]` (`center` `(3,)`) and `centerline` `(n, 3)`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import VFQError
from .keypoints import check_keypoints


@dataclass(frozen=True, eq=False)
class Reference:
    """The reference of one CT.

    Attributes
    ----------
    case, ct_file : name of the case, and of the file with its CT.
    keypoints : `(n, 3, 2, 3)` RAS mm of the complete vertebrae, from cranial to caudal.
    levels : `(n,)` their names; None where the annotator is not certain.
    partial : `(m, 3)` RAS mm, centres of vertebrae that are not complete, or have no six points.
    curve : `(k, 3)` RAS mm along the middles of the bodies, cranial first.
    """

    case: str
    ct_file: str
    keypoints: np.ndarray
    levels: tuple[str | None, ...]
    partial: np.ndarray
    curve: np.ndarray


def read_reference(path: Path) -> Reference:
    """Read a reference. VFQError `not_found`; `not_a_reference` if the file is anything else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        vertebrae = data["vertebrae"]
        return Reference(
            case=str(data["case"]),
            ct_file=str(data["ct_file"]),
            keypoints=check_keypoints(np.reshape([v["keypoints"] for v in vertebrae], (-1, 3, 2, 3))),
            levels=tuple(v["level"] if v["level_certain"] else None for v in vertebrae),
            partial=np.reshape([p["center"] for p in data["partial"]], (-1, 3)).astype(float),
            curve=np.reshape(data["centerline"], (-1, 3)).astype(float),
        )
    except FileNotFoundError:
        raise VFQError("not_found", f"There is no file {path.name!r}. Check the path.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VFQError(
            "not_a_reference",
            f"{path.name!r} cannot be read as a six-point reference ({type(error).__name__}: {error}). Give a file as "
            "those in Testing/references.",
        ) from error
