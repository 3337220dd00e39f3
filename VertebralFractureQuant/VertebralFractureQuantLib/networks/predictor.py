"""The interface between the method and the engine that computes a network: numpy arrays in, numpy arrays out.

On GPUs torch runs the weights. On a CPU OpenVINO runs the graph that was exported from them, faster and without torch.
Both compute in single precision, so that results do not depend on the computer.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .devices import lack_of_memory_named

if TYPE_CHECKING:
    from torch import nn

# By default OpenVINO uses bfloat16 if the CPU supports it. It halves the time, but points move by up to 0.27 mm; in
# single precision they agree with torch's to 1e-4 mm.
OPENVINO_SETTINGS = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}


class Predictor(Protocol):
    """A network on its device: it maps float32 `(b, 1, *sides)` to a tuple of float32 arrays, one for each output.

    The sides are multiples of 2 ** n, where n is the number of the network's poolings.
    """

    @property
    def device(self) -> str:
        """The device: "cpu", "cuda" or "mps"."""

    @property
    def backend(self) -> str:
        """The engine: "torch" or "openvino"."""

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the network's outputs for `x`."""


@dataclass(frozen=True)
class TorchPredictor:
    """A torch module in evaluation mode that is already on `device`."""

    model: nn.Module
    device: str = "cpu"
    backend = "torch"

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the network's outputs for `x`, see `Predictor`."""
        import torch

        single = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with lack_of_memory_named(self.device), torch.inference_mode(), single:
            out = self.model(torch.as_tensor(x, device=self.device))
            return tuple(o.float().cpu().numpy() for o in (out if isinstance(out, tuple) else (out,)))


class OpenVinoPredictor:
    """An ONNX graph, compiled for the CPU, for inputs of any size; several threads may call it at the same time."""

    device = "cpu"
    backend = "openvino"

    def __init__(self, graph: bytes, threads: int | None = None):
        core = _openvino().Core()
        settings = {**OPENVINO_SETTINGS, **({"INFERENCE_NUM_THREADS": threads} if threads else {})}
        self._compiled = core.compile_model(core.read_model(graph), "CPU", settings)

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the network's outputs for `x`, see `Predictor`."""
        results: tuple[np.ndarray, ...] = self._compiled.create_infer_request().infer([x]).to_tuple()
        return results


def has_openvino() -> bool:
    """True if OpenVINO is installed."""
    try:
        _openvino()
    except ImportError:
        return False
    return True


def _openvino() -> Any:
    """Import openvino without `openvino_telemetry`, through which it would report its use over the network."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
