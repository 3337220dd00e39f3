"""Finishing of a trained generator of the synthetic picture: its ONNX graph, and the grader of the losses.

Needs torch, safetensors, onnx, openvino, and scikit-learn for the grader.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import VFQError
from ..methods.healthy_frame import COLUMNS, ROWS
from ..methods.healthy_network import HealthyGenerator
from ..networks import weights
from ..networks.predictor import OpenVinoPredictor, TorchPredictor
from ..spine.genant import GRADES
from .export import OPSET, TOLERANCE


def read_generator(path: Path) -> HealthyGenerator:
    """Return the generator of the weights `path` (.safetensors) in evaluation mode. Raises OSError without a file."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        channels = tuple(json.loads((file.metadata() or {})["channels"]))
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    model = HealthyGenerator(channels)
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def export_generator(path: Path) -> Path:
    """Write the graph of the weights `path` as .onnx beside them, and register it in their card.

    VFQError `bad_weights` if OpenVINO's outputs differ from torch's; nothing is written then.
    """
    model = read_generator(path)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the newer exporter needs onnxscript as well
        file = Path(folder) / "graph.onnx"
        example = torch.zeros(1, 3, ROWS, COLUMNS)
        example[:, 2] = 1
        axes = {"x": {0: "batch"}}
        torch.onnx.export(
            model, (example,), file, input_names=["x"], dynamic_axes=axes, opset_version=OPSET, dynamo=False
        )
        graph = file.read_bytes()
    x = np.random.default_rng(0).random((2, 3, ROWS, COLUMNS), np.float32)
    pairs = zip(TorchPredictor(model)(x), OpenVinoPredictor(graph)(x), strict=True)
    difference = max(float(abs(a - b).max() / abs(a).max()) for a, b in pairs)
    if not difference < TOLERANCE:
        raise VFQError("bad_weights", f"The graph was not written: its outputs differ by {difference:.1g}.")
    return weights.save_onnx(graph, "healthy", path)


def fit_grader(losses: np.ndarray, grades: list[str]) -> dict[str, Any]:
    """Fit a linear support vector machine, as in the paper: grades of `genant.GRADES` from losses `(n, 3)`.

    The result is as `healthy_picture.graded` takes it. ValueError unless all grades occur.
    """
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    classes = np.array([GRADES.index(grade) for grade in grades])
    if len(set(classes)) != len(GRADES):
        raise ValueError("the grader needs vertebrae of all grades")
    scaler = StandardScaler().fit(losses)
    machine = SVC(kernel="linear", class_weight="balanced").fit(scaler.transform(losses), classes)
    arrays = {
        "mean": scaler.mean_,
        "scale": scaler.scale_,
        "coef": machine.coef_,
        "intercept": machine.intercept_,
    }
    return {key: np.round(value, 5).tolist() for key, value in arrays.items()}


def add_to_card(path: Path, **entries: Any) -> None:
    """Add entries to the model card of the weights `path`."""
    card_path = path.with_suffix(".json")
    card = json.loads(card_path.read_text(encoding="utf-8"))
    card_path.write_text(json.dumps({**card, **entries}, indent=2) + "\n", encoding="utf-8")
