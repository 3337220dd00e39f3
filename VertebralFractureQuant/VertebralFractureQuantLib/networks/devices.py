"""Checks of GPUs: whether the installed torch can compute on them, and whether enough memory is free.

A GPU that torch was not built for, or whose memory is in use, seems usable until the first kernel runs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import VFQError

# The localizer's step is the largest. For a scan of 1 m length and 512 mm width it takes 1.5 GB, and 2.8 GB for a whole
# body of 1.9 m (growth of torch's resident memory on a CPU). Half a GB is added for CUDA's context, and half a
# GB for the workspace of the convolutions. If a scan needs more than is free, the analysis fails with
# `DeviceMemoryError`.
FREE_BYTES_NEEDED = 2_500_000_000


DRIVERS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvmap", "/dev/kfd", "/dev/dxg")


class DeviceMemoryError(VFQError):
    """The accelerator has too little memory; the same analysis is possible on the CPU."""

    def __init__(self, message: str):
        super().__init__("out_of_memory", message)


def accelerators() -> dict[str, str]:
    """Return the accelerators that torch finds, each with the reason why it cannot be used, or "" if it can.

    Without any driver torch is not imported, which takes longer than an analysis.
    """
    if not has_driver():
        return {}
    try:
        import torch
    except ImportError:
        return {}
    found = {"cuda": unfit_cuda()} if torch.cuda.is_available() else {}
    return found | ({"mps": ""} if torch.backends.mps.is_available() else {})


def has_driver() -> bool:
    """True if the computer may have an accelerator: false only on Linux without a device of NVIDIA, AMD or WSL."""
    return sys.platform != "linux" or "torch" in sys.modules or any(Path(device).exists() for device in DRIVERS)


def unfit_cuda() -> str:
    """Return why the installed torch cannot compute on the CUDA device, or "" if it can."""
    import torch

    try:
        capability, name = torch.cuda.get_device_capability(), torch.cuda.get_device_name()
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[0]
        return f"The GPU cannot be used ({reason}). Update its driver, or use the device auto or cpu."
    built_for = torch.cuda.get_arch_list()
    if runs_on(capability, built_for):
        return ""
    return (
        f"The GPU {name} (compute capability {capability[0]}.{capability[1]}) cannot run the installed torch "
        f"{torch.__version__}, which was built for {', '.join(built_for)}. Install a torch that was built for this "
        "GPU, or use the device auto or cpu."
    )


def runs_on(capability: tuple[int, int], built_for: Sequence[str]) -> bool:
    """True if code for the architectures `built_for` ("sm_86", "compute_90", ...) runs on a device of `capability`.

    By the CUDA C++ Programming Guide, "Binary Compatibility" and "PTX Compatibility": machine code (sm) runs on devices
    with the same major and an equal or higher minor number; PTX (compute) is compiled on the device and runs on every
    later one; code with a letter (sm_90a) runs on that one architecture only. A build that names none of these (ROCm:
    "gfx90a") is assumed to run.
    """
    known = [found for name in built_for if (found := re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", name))]
    made_for = [(kind, (int(major), int(minor)), letter) for kind, major, minor, letter in (m.groups() for m in known)]
    return not known or any(_serves(capability, *code) for code in made_for)


def _serves(capability: tuple[int, int], kind: str, made_for: tuple[int, int], letter: str) -> bool:
    if letter:
        return capability == made_for
    return capability >= made_for and (kind == "compute" or capability[0] == made_for[0])


def check_free_memory(device: str) -> None:
    """Raise DeviceMemoryError if the CUDA device has less free memory than an analysis needs."""
    if device != "cuda":
        return  # mps shares the computer's memory and does not report it
    import torch

    try:
        free, _ = torch.cuda.mem_get_info()
    except RuntimeError:  # if nothing is free, CUDA has no room for its context, and this call fails as well
        free = 0
    if free < FREE_BYTES_NEEDED:
        raise DeviceMemoryError(
            f"The GPU has {free / 1e9:.1f} GB of free memory, but {FREE_BYTES_NEEDED / 1e9:.1f} GB are needed. Close "
            "other programs that use it, or use the device cpu."
        )


@contextmanager
def lack_of_memory_named(device: str) -> Iterator[None]:
    """Turn torch's out-of-memory errors into DeviceMemoryError; each kind of device raises another type."""
    try:
        yield
    except RuntimeError as error:
        if device == "cpu" or "out of memory" not in str(error).lower():
            raise
        raise DeviceMemoryError(
            "The GPU ran out of memory. Close other programs that use it, or use the device cpu."
        ) from error
