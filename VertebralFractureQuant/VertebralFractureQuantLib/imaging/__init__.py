"""From a file to a CT volume: voxels `[k, j, i]` in HU, and the matrix that places them in the patient, RAS mm.

`ct` holds the volume, `axes` its geometry, `files` reads and writes it. `nifti`, `nrrd` and `metaimage` read the
headers of files, `stored` their voxels. `dicom` chooses a series in a folder, with `dicom_slices` and `dicom_stack`;
`checks` decides what can be measured.
"""
