"""Coded failures: a study that cannot be measured gets a code and a sentence that says what to do.

A code is a stable, lower-case word for programs (`analysis.json`, exit status); the message is for people.
"""

CODES = {
    "not_found": "the input does not exist",
    "not_an_image": "no reader understands the file",
    "corrupt_file": "the file is truncated or damaged",
    "not_3d": "the image is not a single three-dimensional volume",
    "not_ct": "the intensities are not Hounsfield units",
    "bad_voxels": "the voxels hold NaN or infinite values",
    "bad_spacing": "the voxel spacing is zero, negative or absurd",
    "bad_direction": "the axes are not orthonormal",
    "too_few_slices": "the volume is too thin to measure",
    "too_large": "the volume does not fit into memory",
    "no_ct_series": "the folder holds no CT series",
    "missing_slices": "a DICOM series lacks slices",
    "mixed_series": "a DICOM series mixes geometries",
    "no_spine_found": "no spine lies in the field of view",
    "no_vertebra_found": "no complete vertebra lies in the field of view",
    "too_few_vertebrae": "a single complete vertebra lies in the field of view",
    "no_device": "the wished computing device is absent",
    "missing_dependency": "an optional package is needed and absent",
    "bad_weights": "the network weights are damaged or of another architecture",
    "nothing_to_evaluate": "no usable annotation, or no prediction with a usable reference",
    "output_exists": "the output is there already",
    "output_not_writable": "the output folder cannot be written",
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
