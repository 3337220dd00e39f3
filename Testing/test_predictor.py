"""Engines and weights: both engines give the same numbers, and weights that differ from their card are refused."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from VertebralFractureQuantLib import analysis  # noqa: E402
from VertebralFractureQuantLib.errors import VFQError  # noqa: E402
from VertebralFractureQuantLib.imaging.files import read_ct, write_ct  # noqa: E402
from VertebralFractureQuantLib.networks import devices, loading, weights  # noqa: E402
from VertebralFractureQuantLib.networks.architectures import (  # noqa: E402
    ARCHITECTURES,
    SpineLocalizer,
    SpineRefiner,
    VertebraDetector,
)
from VertebralFractureQuantLib.networks.predictor import OpenVinoPredictor, TorchPredictor  # noqa: E402
from VertebralFractureQuantLib.phantom import PhantomOptions, make_phantom  # noqa: E402
from VertebralFractureQuantLib.training import export  # noqa: E402

LIBRARY = Path(weights.__file__).parents[2]
ENGINES_AGREE_MM = 0.05
TINY = (2, 2, 4, 4, 4)
# What only other commands need, or a DICOM folder; each takes from 0.1 s to seconds of a start.
NOT_NEEDED = {
    *("torch", "matplotlib.pyplot", "pydicom", "polars", "pandas", "sklearn", "statsmodels", "distributed", "dask"),
    *(
        "highdicom",
        "reportlab",
        "jinja2",
        "itables",
        "bokeh",
        "openvino_telemetry.main",
        "scipy.stats",
        "scipy.spatial",
    ),
}


@pytest.fixture(scope="module")
def phantom_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("ct") / "phantom.nii.gz"
    options = PhantomOptions(scoliosis_deg=30.0, field_of_view="spine", spacing_mm=(1.2, 2.0), noise_hu=15.0)
    write_ct(make_phantom(21, options)[0], path)
    return path


@pytest.fixture(scope="module")
def by_torch():
    networks, stamps = zip(*(weights.load(role) for role in analysis.models.ROLES), strict=True)
    return analysis.Models(*map(TorchPredictor, networks), stamps, "cpu")


@pytest.fixture(scope="module")
def by_openvino():
    return analysis.load_models("cpu")


@pytest.fixture
def files(tmp_path):
    """Weights of a tiny detector with their card."""
    path = tmp_path / "detector.safetensors"
    weights.save(VertebraDetector(TINY), "detector", path, {"name": "tiny"})
    return path


def keypoints(path, models):
    return np.stack([v.keypoints for v in analysis.analyze(read_ct(path), models).vertebrae])


def test_on_a_cpu_openvino_runs_the_shipped_networks_and_their_stamps_name_it(by_openvino, by_torch):
    assert [s.backend for s in by_openvino.stamps] == ["openvino"] * len(analysis.models.ROLES)
    assert [s.sha256 for s in by_openvino.stamps] == [s.sha256 for s in by_torch.stamps]


def test_both_engines_place_the_same_points_on_a_phantom(phantom_file, by_openvino, by_torch):
    difference = keypoints(phantom_file, by_openvino) - keypoints(phantom_file, by_torch)
    assert np.linalg.norm(difference, axis=-1).max() < ENGINES_AGREE_MM


@pytest.mark.realct
@pytest.mark.parametrize("case", ["LungFCP-01-0001_ct_spine", "LIDC-IDRI-0001_ct_full"])
def test_both_engines_place_the_same_points_on_real_ct(data_dir, case, by_openvino, by_torch):
    path = data_dir / "ct" / f"{case}.nii.gz"
    difference = keypoints(path, by_openvino) - keypoints(path, by_torch)
    assert np.linalg.norm(difference, axis=-1).max() < ENGINES_AGREE_MM


def test_the_analysis_needs_no_torch_and_opens_no_network_connection(phantom_file, by_openvino, tmp_path):
    code = f"""
