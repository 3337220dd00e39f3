"""A mixture of networks: the weighted mean of weights that were trained from one another.

States of one run, or of runs that began with the same weights, lie in one valley of the loss, and their mean often
holds on more kinds of scans than each of them (Wortsman et al. 2022, "Model soups"). Networks that were trained apart
from scratch have no such mean. Needs torch and safetensors, for the graph openvino and onnx.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from ..errors import VFQError
from ..networks import weights
from .export import export_or_report


def mix(
    role: str, paths: Sequence[Path], shares: Sequence[float], folder: Path, report: Callable[[str], None] = print
) -> Path:
    """Write the mean of the weights `paths`, each by its share of the shares' sum, into `folder`; returns its path.

    The model card names what was mixed; an exported graph lies beside. VFQError `bad_shares`, or `bad_weights` where
    one cannot be used or they do not fit together.
    """
    if len(shares) != len(paths) or not paths or not all(s > 0 for s in shares) or not math.isfinite(sum(shares)):
        raise VFQError("bad_shares", f"Give one share above 0 for each of the {len(paths)} weights files.")
    models, stamps = zip(*(weights.load(role, path=path) for path in paths), strict=True)
    mixture, states = models[0], [model.state_dict() for model in models]
    if len({model.channels for model in models}) > 1:
        raise VFQError("bad_weights", "Networks of different channels have no mean. Give states of one run.")
    mean = {}
    for name, first in states[0].items():
        parts = [state[name].double() * share / sum(shares) for state, share in zip(states, shares, strict=True)]
        mean[name] = torch.stack(parts).sum(0).to(first.dtype)
    mixture.load_state_dict(mean)
    target = folder / f"{role}.safetensors"
    card = {
        "name": f"{role} mixture",
        "data": "synthetic phantoms made on the fly; no patient data",
        "mixture": [{**asdict(stamp), "share": share} for stamp, share in zip(stamps, shares, strict=True)],
    }
    weights.save(mixture, role, target, card)
    export_or_report(role, target, report)
    return target
