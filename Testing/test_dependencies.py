"""Missing packages are reported before any download, failures say what to do, and pip never installs torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
from packaging.requirements import Requirement as Parsed
from VertebralFractureQuantLib.desktop import dependencies
from VertebralFractureQuantLib.desktop.dependencies import Requirement, install, missing, offer
from VertebralFractureQuantLib.errors import VFQError

OPENVINO = Requirement("openvino", ">=2025.0", "analysis on CPU")
TORCH = Requirement("torch", ">=2.4,<2.14", "analysis on GPU")
SAFETENSORS = Requirement("safetensors", ">=0.4", "analysis on GPU")
MATPLOTLIB = Requirement("matplotlib", ">=3.8", "pictures")


@pytest.fixture
def installed(monkeypatch):
    """The versions of the packages that appear to be installed; a test may change them."""
    there: dict[str, str] = {}

    def version(name: str) -> str:
        if name not in there:
            raise importlib.metadata.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(dependencies.importlib.metadata, "version", version)
    monkeypatch.setattr(dependencies.importlib.util, "find_spec", lambda name: there.get(name))
    return there


def names(needed) -> list[str]:
    return [r.name for r in needed]


def refused(*arguments) -> str:
    with pytest.raises(VFQError) as caught:
        install(*arguments)
    assert caught.value.code == "missing_dependency"
    return caught.value.message


# --- what is missing


def test_without_packages_each_purpose_names_what_is_missing(installed):
    assert names(missing("analysis on CPU")) == ["openvino", "shapely"]
    assert names(missing("analysis on GPU")) == ["torch", "safetensors", "shapely"]
    assert names(missing("pictures")) == ["matplotlib"]
    assert names(missing("analysis on CPU", "pictures")) == ["openvino", "shapely", "matplotlib"]
    assert names(missing("report")) == ["jinja2", "matplotlib"]
    assert names(missing("report as PDF")) == ["jinja2", "matplotlib", "reportlab"]
    assert names(missing("DICOM objects")) == ["highdicom"]
    assert names(missing("cohort")) == ["polars", "itables", "bokeh"]
    for_all = ["openvino", "shapely", "torch", "safetensors", "matplotlib", "jinja2", "reportlab", "highdicom"]
    assert names(missing()) == [*for_all, "polars", "itables", "bokeh"]


def test_a_package_in_an_accepted_version_is_not_missing(installed):
    installed.update(
        openvino="2026.4.1", shapely="2.2.0", torch="2.13.0+cu126", safetensors="0.8.0", matplotlib="3.11.2"
    )
    installed.update(jinja2="3.1.6", reportlab="4.4", highdicom="0.27.0", polars="2.1", itables="2.9.1", bokeh="3.9")
    assert missing() == ()


@pytest.mark.parametrize(("version", "lacking"), [("2.3.1", True), ("2.14.0", True), ("2.13.0+cpu", False)])
def test_a_version_outside_the_range_is_missing(installed, version, lacking):
    installed.update(torch=version, safetensors="0.8.0")
    assert ("torch" in names(missing("analysis on GPU"))) is lacking


def test_the_cpu_needs_no_openvino_if_torch_is_installed(installed):
    installed.update(torch="2.6.0", shapely="2.1")
    assert names(missing("analysis on CPU")) == ["openvino"]
    installed["safetensors"] = "0.5"
    assert missing("analysis on CPU") == ()


def test_shapely_alone_is_missing_where_torch_is_there(installed):
    installed.update(torch="2.6.0", safetensors="0.5")
    assert names(missing("analysis on CPU")) == names(missing("analysis on GPU")) == ["shapely"]
    installed["shapely"] = "1.8.5"
    assert names(missing("analysis on CPU")) == ["shapely"]


def test_metadata_without_the_package_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "shapely", None)
    assert names(missing("analysis on CPU")) == ["openvino", "shapely"]


def test_each_device_has_a_purpose():
    assert dependencies.purpose_of("auto") == dependencies.purpose_of("cpu") == "analysis on CPU"
    assert dependencies.purpose_of("cuda") == dependencies.purpose_of("mps") == "analysis on GPU"


def test_checking_imports_none_of_the_packages():
    code = (
        "import sys; from VertebralFractureQuantLib.desktop.dependencies import missing; missing(); "
        "unwanted = ('torch', 'openvino', 'matplotlib', 'safetensors', 'shapely', 'slicer', 'qt'); "
        "print([m for m in unwanted if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- the offer


def test_the_offer_names_packages_purposes_size_and_the_internet():
    said = offer([OPENVINO, MATPLOTLIB])
    assert "openvino (analysis on CPU)" in said and "matplotlib (pictures)" in said
    assert "85 MB" in said and "internet" in said
    assert "3 GB" in offer([TORCH, SAFETENSORS])
    assert offer([]) == ""


def test_every_package_has_a_range_a_purpose_and_a_size():
    served = {name for choices in dependencies.SERVING.values() for names in choices for name in names}
    assert served == set(dependencies.specifiers()) == set(dependencies.MEGABYTES)
    assert all(dependencies.specifiers().values())


# --- installing


def test_what_is_installed_is_usable_at_once(tmp_path, monkeypatch):
    """Install a real package in a folder that Python has cached as empty, without a new modification time."""
    packages, metadata = tmp_path / "packages", tmp_path / "metadata"
    for folder in (packages, metadata):
        folder.mkdir()
        monkeypatch.syspath_prepend(str(folder))
    wanted = Requirement("vfq_probe", ">=1", "pictures")
    assert not dependencies.is_installed(wanted)
    assert importlib.util.find_spec("vfq_probe") is None
    looked = packages.stat()

    def pip(requirements: list[str]) -> None:
        assert requirements == ["vfq_probe>=1"]
        (packages / "vfq_probe.py").write_text("answer = 42")
        os.utime(packages, ns=(looked.st_atime_ns, looked.st_mtime_ns))
        (metadata / "vfq_probe-1.2.dist-info").mkdir()
        (metadata / "vfq_probe-1.2.dist-info" / "METADATA").write_text("Name: vfq_probe\nVersion: 1.2\n")

    install([wanted], pip)
    import vfq_probe  # type: ignore[import-not-found]

    assert vfq_probe.answer == 42


def test_the_extension_installs_torch_first_and_pip_only_the_rest(installed):
    calls = []

    def pip(requirements):
        calls.append(("pip", requirements))
        installed["safetensors"] = "0.8"

    def torch(specifier):
        calls.append(("torch", specifier))
        installed["torch"] = "2.6.0"

    install([SAFETENSORS, TORCH], pip, torch)
    assert calls == [("torch", ">=2.4,<2.14"), ("pip", ["safetensors>=0.4"])]


def test_without_the_pytorch_extension_nothing_is_downloaded_and_two_solutions_are_named(installed, monkeypatch):
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    downloads = []
    message = refused([TORCH, SAFETENSORS], downloads.append)
    assert not downloads
    assert "Install PyTorch from the Extensions manager" in message and "choose the device CPU" in message


def test_the_pytorch_extension_gets_the_range_and_does_not_ask_again(installed, monkeypatch):
    asked = {}

    class Logic:
        def installTorch(self, askConfirmation=True, forceComputationBackend=None, torchVersionRequirement=None):  # noqa: N802, N803
            asked.update(confirm=askConfirmation, versions=torchVersionRequirement)
            installed["torch"] = "2.6.0"

    monkeypatch.setitem(sys.modules, "PyTorchUtils", SimpleNamespace(PyTorchUtilsLogic=Logic))
    install([TORCH])
    assert asked == {"confirm": False, "versions": ">=2.4,<2.14"}


def test_a_failed_torch_installation_names_its_extension_and_the_cpu(installed):
    def torch(specifier):
        raise RuntimeError("no build for this driver\ntraceback")

    message = refused([TORCH], None, torch)
    assert "no build for this driver)" in message and "PyTorch Utils" in message and "device CPU" in message


def test_the_failure_tells_how_to_install_wheels_offline(installed):
    def pip(requirements):
        raise subprocess.CalledProcessError(1, "pip")

    message = refused([OPENVINO], pip)
    assert 'pip download "openvino>=2025.0"' in message
    assert "slicer.util.pip_install(['--no-index', '--find-links', 'FOLDER', 'openvino>=2025.0'])" in message


def test_an_installer_that_does_nothing_is_a_failure(installed):
    assert "still missing" in refused([OPENVINO], lambda requirements: None)
    assert "still missing" in refused([TORCH], None, lambda specifier: None)


def fake_slicer(monkeypatch, **parts) -> None:
    """Replace the `slicer` package by one with these modules."""
    package = ModuleType("slicer")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "slicer", package)
    for name in ("packaging", "util"):
        monkeypatch.setitem(sys.modules, f"slicer.{name}", parts.get(name))


def test_a_new_slicer_installs_with_pip_ensure_and_does_not_ask_again(installed, monkeypatch):
    asked = {}

    def pip_ensure(requirements, prompt_install=True, requester=None):
        asked.update(requirements=requirements, prompt=prompt_install, requester=requester)
        installed["openvino"] = "2026.1"

    fake_slicer(monkeypatch, packaging=SimpleNamespace(pip_ensure=pip_ensure))
    install([OPENVINO])
    assert asked["requirements"] == [Parsed("openvino>=2025.0")]  # as pip_ensure expects, no strings
    assert asked["prompt"] is False and asked["requester"]


def test_an_older_slicer_installs_with_pip_install(installed, monkeypatch):
    def pip_install(requirements):
        assert requirements == ["openvino>=2025.0"]
        installed["openvino"] = "2026.1"

    fake_slicer(monkeypatch, util=SimpleNamespace(pip_install=pip_install))
    install([OPENVINO])
