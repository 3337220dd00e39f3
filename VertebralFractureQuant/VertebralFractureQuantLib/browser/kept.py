"""What the page remembers for this user on this computer: the reader's name, and the place in each output folder.

It lies in the user's settings folder, never beside the results, which several readers may share. Names of folders and
cases are kept as digests, because they can be names of patients. Settings that cannot be read or written are none.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..networks.installed import config_folder

MOST_PLACES = 100


class Kept:
    """The settings in a folder, by default the platform's settings folder."""

    def __init__(self, folder: Path | None = None):
        self._file = (folder or config_folder()) / "page.json"

    @property
    def reader(self) -> str:
        """The name with which this user signed last; "" without one."""
        return str(self._read().get("reader") or "")

    def keep_reader(self, name: str) -> None:
        """Remember the reader's name."""
        self._write(reader=name)

    def place(self, output: Path) -> tuple[str, str | None]:
        """Return the `digest` of the case that was open last in an output folder ("" for none), and the vertebra."""
        with suppress(TypeError, ValueError, LookupError):
            case, vertebra = self._places()[digest(str(output.resolve()))]
            return str(case), vertebra and str(vertebra)
        return "", None

    def keep_place(self, output: Path, case: str, vertebra: str | None) -> None:
        """Remember which case is open in an output folder, and which vertebra is selected."""
        own = digest(str(output.resolve()))
        others = [(key, value) for key, value in self._places().items() if key != own]
        self._write(places=dict([*others[-MOST_PLACES + 1 :], (own, [digest(case), vertebra])]))

    def _places(self) -> dict[str, Any]:
        places = self._read().get("places")
        return places if isinstance(places, dict) else {}

    def _read(self) -> dict[str, Any]:
        with suppress(OSError, ValueError, RecursionError):
            found = json.loads(self._file.read_text(encoding="utf-8"))
            return found if isinstance(found, dict) else {}
        return {}

    def _write(self, **changed: Any) -> None:
        partial = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        with suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            partial.write_text(json.dumps({**self._read(), **changed}), encoding="utf-8")
            partial.replace(self._file)


def digest(name: str) -> str:
    """Return what stands for a name that may be a patient's."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
