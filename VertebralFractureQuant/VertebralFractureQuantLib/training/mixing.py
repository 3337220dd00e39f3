"""A mixture of networks: the weighted mean of weights that have a common origin.

Weights from one run, or from runs that started with the same weights, lie in one valley of the loss. Their mean often
works on more kinds of scans than each of them (Wortsman et al. 2022, "Model soups"). Networks that were trained
separately from scratch have no useful mean. Needs torch and safetensors; openvino and onnx for the graph.
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
    """Write the weighted mean of the weights `paths` into `folder`, and return its path.

    The weights of the mean are `shares` divided by their sum. The model card names what was mixed; an exported ONNX
    graph is written beside it. VFQError `bad_shares`; `bad_weights` if a file cannot be used or the networks do not
    match.
    """
    if len(shares) != len(paths) or not paths or not all(s > 0 for s in shares) or not math.isfinite(sum(shares)):
        raise VFQError(
            "bad_shares",
            f"The shares ({', '.join(map(str, shares))}) do not fit {len(paths)} weights files. Give one share above "
            "0 for each file.",
        )
    models, stamps = zip(*(weights.load(role, path=path) for path in paths), strict=True)
    mixture, states = models[0], [model.state_dict() for model in models]
    if len({model.channels for model in models}) > 1:
        raise VFQError(
            "bad_weights",
            "Networks with different channels cannot be mixed. Use weights from one run, or from runs with the same "
            "initial weights.",
        )
    mean = {}
    for name, first in states[0].items():
        parts = [state[name].double() * share / sum(shares) for state, share in zip(states, shares, strict=True)]
        mean[name] = torch.stack(parts).sum(0).to(first.dtype)
    mixture.load_state_dict(mean)
    target = folder / f"{role}.safetensors"
    card = {
        "name": f"{role} mixture",
        "data": "that of the mixed networks: see their model cards",
        "mixture": [{**asdict(stamp), "share": share} for stamp, share in zip(stamps, shares, strict=True)],
    }
    weights.save(mixture, role, target, card)
    export_or_report(role, target, report)
    return target
