"""The house stays easy to see: layers hold, every module is packaged, and light rooms need only what Slicer bundles."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "VertebralFractureQuant"
LIBRARY = MODULE / "VertebralFractureQuantLib"
LIGHT_ROOMS = (
    "ct",
    "curve",
    "straightening",
    "keypoints",
    "genant",
    "record",
    "butterfly",
    "networks.localizer",
    "networks.detector",
    "networks.weights",
    "networks.predictor",
    "analysis",
    "report.tables",
    "cohort.studies",
    "cohort.worklist",
    "cohort.jobs",
)
NETWORK = {"socket", "ssl", "urllib", "urllib3", "http", "requests", "httpx", "aiohttp", "ftplib", "smtplib"}
NOT_IN_SLICER = ("torch", "openvino", "matplotlib", "typer", "rich", "safetensors", "scipy")


def test_the_layers_of_the_architecture_hold():
    from importlinter.cli import lint_imports

    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


def test_cmake_lists_every_python_file_or_a_packaged_slicer_would_lack_it():
    """The list is what `find VertebralFractureQuantLib -name '*.py' | sort` prints in VertebralFractureQuant/."""
    listed = re.search(r"MODULE_PYTHON_SCRIPTS(.*?)\)", (MODULE / "CMakeLists.txt").read_text(), re.DOTALL)
    assert listed
    on_disk = {str(p.relative_to(MODULE)) for p in (MODULE / "VertebralFractureQuant.py", *LIBRARY.rglob("*.py"))}
    assert {line.replace("${MODULE_NAME}", "VertebralFractureQuant") for line in listed[1].split()} == on_disk


def test_cmake_lists_every_resource():
    listed = re.search(r"MODULE_PYTHON_RESOURCES(.*?)\)", (MODULE / "CMakeLists.txt").read_text(), re.DOTALL)
    assert listed
    on_disk = {str(p.relative_to(MODULE)) for p in (MODULE / "Resources").rglob("*") if p.is_file()}
    assert {line.replace("${MODULE_NAME}", "VertebralFractureQuant") for line in listed[1].split()} == on_disk


@pytest.mark.parametrize("room", LIGHT_ROOMS)
def test_light_rooms_import_with_what_slicer_bundles(room):
    blocked = "; ".join(f"sys.modules[{name!r}] = None" for name in NOT_IN_SLICER)
    code = f"import sys; {blocked}; sys.path.insert(0, {str(MODULE)!r}); import VertebralFractureQuantLib.{room}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", [MODULE / "VertebralFractureQuant.py", *LIBRARY.rglob("*.py")], ids=lambda p: p.stem)
def test_no_module_can_reach_a_network(path):
    """Also inside functions and behind `TYPE_CHECKING`; what torch or typer import themselves is theirs."""
    import ast

    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported.add((node.module or "").split(".")[0])
    served = {"aiohttp"} if path.parent.name == "browser" else set()  # the review page, for this machine alone
    assert not imported & (NETWORK - served)


def test_no_function_is_longer_than_sixty_lines():
    import ast

    for path in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path.name}: {node.name}"
