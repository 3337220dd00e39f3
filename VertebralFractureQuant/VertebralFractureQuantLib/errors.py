"""Coded failures: a study that cannot be measured gets a code and a sentence that says what to do.

A code is a stable, lower-case word for programs (`analysis.json`, exit status); the message is for people.
"""

CODES = {
    "not_found": "the input does not exist",
    "not_an_image": "no reader understands the file",
    "corrupt_file": "the file is truncated or damaged",
    "no_volume": "no volume is chosen",
    "not_3d": "the image is not a single three-dimensional volume",
    "not_ct": "the intensities are not Hounsfield units",
    "bad_voxels": "the voxels hold NaN or infinite values",
    "bad_spacing": "the voxel spacing is zero, negative or absurd",
    "bad_direction": "the axes are not orthonormal",
    "too_few_slices": "the volume is too thin to measure",
    "too_large": "the volume does not fit into memory",
    "no_ct_series": "the folder holds no CT series",
    "several_studies": "a DICOM folder holds more than one study",
    "missing_slices": "a DICOM series lacks slices",
    "mixed_series": "a DICOM series mixes geometries",
    "no_spine_found": "no spine lies in the field of view",
    "no_vertebra_found": "no complete vertebra lies in the field of view",
    "too_few_vertebrae": "a single complete vertebra lies in the field of view",
    "no_device": "the wished computing device is absent",
    "missing_dependency": "an optional package is needed and absent",
    "bad_weights": "the network weights are damaged or of another architecture",
    "bad_channels": "a network cannot have these channels",
    "bad_checkpoint": "the training run cannot be gone on with",
    "diverged": "the training's numbers are no longer finite",
    "bad_shares": "the shares of a mixture of networks are no shares",
    "nothing_to_evaluate": "no usable annotation, or no prediction with a usable reference",
    "output_exists": "the output is there already",
    "output_not_writable": "the output folder cannot be written",
    "not_an_analysis": "the file is no analysis of this program, or is damaged",
    "newer_schema": "the analysis was written by a newer version",
    "other_ct": "the analysis belongs to another CT",
    "not_a_journal": "the journal of the review is damaged, or not ours",
    "study_in_use": "another process has the study open",
    "too_few_points": "too few points were given for a curve",
    "not_along_spine": "the points of a curve lie beside one another",
    "outside_reformat": "a click lies outside the straightened picture",
    "no_vertebra_here": "nothing that looks like a vertebra lies at the click",
    "vertebra_there": "a vertebra stands where one is to be added",
    "faulty_vertebra": "the key points contradict each other",
    "no_machine_points": "the vertebra has no other points of the machine",
    "empty_scene": "the scene holds no reviewed study",
    "no_other_case": "the worklist ends here",
    "cancelled": "a person cancelled it",
    "port_in_use": "another program listens on the port",
    "unsafe_host": "others could reach the page, and no key of the user's own was given",
    "unsafe_key": "the key of the page is weak, or others can read it",
    "child_died": "the process that analysed ended without a word",
    "out_of_memory": "memory ran out",
    "internal_error": "a defect of this program",
}


class VFQError(Exception):
    """A failure with a code from `CODES` and a message that says what to do next."""

    def __init__(self, code: str, message: str):
        if code not in CODES:
            raise ValueError(f"unknown failure code {code!r}")
        super().__init__(message)
        self.code = code
        self.message = message


def as_coded(error: Exception) -> VFQError:
    """Any exception as a coded failure: itself, `out_of_memory`, or `internal_error` with one line of text."""
    if isinstance(error, VFQError):
        return error
    text = (str(error).splitlines() or [""])[0]
    # torch has its own exceptions: OutOfMemoryError on a GPU, a RuntimeError of its allocator on the CPU.
    lacks_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if lacks_memory or "can't allocate memory" in text:
        return VFQError("out_of_memory", "Memory ran out. Close other programs, or analyse a crop of the scan.")
    return VFQError("internal_error", f"A defect of this program ({type(error).__name__}: {text}).")
