"""Weights files: safetensors with the architecture in their metadata, a model card beside; never a pickle.

`load` verifies role and shapes and refuses anything else with `bad_weights`; a file's SHA-256 is the model's
identity in every analysis.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from torch import nn

from ..errors import VFQError
from ..record import ModelStamp
from .detector import VertebraDetector
from .localizer import SpineLocalizer

ARCHITECTURES: dict[str, type[SpineLocalizer] | type[VertebraDetector]] = {
    "localizer": SpineLocalizer,
    "detector": VertebraDetector,
}


def weights_folder() -> Path:
    """Where the shipped weights lie: the module's Resources in a checkout or in Slicer, the package after pip."""
    package = Path(__file__).resolve().parent.parent
    beside = package.parent / "Resources" / "Weights"
    return beside if beside.is_dir() else package / "weights"


def save(model: SpineLocalizer | VertebraDetector, role: str, path: Path, card: dict) -> None:
    """Write `path` (.safetensors, half precision) and its model card `path`.json, which holds the file's SHA-256."""
    from safetensors.torch import save_file

    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    metadata = {"role": role, "channels": json.dumps(model.channels), "name": card["name"]}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({k: v.contiguous().cpu() for k, v in state.items()}, partial, metadata)
    partial.chmod(0o644)  # safetensors leaves it readable by its owner only
    partial.replace(path)
    path.with_suffix(".json").write_text(json.dumps({**card, "sha256": sha256(path)}, indent=2) + "\n")


def load(role: str, device: str = "cpu", path: Path | None = None) -> tuple[nn.Module, ModelStamp]:
    """The network of `role` ("localizer" | "detector") in evaluation mode, and its identity. VFQError bad_weights."""
    from safetensors import SafetensorError, safe_open

    path = path or weights_folder() / f"{role}.safetensors"
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (not a mapping)
        if metadata.get("role") != role:
            raise ValueError(f"they are for the role {metadata.get('role')!r}")
        model = ARCHITECTURES[role](tuple(json.loads(metadata["channels"])))
        model.load_state_dict(state)
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise VFQError("bad_weights", f"The {role} weights {path.name} cannot be used ({error}). Reinstall.") from error
    model.eval().requires_grad_(False).to(device)
    return model, ModelStamp(role, metadata.get("name", role), sha256(path))


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
