"""Damaged NIfTI, NRRD and MetaImage: a coded refusal or all voxels, never a traceback, a hang or unread memory.

`Testing/validation/fuzz.py` is the long form.
"""

from __future__ import annotations

import gzip
import io
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from ct_writers import FORMS, META_FORMS, NIFTI_FORMS, NRRD_FORMS, Writer
from file_mutations import BOMB, FORMS_OF, mutate, read_all
from hypothesis import given, settings
from hypothesis import strategies as st
from isal import isal_zlib
from test_ct import body, placed
from test_ct_bad_input import refused
from VertebralFractureQuantLib.imaging import stored

resource = pytest.importorskip("resource", reason="Windows does not tell the peak of memory")


@pytest.mark.parametrize("format_", FORMS_OF)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(random=st.randoms(use_true_random=False))
def test_a_damaged_file_is_refused_or_read_whole(format_: str, random: Random) -> None:
    forms = FORMS_OF[format_]
    with tempfile.TemporaryDirectory() as folder:
        path = forms[random.choice(list(forms))](Path(folder), body(), placed(np.eye(3)))
        mutate(random, path)
        read_all(path) if path.exists() else None


@pytest.mark.parametrize("decoder", [zlib, isal_zlib], ids=["zlib", "isal"])
def test_each_decoder_of_gzip_and_zlib_gives_the_right_bytes_or_an_error(decoder, monkeypatch) -> None:
    monkeypatch.setattr(stored, "inflater", decoder)
    random, outcomes = Random(0), []
    noise = np.random.default_rng(0).normal(0, 30, 3000).astype("<i2").tobytes()
    for _ in range(1500):
        true = noise[: random.randint(1, len(noise))]
        data = bytearray(random.choice([gzip.compress, zlib.compress])(true))
        damage = random.choice(["none", "flipped", "cut", "more"])
        if damage == "flipped":
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        data = data[: random.randrange(len(data))] if damage == "cut" else data
        data += random.randbytes(9) if damage == "more" else b""
        try:
            assert b"".join(stored.inflated(io.BytesIO(data))) == true
            outcomes.append((damage, "read"))
        except (EOFError, zlib.error, isal_zlib.error):
            outcomes.append((damage, "refused"))
    expected = {("none", "read"), ("more", "read"), ("cut", "refused"), ("flipped", "refused")}
    assert expected <= set(outcomes) and not {("none", "refused"), ("more", "refused"), ("cut", "read")} & set(outcomes)


def test_unread_memory_is_noticed_by_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof itself is tested: with a reader that leaves voxels out, it fails."""
    path = NIFTI_FORMS["NIfTI-1 .nii"](tmp_path, body(), placed(np.eye(3)))
    assert read_all(path) == "read"
    monkeypatch.setattr(stored, "_fill", without_the_last(stored._fill))
    with pytest.raises(AssertionError):
        read_all(path)


def without_the_last(fill: Callable[..., int]) -> Callable[..., int]:
    """A reader that promises all bytes and leaves out the last."""
    return lambda buffer, *others, **options: fill(buffer[:-1], *others, **options) + 1


PROMISES = {
    "NIfTI-2 .nii.gz": (gzip.compress, struct.pack("<3q", 11, 14, 9), struct.pack("<3q", *[10_000] * 3)),
    "NRRD gzip": (bytes, b"sizes: 11 14 9", b"sizes: 10000 10000 10000"),
    "NRRD bzip2": (bytes, b"sizes: 11 14 9", b"sizes: 10000 10000 10000"),
    "NRRD ascii": (bytes, b"sizes: 11 14 9", b"sizes: 10000 10000 10000"),
    "NRRD LIST": (bytes, b"sizes: 11 14 9", b"sizes: 1000000 100000 9"),
    "MetaImage zlib": (bytes, b"DimSize = 11 14 9", b"DimSize = 10000 10000 10000"),
    "MetaImage pattern": (bytes, b"DimSize = 11 14 9", b"DimSize = 1000000 100000 9"),
}


@pytest.mark.parametrize("name", PROMISES)
def test_a_promise_of_10_to_the_12_voxels_allocates_nothing(tmp_path: Path, name: str) -> None:
    pack, old, new = PROMISES[name]
    path = FORMS[name](tmp_path, body(), placed(np.eye(3)))
    data = gzip.decompress(path.read_bytes()) if pack is gzip.compress else path.read_bytes()
    assert old in data
    path.write_bytes(pack(data.replace(old, new, 1)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused("too_large", path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


BOMBS: dict[str, Writer] = {
    "NIfTI": NIFTI_FORMS["NIfTI-1 .nii.gz"],
    "NRRD": NRRD_FORMS["NRRD gzip"],
    "NRRD, last bytes": NRRD_FORMS["NRRD gzip"],
    "MetaImage": META_FORMS["MetaImage zlib"],
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_gzip_bomb_is_refused_after_a_bounded_read(tmp_path: Path, name: str) -> None:
    path = BOMBS[name](tmp_path, body(), placed(np.eye(3)))
    data = path.read_bytes()
    if name == "NIfTI":
        data = gzip.compress(gzip.decompress(data)) + BOMB * 8
    else:
        end = data.index(b"\n\n") + 2 if "NRRD" in name else data.index(b"LOCAL\n") + 6
        data = (
            data[:end].replace(b"encoding:", b"byte skip: -1\nencoding:" if "last" in name else b"encoding:") + BOMB * 8
        )
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "far more than its header promises" in refused("corrupt_file", path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
