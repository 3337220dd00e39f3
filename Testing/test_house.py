"""Order in the library: layers are kept, every module is packaged, light rooms need only what Slicer bundles."""

import ast
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "VertebralFractureQuant"
LIBRARY = MODULE / "VertebralFractureQuantLib"
LIGHT_ROOMS = (
    "imaging.ct",
    "imaging.files",
    "spine.curve",
    "spine.straightening",
    "spine.keypoints",
    "spine.genant",
    "spine.record",
    "spine.butterfly",
    "networks.localizer",
    "networks.detector",
    "networks.weights",
    "networks.loading",
    "analysis",
    "scene.journal",
    "report.tables",
    "cohort.studies",
    "cohort.worklist",
    "cohort.jobs",
    "desktop.dependencies",
    "labels.store",
)
NETWORK = {"socket", "ssl", "urllib", "urllib3", "http", "requests", "httpx", "aiohttp", "ftplib", "smtplib"}
NETWORK |= {"pynetdicom", "dicomweb_client"}
NETWORK_OF = {
    "browser": {"aiohttp"},  # the review page, for this machine alone
    "archive": {"pynetdicom", "dicomweb_client", "urllib"},  # opt-in; urllib takes addresses apart
}
NOT_IN_SLICER = ("torch", "openvino", "matplotlib", "typer", "rich", "safetensors", "scipy", "shapely")


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


def project() -> dict:
    tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_slicer_gets_the_packages_in_the_ranges_that_pip_gets():
    from packaging.requirements import Requirement

    lines = (MODULE / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    for_slicer = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    extras = (project()["optional-dependencies"][extra] for extra in ("cohort", "report", "dicom"))
    for_pip = {r.name: r for r in map(Requirement, [*project()["dependencies"], *chain(*extras)])}
    assert for_slicer
    for requirement in for_slicer:
        assert requirement.specifier == for_pip[requirement.name].specifier, requirement.name


def extension_settings() -> dict[str, str]:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    return dict(re.findall(r'^set\(EXTENSION_(\w+) "([^"]*)"\)', text, re.MULTILINE))


def test_the_extension_describes_itself_as_slicer_wants_it():
    settings = extension_settings()
    assert settings["DEPENDS"] == "PyTorch" and "research use only" in settings["DESCRIPTION"]
    assert all(settings[key].startswith("https://") for key in ("HOMEPAGE", "ICONURL", "SCREENSHOTURLS"))
    raw = settings["HOMEPAGE"].replace("github.com", "raw.githubusercontent.com") + "/main/"
    for url in (settings["ICONURL"], *settings["SCREENSHOTURLS"].split()):
        assert (ROOT / url.removeprefix(raw)).is_file(), url


def test_the_entry_for_the_extensions_index_fits_its_schema_and_the_extension():
    """The entry has all keys that slicer-extension-catalog-entry-schema-v1.0.2 requires, and no unknown key."""
    import json

    entry = json.loads((ROOT / "ExtensionsIndex" / "VertebralFractureQuant.json").read_bytes())
    texts = {"$schema", "category", "scm_url", "scm_revision", "scm_type", "build_subdirectory", "dicom_support_rule"}
    assert {"$schema", "category", "scm_url"} <= set(entry) <= texts | {"build_dependencies", "enabled", "tier"}
    assert all(isinstance(value, str) for key, value in entry.items() if key in texts)
    assert entry["$schema"].endswith("/slicer-extension-catalog-entry-schema-v1.0.2.json#")
    assert Path(entry["scm_url"]).name.startswith("Slicer")  # the index asks for it
    assert entry["scm_url"].startswith("https://") and entry["tier"] in range(1, 6)
    settings = extension_settings()
    assert entry["build_dependencies"] == settings["DEPENDS"].split()
    assert entry["category"] == settings["CATEGORY"]
    assert entry["scm_url"].removesuffix(".git") == settings["HOMEPAGE"]


@pytest.mark.parametrize("room", LIGHT_ROOMS)
def test_light_rooms_import_with_what_slicer_bundles(room):
    blocked = "; ".join(f"sys.modules[{name!r}] = None" for name in NOT_IN_SLICER)
    code = f"import sys; {blocked}; sys.path.insert(0, {str(MODULE)!r}); import VertebralFractureQuantLib.{room}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", [MODULE / "VertebralFractureQuant.py", *LIBRARY.rglob("*.py")], ids=lambda p: p.stem)
def test_no_module_can_reach_a_network(path):
    """Imports inside functions and behind `TYPE_CHECKING` count; those of torch or typer themselves do not."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported.add((node.module or "").split(".")[0])
    assert not imported & (NETWORK - NETWORK_OF.get(path.parent.name, set()))


def trees() -> dict[str, ast.Module]:
    files = (MODULE / "VertebralFractureQuant.py", *LIBRARY.rglob("*.py"))
    return {str(path.relative_to(MODULE)): ast.parse(path.read_text(encoding="utf-8")) for path in files}


def test_functions_are_short():
    lengths = {
        (name, node.name): (node.end_lineno or 0) - node.lineno + 1
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    longest = max(lengths, key=lambda function: lengths[function])
    assert lengths[longest] <= 60, longest
    ordered = sorted(lengths.values())
    assert ordered[len(ordered) // 2] <= 8 and ordered[int(0.9 * len(ordered))] <= 20


def test_files_of_the_library_are_short():
    for path in LIBRARY.rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path.name


def test_what_is_public_has_a_docstring():
    public = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for name, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, public) and not getattr(node, "name", "").startswith("_"):
                assert ast.get_docstring(node), f"{name}: {getattr(node, 'name', 'the file')}"
