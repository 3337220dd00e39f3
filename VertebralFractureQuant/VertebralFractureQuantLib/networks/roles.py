"""The torch class of each role, of ours and of other methods; the latter are imported only when they are asked for."""

from __future__ import annotations

from typing import Any


def architecture(role: str) -> Any:
    """Return the class of the network of `role`; KeyError if there is none."""
    from .architectures import ARCHITECTURES

    if role in ARCHITECTURES:
        return ARCHITECTURES[role]
    from .method_architectures import METHOD_ARCHITECTURES

    return METHOD_ARCHITECTURES[role]
