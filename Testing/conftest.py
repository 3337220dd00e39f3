"""Real images for tests: the folder named by `VFQ_DATA`, else `shared/data` beside the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("VFQ_DATA", beside))
    if not folder.is_dir():
        pytest.skip("no real images: set VFQ_DATA to their folder")
    return folder
