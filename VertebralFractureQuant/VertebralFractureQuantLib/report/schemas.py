"""JSON Schemas (draft 2020-12) of the files that other programs read; Documentation/formats.md explains each field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SUFFIX = ".schema.json"


def schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema called `name`, such as "vfq-analysis/1". ValueError if there is none of this name."""
    known = {path.name.removesuffix(SUFFIX): path for path in _folder().glob(f"*{SUFFIX}")}
    path = known.get(name.replace("/", "-"))
    if path is None:
        raise ValueError(f"there is no schema {name!r}, only {', '.join(sorted(known))}")
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def _folder() -> Path:
    """The module's Resources in a checkout or in Slicer, the package itself after pip."""
    package = Path(__file__).resolve().parent.parent
    beside = package.parent / "Resources" / "Schemas"
    return beside if beside.is_dir() else package / "schemas"
