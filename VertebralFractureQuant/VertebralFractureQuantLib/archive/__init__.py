"""From archive to archive: CT studies arrive over the network, and their results go back.

This is the only room, besides the server of the review page, that talks to a network. Where things live:

- `folders`: the folder of a listener, and how a received file gets there complete or not at all;
- `queue`: the state of each study, in a file that survives a kill at any moment;
- `receiver` and `sender`: DICOM C-STORE, in and out; `child`: the process that analyses and writes DICOM objects;
- `listener`: puts these together; `web`: DICOMweb.

Names of folders are hashes of UIDs. No log and no queue holds anything of a patient; the DICOM files do.
"""