import sys, json
sys.modules["torch"] = None
reached = []
sys.addaudithook(lambda event, args: event.startswith(("socket", "urllib")) and reached.append(event))
from VertebralFractureQuantLib.analysis import analyze, load_models
from VertebralFractureQuantLib.imaging.files import read_ct
from VertebralFractureQuantLib.spine.record_json import to_json
record = analyze(read_ct({str(phantom_file)!r}), load_models("auto"))
print(json.dumps([reached, to_json(record)]))
"""
    environment = {**os.environ, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "PYTHONPATH": str(LIBRARY)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    reached, record = json.loads(done.stdout)
    points = np.array([v["keypoints"] for v in record["vertebrae"]])
    assert np.allclose(points, keypoints(phantom_file, by_openvino), atol=0.001)
    # openvino_telemetry would connect to its server and store an id in the home folder.
    assert not reached and not list(tmp_path.iterdir())


def test_the_command_imports_no_package_that_a_plain_analysis_can_do_without(phantom_file, tmp_path):
    code = f"""
import sys
from VertebralFractureQuantLib.cli.app import app
app(["analyze", {str(phantom_file)!r}, "--output", {str(tmp_path)!r}], standalone_mode=False)
print("imported:", *{NOT_NEEDED!r} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(LIBRARY)}
    )
    assert (tmp_path / "phantom" / "overview.png").exists(), done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"


def test_shipped_weights_agree_with_their_cards_and_are_small():
    for role in ARCHITECTURES:
        assert weights.load(role)[1] == weights.load_onnx(role)[1]
    assert sum(p.stat().st_size for p in weights.weights_folder().iterdir()) <= 25e6


def test_a_compiled_network_may_be_called_by_several_threads(by_openvino):
    pictures = [np.random.default_rng(i).random((1, 1, 32 + 16 * i, 64), np.float32) for i in range(4)]
    alone = [by_openvino.detector(p)[0] for p in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda p: by_openvino.detector(p)[0], pictures * 3))
    assert all(np.array_equal(a, b) for a, b in zip(alone * 3, together, strict=True))


class TwoOutputs(torch.nn.Module):
    def forward(self, x):
        return x * 2, x.sum((3,))


def test_a_network_with_two_outputs_gives_both_on_each_engine():
    pytest.importorskip("onnx")
    x = np.random.default_rng(0).random((3, 1, 16, 24), np.float32)
    for predict in (TorchPredictor(TwoOutputs()), OpenVinoPredictor(export._graph(TwoOutputs(), 2))):
        doubled, total = predict(x)
        assert np.allclose(doubled, 2 * x) and np.allclose(total, x.sum(3), atol=1e-4)


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((8, 6), ["sm_80"], True),  # machine code runs on later devices of the same major number
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80", "sm_86"], False),
        ((9, 0), ["sm_80", "compute_80"], True),  # PTX is compiled on every later device
        ((7, 5), ["sm_80", "compute_80"], False),
        ((12, 0), ["sm_90", "sm_100"], False),  # the major number has two digits
        ((12, 0), ["sm_120"], True),
        ((9, 0), ["sm_90a"], True),  # a letter: this architecture only
        ((10, 3), ["sm_100a", "compute_100a"], False),
        ((9, 4), ["gfx942"], True),  # ROCm uses other names, and is assumed to run
        ((3, 0), [], True),
    ],
)
def test_a_gpu_can_run_what_was_built_for_it(capability, built_for, runs):
    assert devices.runs_on(capability, built_for) is runs


class Full(torch.nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


OUT_OF_MEMORY = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
}


