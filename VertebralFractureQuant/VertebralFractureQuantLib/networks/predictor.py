"""The seam between the method and the engine that computes a network: numpy arrays in, numpy arrays out.

torch runs the weights on GPUs; on a CPU OpenVINO runs the graph that was exported from them, without torch and in less
time. Both compute in single precision, so that a record does not depend on the machine.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..record import ModelStamp
from . import weights

if TYPE_CHECKING:
    from torch import nn

# OpenVINO's own choice is bfloat16 where the CPU has it: half the time, but points move by up to .27 mm; in single
# precision they are torch's to 1e-4 mm.
OPENVINO_SETTINGS = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}


class Predictor(Protocol):
    """A network, ready on its device: float32 `(b, 1, *sides)` to a tuple of float32 arrays, one for each output.

    The sides are multiples of 2 to the number of the network's poolings.
    """

    @property
    def device(self) -> str:
        """ "cpu", "cuda" or "mps"."""

    @property
    def backend(self) -> str:
        """The engine: "torch" or "openvino"."""

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """The network's outputs for `x`."""


@dataclass(frozen=True)
class TorchPredictor:
    """A torch module in evaluation mode, on the device where it already lies."""

    model: nn.Module
    device: str = "cpu"
    backend = "torch"

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """See `Predictor`."""
        import torch

        with torch.inference_mode():
            out = self.model(torch.as_tensor(x, device=self.device))
        return tuple(o.float().cpu().numpy() for o in (out if isinstance(out, tuple) else (out,)))


class OpenVinoPredictor:
    """An ONNX graph compiled once for this CPU, for inputs of any size; several threads may call it at a time."""

    device = "cpu"
    backend = "openvino"

    def __init__(self, graph: bytes):
        core = _openvino().Core()
        self._compiled = core.compile_model(core.read_model(graph), "CPU", OPENVINO_SETTINGS)

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """See `Predictor`."""
        results: tuple[np.ndarray, ...] = self._compiled.create_infer_request().infer([x]).to_tuple()
        return results


def load(role: str, device: str = "cpu", path: Path | None = None) -> tuple[Predictor, ModelStamp]:
    """The network of `role` on `device`, from the weights `path` (the shipped ones if None), and its identity.

    On "cpu" it is OpenVINO's, where that is installed and an exported graph lies beside the weights; else torch's.
    VFQError `bad_weights`; ImportError where the engine is not installed.
    """
    found = weights.load_onnx(role, path) if device == "cpu" and _has_openvino() else None
    predictor: Predictor
    if found:
        graph, stamp = found
        predictor = OpenVinoPredictor(graph)
    else:
        model, stamp = weights.load(role, device, path)
        predictor = TorchPredictor(model, device)
    return predictor, replace(stamp, backend=predictor.backend)


def _has_openvino() -> bool:
    try:
        _openvino()
    except ImportError:
        return False
    return True


def _openvino() -> Any:
    """The package, kept from reporting its use: at its import it calls its maker through `openvino_telemetry`."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
