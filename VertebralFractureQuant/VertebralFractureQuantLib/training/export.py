"""Export of trained weights to the ONNX graph that OpenVINO runs on CPUs; it takes any batch and any image size.

Batch normalisation is folded into the convolutions. A graph whose outputs differ from those of its weights is never
written. Needs torch, openvino and onnx.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..errors import VFQError
from ..networks import weights
from ..networks.predictor import OpenVinoPredictor, TorchPredictor

OPSET = 17
TOLERANCE = 1e-4  # largest difference, relative to an output's largest value


def export_onnx(role: str, path: Path) -> Path:
    """Write the graph of the weights `path` (.safetensors) as .onnx beside them, and register it in their model card.

    VFQError `missing_dependency`, or `bad_weights` if the weights cannot be used or if OpenVINO's outputs differ from
    torch's. Nothing is written then.
    """
    if find_spec("onnx") is None:
        raise VFQError(
            "missing_dependency",
            "The ONNX graph of the weights was not written: the package onnx is missing. Install it (pip install "
            "onnx) and run the command again.",
        )
    model, _ = weights.load(role, path=path)
    sides = 3 if any(isinstance(m, nn.Conv3d) for m in model.modules()) else 2
    graph = _graph(model, sides)
    difference = _difference(model, graph, sides)
    if not difference < TOLERANCE:
        raise VFQError(
            "bad_weights",
            f"The ONNX graph of the {role} was not written: its outputs differ from those of the weights by "
            f"{difference:.1g} of their largest value, more than {TOLERANCE:.0e}. "
            "Try other versions of torch or openvino.",
        )
    return weights.save_onnx(graph, role, path)


def export_or_report(role: str, path: Path, report: Callable[[str], None]) -> None:
    """Call `export_onnx`; if it fails, only report why, since the weights are complete without the graph."""
    try:
        export_onnx(role, path)
    except VFQError as error:
        report(error.message)


def _graph(model: nn.Module, sides: int) -> bytes:
    free = {0: "batch", **{2 + i: f"side{i}" for i in range(sides)}}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder) / "graph.onnx"
        warnings.simplefilter("ignore", DeprecationWarning)  # the newer exporter needs onnxscript as well
        torch.onnx.export(
            model,
            (torch.zeros(1, 1, *[32] * sides),),
            path,
            input_names=["x"],
            dynamic_axes={"x": free},
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()


def _difference(model: nn.Module, graph: bytes, sides: int) -> float:
    """Return the largest difference between the engines, relative to an output's largest value, on two input sizes."""
    rng = np.random.default_rng(0)
    one, other = TorchPredictor(model), OpenVinoPredictor(graph)
    inputs = [rng.random((batch, 1, *shape[:sides]), np.float32) for batch, shape in ((1, (48, 32, 64)), (2, [32] * 3))]
    pairs = [pair for x in inputs for pair in zip(one(x), other(x), strict=True)]
    return max(float(abs(a - b).max() / abs(a).max()) for a, b in pairs)