@pytest.mark.parametrize("device", OUT_OF_MEMORY)
def test_running_out_of_gpu_memory_raises_a_device_memory_error(device, monkeypatch):
    monkeypatch.setattr(torch, "as_tensor", lambda x, device: torch.from_numpy(x))
    with pytest.raises(devices.DeviceMemoryError) as caught:
        TorchPredictor(Full(OUT_OF_MEMORY[device]), device)(np.zeros((1, 1, 16, 16), np.float32))
    assert caught.value.code == "out_of_memory" and "device cpu" in caught.value.message


def test_other_errors_of_a_network_are_not_changed(monkeypatch):
    monkeypatch.setattr(torch, "as_tensor", lambda x, device: torch.from_numpy(x))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        TorchPredictor(Full(RuntimeError("mat1 and mat2 shapes")), "cuda")(np.zeros((1, 1, 16, 16), np.float32))


def test_a_gpu_that_cannot_report_its_memory_has_none_free(monkeypatch):
    def full():
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch.cuda, "mem_get_info", full)
    with pytest.raises(devices.DeviceMemoryError, match=r"0\.0 GB"):
        devices.check_free_memory("cuda")


@pytest.mark.parametrize(
    "role, model",
    [("localizer", SpineLocalizer(TINY)), ("refiner", SpineRefiner(TINY[:4])), ("detector", VertebraDetector(TINY))],
)
def test_an_exported_network_runs_on_openvino_with_the_identity_of_its_weights(tmp_path, role, model):
    pytest.importorskip("onnx")
    path = tmp_path / "w.safetensors"
    weights.save(model, role, path, {"name": "tiny"})
    assert loading.load(role, path=path)[1].backend == "torch"  # no graph yet
    assert export.export_onnx(role, path) == tmp_path / "w.onnx"
    predict, stamp = loading.load(role, path=path)
    assert predict.backend == stamp.backend == "openvino"
    assert stamp.sha256 == weights.sha256(path.read_bytes())


def test_a_graph_with_other_outputs_is_not_written(files, monkeypatch):
    pytest.importorskip("onnx")
    other = export._graph(VertebraDetector(TINY).eval(), 2)
    monkeypatch.setattr(export, "_graph", lambda model, sides: other)
    with pytest.raises(VFQError) as caught:
        export.export_onnx("detector", files)
    assert caught.value.code == "bad_weights"
    assert not files.with_suffix(".onnx").exists() and "onnx_sha256" not in files.with_suffix(".json").read_text()


def test_saved_weights_load_unchanged(files):
    model = VertebraDetector(TINY)
    weights.save(model, "detector", files, {"name": "tiny"})
    loaded, stamp = weights.load("detector", path=files)
    assert loaded.channels == model.channels and not loaded.training
    assert stamp.sha256 == json.loads(files.with_suffix(".json").read_text())["sha256"]
    assert torch.allclose(loaded.head.weight, model.head.weight, atol=1e-3)


def rewrite_card(path, **changes):
    card = path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))


