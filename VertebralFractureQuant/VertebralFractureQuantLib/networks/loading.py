"""Loading a network: the engine that fits the device, and the weights that it computes with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..spine.record import ModelStamp
from . import weights
from .devices import lack_of_memory_named
from .predictor import OpenVinoPredictor, Predictor, TorchPredictor, has_openvino


def load(role: str, device: str = "cpu", path: Path | None = None) -> tuple[Predictor, ModelStamp]:
    """The network of `role` on `device`, from the weights `path` (the shipped ones if None), and its identity.

    On "cpu" it is OpenVINO's, where that is installed and an exported graph lies beside the weights; else torch's.
    VFQError `bad_weights`, DeviceMemoryError; ImportError where the engine is not installed.
    """
    found = weights.load_onnx(role, path) if device == "cpu" and has_openvino() else None
    predictor: Predictor
    if found:
        graph, stamp = found
        predictor = OpenVinoPredictor(graph)
    else:
        with lack_of_memory_named(device):
            model, stamp = weights.load(role, device, path)
        predictor = TorchPredictor(model, device)
    return predictor, replace(stamp, backend=predictor.backend)
