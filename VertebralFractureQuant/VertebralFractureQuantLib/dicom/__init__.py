"""DICOM objects of a case: structured report, overview image and PDF for the archive, and the report read back.

Where things live:

- `source`: the series that was analysed, with the identity of patient and study, read at export time only;
- `codes`: the concepts of the structured report, standard and of this program (`99VFQ`);
- `groups` and `structured`: the structured report; `objects`: what all objects share, the image and the PDF;
- `export`: all objects of one case; `back`: a structured report of this program as a record.

Points are LPS mm in DICOM objects and RAS mm elsewhere.
"""