DAMAGE = {
    "truncated": lambda p: p.write_bytes(p.read_bytes()[:-40]),
    "one bit": lambda p: p.write_bytes(p.read_bytes()[:-1] + bytes([p.read_bytes()[-1] ^ 1])),
    "not safetensors": lambda p: p.write_bytes(b"pickle" * 9),
    "absent": lambda p: p.unlink(),
    "another role": lambda p: rewrite_card(p, role="localizer"),
    "no hash": lambda p: p.with_suffix(".json").write_text('{"role": "detector"}'),
    "card not JSON": lambda p: p.with_suffix(".json").write_text("{"),
    "card a list": lambda p: p.with_suffix(".json").write_text("[]"),
    "graph truncated": lambda p: p.with_suffix(".onnx").write_bytes(p.with_suffix(".onnx").read_bytes()[:-9]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_weights_that_differ_from_their_card_are_refused(files, damage):
    weights.save_onnx(b"a graph", "detector", files)
    DAMAGE[damage](files)
    with pytest.raises(VFQError) as caught:
        loading.load("detector", path=files)
    assert caught.value.code == "bad_weights" and str(files.parent) not in caught.value.message


@pytest.mark.parametrize("role, model", [("localizer", VertebraDetector(TINY)), ("detector", SpineLocalizer(TINY))])
def test_weights_of_another_architecture_are_refused(tmp_path, role, model):
    weights.save(model, role, tmp_path / "w.safetensors", {"name": "tiny"})
    with pytest.raises(VFQError) as caught:
        weights.load(role, path=tmp_path / "w.safetensors")
    assert caught.value.code == "bad_weights"


def test_a_folder_of_trained_networks_replaces_the_shipped_ones(files, tmp_path):
    shipped, mixed = analysis.load_models("cpu"), analysis.load_models("cpu", files.parent)
    changed = [a != b for a, b in zip(shipped.stamps, mixed.stamps, strict=True)]
    assert changed == [False, False, True] and mixed.stamps[2].name == "tiny"
    (tmp_path / "empty").mkdir()
    with pytest.raises(VFQError, match="has no file ROLE") as caught:
        analysis.load_models("cpu", tmp_path / "empty")
    assert caught.value.code == "bad_weights"


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf")])
def test_weights_with_numbers_that_are_not_finite_are_refused(tmp_path, monkeypatch, spoilt):
    model = VertebraDetector(TINY)
    model.head.bias.data[3] = spoilt
    with monkeypatch.context() as patch:
        patch.setattr(weights, "is_storable", lambda model: True)
        weights.save(model, "detector", tmp_path / "w.safetensors", {"name": "tiny"})
    with pytest.raises(VFQError, match="not finite") as caught:
        weights.load("detector", path=tmp_path / "w.safetensors")
    assert caught.value.code == "bad_weights"


def test_weights_of_other_depths_are_refused(tmp_path):
    weights.save(VertebraDetector((2, 2, 3, 3, 4, 4)), "detector", tmp_path / "w.safetensors", {"name": "deep"})
    with pytest.raises(VFQError, match="6 depths"):
        weights.load("detector", path=tmp_path / "w.safetensors")


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(VFQError, match=r"nonsense\.safetensors: No such file"):
        weights.load("detector", path=tmp_path / "nonsense.safetensors")


def test_shipped_weights_without_their_card_are_refused(files, monkeypatch):
    monkeypatch.setattr(weights, "weights_folder", lambda: files.parent)
    assert loading.load("detector")[1].name == "tiny"
    files.with_suffix(".json").unlink()
    with pytest.raises(VFQError, match=r"detector\.json") as caught:
        loading.load("detector")
    assert caught.value.code == "bad_weights"


def test_a_users_weights_without_card_run_on_torch_after_a_check_of_role_and_shapes(files):
    weights.save_onnx(b"a graph that no card lists", "detector", files)
    files.with_suffix(".json").unlink()
    predict, stamp = loading.load("detector", path=files)
    assert predict.backend == "torch" and stamp.sha256 == weights.sha256(files.read_bytes())
    with pytest.raises(VFQError) as caught:
        loading.load("localizer", path=files)
    assert caught.value.code == "bad_weights"


def test_an_old_graph_is_not_used_with_new_weights(files):
    weights.save_onnx(b"the graph of the weights before", "detector", files)
    weights.save(VertebraDetector(TINY), "detector", files, {"name": "newer"})
    predict, stamp = loading.load("detector", path=files)
    assert (predict.backend, stamp.name) == ("torch", "newer")


@pytest.mark.parametrize("missing", ["openvino", "graph"])
def test_torch_is_used_if_openvino_or_the_graph_is_missing(tmp_path, monkeypatch, missing):
    shutil.copytree(weights.weights_folder(), tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(weights, "weights_folder", lambda: tmp_path)
    if missing == "graph":
        (tmp_path / "detector.onnx").unlink()
    else:
        monkeypatch.setitem(sys.modules, "openvino", None)
    assert loading.load("detector")[1].backend == "torch"
