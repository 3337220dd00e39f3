"""What all tests share: their tiers (fast, thorough), real CT, and the Slicer module in an empty scene, with a CT
or with a study.

Real CT is in the folder `VFQ_DATA`, else in `shared/data` beside the repository.
"""

from __future__ import annotations

import gc
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

pytest_plugins = ("browser_bench",)  # servers and pages for the tests in a browser

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for torch: the cores are used by several tests at a time
THOROUGH = (
    "test_analysis",
    "test_browser",
    "test_desktop",
    "test_dicom_export",
    "test_phantom",
    "test_predictor",
    "test_training",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its tier."""
    for item in items:
        if item.path.stem.startswith(THOROUGH):
            item.add_marker("thorough")
        if not item.get_closest_marker("thorough"):
            item.add_marker("fast")


@pytest.fixture(scope="session", autouse=True)
def settings_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The page remembers its reader, key and last case in a folder of the tests, not in the user's own."""
    for name in ("XDG_CONFIG_HOME", "LOCALAPPDATA"):
        os.environ[name] = str(tmp_path_factory.mktemp("settings"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("VFQ_DATA") or beside)
    if not folder.is_dir():
        pytest.skip("no real images: set VFQ_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[str, Callable[[Path], object]], Path]:
    """Fill a folder once for all processes of this run, and return it; nobody changes it afterwards."""
    root = tmp_path_factory.getbasetemp()
    root = root if worker_id == "master" else root.parent

    def made(name: str, fill: Callable[[Path], object]) -> Path:
        folder = root / f"once-{name}"
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                partial = tmp_path_factory.mktemp(name)
                fill(partial)
                partial.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def painted(once: Callable[[str, Callable[[Path], object]], Path]) -> Callable[..., Any]:
    """Return the CT and the truth of the phantom of a seed and `PhantomOptions`; painting takes ten seconds."""
    from VertebralFractureQuantLib.phantom import PhantomOptions, make_phantom

    def phantom(seed: int, **options: Any) -> Any:
        def fill(folder: Path) -> None:
            (folder / "phantom").write_bytes(pickle.dumps(make_phantom(seed, PhantomOptions(**options))))

        name = "-".join(["phantom", str(seed), *(f"{key}-{value}" for key, value in options.items())])
        return pickle.loads((once(name, fill) / "phantom").read_bytes())

    return phantom


@pytest.fixture(scope="session")
def frozen() -> None:
    """Exempt imported objects from garbage collection, which would search VTK, Qt and the networks again and again."""
    gc.freeze()


@pytest.fixture
def empty(tmp_path: Path, frozen: None) -> Iterator[Any]:
    """The module of 3D Slicer, opened in an empty scene; a `desktop_bench.Bench`."""
    from desktop_bench import MODULE, Bench, Desktop

    desktop = Desktop(MODULE)
    desktop.app.pauseRender()  # a drag renders what it needs
    try:
        with desktop:
            yield Bench(desktop, tmp_path / "results")
    finally:
        desktop.app.resumeRender()


@pytest.fixture
def bench(empty: Any) -> Any:
    """The module with a CT, "CT", chosen."""
    from desktop_bench import make_ct

    empty.add_volume(make_ct())
    return empty


@pytest.fixture
def opened(bench: Any) -> Any:
    """A study of six vertebrae, T9 to L2; T11 is lower in the middle; the first one is selected."""
    bench.analyze()
    return bench
