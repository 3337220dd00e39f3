"""Weights files: `<role>.safetensors`, `<role>.onnx` exported from it, and the model card `<role>.json` of both.

The card contains each file's SHA-256. Files are verified against it when they are loaded; a file that is damaged,
replaced, or of another role or architecture is refused with `bad_weights`. No file is a pickle. The SHA-256 of the
safetensors is the model's identity in every analysis, whichever engine computed it.

If weights that a user names have no card, their role and the names and shapes of all tensors are checked, and no ONNX
graph is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import VFQError
from ..spine.record import ModelStamp
from ..whole import whole_file

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .architectures import SpineLocalizer, VertebraDetector


def weights_folder() -> Path:
    """Return the folder of the shipped weights: the module's Resources in a checkout or in Slicer, else the package."""
    package = Path(__file__).resolve().parent.parent
    beside = package.parent / "Resources" / "Weights"
    return beside if beside.is_dir() else package / "weights"


def save(model: SpineLocalizer | VertebraDetector, role: str, path: Path, card: dict) -> None:
    """Write `path` (.safetensors, half precision) and its model card; an older ONNX graph beside it is no longer used.

    VFQError `bad_weights` if a number is not finite in half precision; nothing is written then.
    """
    from safetensors.torch import save as packed

    if not is_storable(model):
        raise VFQError(
            "bad_weights",
            f"The {role} weights were not written: a number in them is not finite. Train with a lower learning rate.",
        )
    state = _halved(model)
    metadata = {"role": role, "channels": json.dumps(model.channels), "name": card["name"]}
    path.parent.mkdir(parents=True, exist_ok=True)
    content = _ordered(packed({k: v.contiguous().cpu() for k, v in state.items()}, metadata))
    with whole_file(path) as partial:
        partial.write_bytes(content)
    _write_card(path, {**card, "role": role, "sha256": sha256(content)})


def _ordered(packed: bytes) -> bytes:
    """Sort the header, which safetensors writes in a random order: the same network is the same file."""
    size = int.from_bytes(packed[:8], "little")
    header = json.loads(packed[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + packed[8 + size :]


def is_storable(model: nn.Module) -> bool:
    """True if all numbers are finite in half precision."""
    return all(bool(v.isfinite().all()) for v in _halved(model).values())


def _halved(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}


def save_onnx(graph: bytes, role: str, path: Path) -> Path:
    """Write the graph exported from the weights `path` beside them, register it in their card, and return its path."""
    card = json.loads(_card_path(path).read_text())
    target = path.with_suffix(".onnx")
    with whole_file(target) as partial:
        partial.write_bytes(graph)
    _write_card(path, {**card, "role": role, "onnx_sha256": sha256(graph)})
    return target


def load(role: str, device: str = "cpu", path: Path | None = None) -> tuple[nn.Module, ModelStamp]:
    """Return the torch module of `role` in evaluation mode, and its identity, from `path` (None: the shipped weights).

    VFQError `bad_weights`.
    """
    from safetensors import SafetensorError, safe_open

    from .roles import architecture

    with _as_bad_weights(role, path, (SafetensorError,)):
        path, _ = _verified(role, path)
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (not a mapping)
        _check_role(role, metadata.get("role"))
        channels = tuple(json.loads(metadata["channels"]))
        if len(channels) != len(architecture(role)().channels):
            raise ValueError(f"they have {len(channels)} depths")
        model = architecture(role)(channels)
        model.load_state_dict(state)
        if not all(bool(v.isfinite().all()) for v in state.values()):
            raise ValueError("a number in them is not finite")
    model.eval().requires_grad_(False).to(device)
    return model, ModelStamp(role, metadata.get("name", role), sha256(path.read_bytes()))


def load_onnx(role: str, path: Path | None = None) -> tuple[bytes, ModelStamp] | None:
    """Return the ONNX graph exported from the weights `path` (None: the shipped weights), and their identity.

    Return None if there is no graph, or if the card does not list it. VFQError `bad_weights`.
    """
    with _as_bad_weights(role, path):
        path, card = _verified(role, path)
        target = path.with_suffix(".onnx")
        if "onnx_sha256" not in card or not target.exists():
            return None
        _check_role(role, card["role"])
        graph = target.read_bytes()
        _check_hash(target, graph, card["onnx_sha256"])
        return graph, ModelStamp(role, card["name"], card["sha256"])


def stamp_of(role: str, path: Path) -> ModelStamp:
    """Return the identity of the weights `path` by their model card, which they must fit. VFQError `bad_weights`."""
    with _as_bad_weights(role, path):
        path, card = _verified(role, path)
        if not card:
            raise ValueError(f"the model card {path.stem}.json is missing")
        _check_role(role, card["role"])
        return ModelStamp(role, card["name"], card["sha256"])


def sha256(content: bytes) -> str:
    """Return the hexadecimal SHA-256 of `content`."""
    return hashlib.sha256(content).hexdigest()


def _verified(role: str, path: Path | None) -> tuple[Path, dict[str, Any]]:
    """Return the weights' path and their card, which agree; the card is empty if a user's weights have none."""
    given, path = path, path or weights_folder() / f"{role}.safetensors"
    path.open("rb").close()  # raises an OSError that names the file; those of safetensors do not
    if given and not _card_path(path).exists():
        return path, {}
    card: dict[str, Any] = json.loads(_card_path(path).read_text())
    _check_hash(path, path.read_bytes(), card["sha256"])
    return path, card


def _check_role(role: str, found: str | None) -> None:
    if found != role:
        raise ValueError(f"they are for the role {found!r}")


def _check_hash(path: Path, content: bytes, expected: str) -> None:
    if sha256(content) != expected:
        raise ValueError(f"{path.name} is damaged or was replaced: its SHA-256 differs from the one in the model card")


@contextmanager
def _as_bad_weights(role: str, path: Path | None, more: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn every error about the files into VFQError `bad_weights`."""
    wrong: tuple[type[Exception], ...] = (OSError, ValueError, LookupError, TypeError, RuntimeError, *more)
    try:
        yield
    except wrong as error:
        advice = "Use a .safetensors file and the .json written with it." if path else "Reinstall the program."
        raise VFQError("bad_weights", f"The {role} weights cannot be used ({_reason(error)}). {advice}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{Path(error.filename or '').name}: {error.strerror}"
    return f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())[:300]


def _card_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _write_card(path: Path, card: dict) -> None:
    with whole_file(_card_path(path)) as partial:
        partial.write_text(json.dumps(card, indent=2) + "\n")
