"""Loading of a network: the engine for the device, with the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..spine.record import ModelStamp
from . import weights
from .devices import lack_of_memory_named
from .predictor import OpenVinoPredictor, Predictor, TorchPredictor, has_openvino


def load(
    role: str, device: str = "cpu", path: Path | None = None, threads: int | None = None
) -> tuple[Predictor, ModelStamp]:
    """Return the network of `role` on `device` and its identity, from the weights `path` (None: the shipped weights).

    On "cpu", OpenVINO runs it if it is installed and an exported graph exists beside the weights; otherwise torch does.
    threads : of OpenVINO; None for one on each core.
    VFQError `bad_weights`, DeviceMemoryError; ImportError if the engine is not installed.
    """
    found = weights.load_onnx(role, path) if device == "cpu" and has_openvino() else None
    predictor: Predictor
    if found:
        graph, stamp = found
        predictor = OpenVinoPredictor(graph, threads)
    else:
        with lack_of_memory_named(device):
            model, stamp = weights.load(role, device, path)
        predictor = TorchPredictor(model, device)
    return predictor, replace(stamp, backend=predictor.backend)
