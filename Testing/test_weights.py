"""Installed weights: only intact ones are installed and used, the choice is remembered, and records name it."""

import json
import shutil

import pytest

torch = pytest.importorskip("torch")

from typer.testing import CliRunner  # noqa: E402
from VertebralFractureQuantLib.analysis import load_models  # noqa: E402
from VertebralFractureQuantLib.cli.app import app  # noqa: E402
from VertebralFractureQuantLib.cohort.work import Settings, networks_identity  # noqa: E402
from VertebralFractureQuantLib.errors import VFQError  # noqa: E402
from VertebralFractureQuantLib.networks import installed, weights  # noqa: E402
from VertebralFractureQuantLib.networks.architectures import ARCHITECTURES  # noqa: E402


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    for name in ("XDG_CONFIG_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "settings"))


def trained(folder, role="detector", seed=1, channels=(4, 4, 4, 4, 4)):
    """Write a small network as `vfq train` does; return its file."""
    torch.manual_seed(seed)
    weights.save(ARCHITECTURES[role](channels), role, folder / f"{role}.safetensors", {"name": f"{role} {seed}"})
    return folder / f"{role}.safetensors"


def code_of(call, *arguments, **options):
    with pytest.raises(VFQError) as caught:
        call(*arguments, **options)
    return caught.value.code


def vfq(*arguments):
    return CliRunner().invoke(app, ["weights", *map(str, arguments)])


def test_the_choice_is_remembered_and_named_in_records_and_changes_the_key_of_a_cohort(tmp_path):
    path = trained(tmp_path / "ours")
    digest = weights.sha256(path.read_bytes())
    before = networks_identity(None)
    assert vfq("install", path).exit_code == 0 and installed.names() == ["shipped", "ours"]
    assert networks_identity(None) == before, "installed is not in use yet"
    assert vfq("use", "ours").exit_code == 0
    stamps = {stamp.role: stamp for stamp in load_models("cpu").stamps}
    assert stamps["detector"].sha256 == digest and stamps["detector"].name == "detector 1"
    assert stamps["refiner"].sha256 == dict(before)["refiner"]
    keys = {Settings("", None, identity=identity).key for identity in (before, networks_identity(None))}
    assert len(keys) == 2 and dict(networks_identity(None))["detector"] == digest
    explicit = {stamp.role: stamp.sha256 for stamp in load_models("cpu", installed.chosen("shipped")).stamps}
    assert explicit == dict(before)
    listing = vfq("list").stdout
    assert "ours" in listing and digest[:12] in listing
    assert vfq("use", "shipped").exit_code == 0 and networks_identity(None) == before


def test_a_tampered_file_is_refused_at_installation_and_afterwards(tmp_path):
    path = trained(tmp_path / "ours")
    installed.install(path)
    inside = installed.folder_of("ours") / path.name
    for file, call in ((path, lambda: installed.install(path, "again")), (inside, lambda: installed.use("ours"))):
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        assert code_of(call) == "bad_weights"
    assert installed.names() == ["shipped", "ours"] and installed.name_in_use() == "shipped"
    result = vfq("verify")
    assert result.exit_code == 3 and "ours: bad_weights" in result.stdout and "shipped: 3 networks" in result.stdout


def test_files_of_another_network_or_format_are_refused(tmp_path):
    refiner = trained(tmp_path / "refiner", "refiner", channels=(4, 4, 4, 4))
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(refiner, other / "detector.safetensors")
    shutil.copy(refiner.with_suffix(".json"), other / "detector.json")
    (tmp_path / "detector.pt").write_bytes(b"pickle")
    lone = trained(tmp_path / "lone")
    lone.with_suffix(".json").unlink()
    (tmp_path / "empty").mkdir()
    for source in (other, tmp_path / "detector.pt", lone, tmp_path / "empty"):
        assert code_of(installed.install, source, "x") == "bad_weights"
    card = json.loads(refiner.with_suffix(".json").read_text())
    (other / "detector.json").write_text(json.dumps({**card, "role": "detector"}))
    assert code_of(installed.install, other, "x") == "bad_weights", "the file itself is of the refiner"
    assert code_of(installed.install, tmp_path / "none", "x") == "not_found"
    assert installed.names() == ["shipped"] and not list(installed.config_folder().glob("weights/.*"))


def test_names_are_safe_and_other_weights_of_the_name_stay_unless_overwritten(tmp_path):
    one, other = trained(tmp_path / "one"), trained(tmp_path / "other", seed=2)
    for name in ("shipped", "../up", ".hidden", "a b", "in-use"):
        assert code_of(installed.install, one, name) == "unknown_weights"
    installed.install(one, "ours")
    installed.install(one, "ours")  # the same again changes nothing
    assert code_of(installed.install, other, "ours") == "output_exists"
    assert installed.install(other, "ours", overwrite=True).stamps[0].name == "detector 2"
    assert installed.listed()[1].stamps[0].name == "detector 2"
    assert code_of(installed.use, "none") == "unknown_weights"


def test_weights_in_use_that_are_gone_are_not_replaced_in_silence(tmp_path):
    installed.install(trained(tmp_path / "ours"))
    installed.use("ours")
    shutil.rmtree(installed.folder_of("ours"))
    assert code_of(load_models, "cpu") == "unknown_weights"
    assert vfq("use", "shipped").exit_code == 0 and load_models("cpu").stamps


@pytest.mark.parametrize("full", ["copyfile", "rename"])
def test_a_full_disk_leaves_what_was_installed(tmp_path, monkeypatch, full):
    installed.install(trained(tmp_path / "one"), "ours")
    other, before = trained(tmp_path / "other", seed=2), installed.listed()

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(installed.shutil if full == "copyfile" else installed.Path, full, fail)
    assert code_of(installed.install, other, "ours", overwrite=True) == "output_not_writable"
    monkeypatch.undo()
    for name in ("XDG_CONFIG_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "settings"))
    assert installed.listed() == before and not list(installed.config_folder().glob("weights/.*"))
