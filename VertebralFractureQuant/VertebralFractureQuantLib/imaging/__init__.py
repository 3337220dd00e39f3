"""From a file to a CT volume: voxels `[k, j, i]` in HU, and the matrix that places them in the patient, RAS mm."""
