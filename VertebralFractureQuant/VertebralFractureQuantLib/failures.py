"""The failures that come from outside: scans that cannot be read, archives that refuse. `errors.CODES` has all."""

from __future__ import annotations

from typing import NamedTuple


class Failure(NamedTuple):
    """The meaning of a code, which worklists show too, and its remedy."""

    meaning: str
    remedy: str


READING = {
    "not_found": Failure(
        "the input does not exist",
        "Check the path. In the Cohort section of 3D Slicer: choose a folder of scans, and analyse a case before you "
        "open it.",
    ),
    "not_an_image": Failure(
        "the file is not an image that can be read",
        "Give NIfTI, NRRD, MetaImage or a DICOM folder. If the path contains characters from another system, rename "
        "the file with plain letters.",
    ),
    "corrupt_file": Failure(
        "the file is truncated or damaged, or a part of it is missing",
        "Copy or export the scan again, with all files that belong to it. In a DICOM folder, also remove damaged files "
        "that are not slices of the series.",
    ),
    "no_volume": Failure("no volume is chosen", "Load a CT in 3D Slicer and choose it as the input."),
    "not_3d": Failure(
        "the image is not a single three-dimensional volume",
        "Give one volume with one value per voxel. Convert multi-frame DICOM to NIfTI first, for example with "
        "dcm2niix, and split a time series into its volumes.",
    ),
    "not_ct": Failure(
        "the intensities are not Hounsfield units",
        "Give the original CT, not MR, a label map, or a windowed or normalised image. If soft tissue lies near 1050, "
        "convert the DICOM files again with their rescale intercept, or subtract 1024.",
    ),
    "bad_voxels": Failure(
        "the image contains NaN or infinite values", "Replace these values by -1024 (air), or export the CT again."
    ),
    "bad_spacing": Failure(
        "the voxel spacing is invalid, implausible or contradictory",
        "Correct the spacing in the header, or export the CT again: millimetres cannot be measured with it.",
    ),
    "bad_direction": Failure(
        "the axes of the volume are invalid, or sheared more than a tilted gantry does",
        "Give the scan as it was acquired, or resample the volume to an orthogonal grid. If the position or an axis is "
        "invalid, export the CT again.",
    ),
    "orientation_unknown": Failure(
        "the header does not tell where left, front and head are",
        "Convert the scan again from DICOM, for example with dcm2niix, or write the orientation into the header. If "
        "the axes run to the left, to the back and to the head, use --trust-header.",
    ),
    "too_few_slices": Failure(
        "the volume is too thin to measure",
        "Choose the whole series, not a single slice or a localizer image: at least 3 voxels are needed along each "
        "axis. If an anonymiser gave each slice its own series, anonymise again with one Series Instance UID.",
    ),
    "too_large": Failure(
        "the volume does not fit into memory",
        "Crop the scan to the spine, close other programs, or use a computer with more memory.",
    ),
    "no_ct_series": Failure(
        "the folder contains no CT series, or not the one asked for",
        "Choose the folder of a CT study. With --series, check the UID, or leave the option out to use the fittest "
        "series; the list of all series is printed.",
    ),
    "several_studies": Failure(
        "a DICOM folder contains more than one study", "Give the folder of each study as a separate input."
    ),
    "missing_slices": Failure("slices are missing in a DICOM series", "Copy or export the complete series again."),
    "mixed_series": Failure(
        "a DICOM series mixes different geometries",
        "Export each phase, reconstruction or part as a separate series, or put the files of one into a folder. If "
        "only the distance between slices varies too much to be interpolated, resample the series to a constant "
        "distance.",
    ),
}

ARCHIVES = {
    "unknown_ae_title": Failure(
        "an association was refused: vfq listen was not told of its AE title, or was called by another name",
        "Add --from with the AE title of the sender, and let the sender call us by the title of --aet.",
    ),
    "not_accepted": Failure(
        "an archive offered objects that are no CT images, or are in a compression that cannot be read",
        "Send the CT series of the study; nothing else is needed. Let the archive send them without compression.",
    ),
    "bad_instance": Failure(
        "a DICOM object is damaged, or lacks the UID of its kind, of its study or its own",
        "Export or send the study again.",
    ),
    "instance_differs": Failure(
        "an instance came again with the same UID and other content; the first one was kept",
        "If the new one is right, delete the folder of the study in DIR/studies and send the study again.",
    ),
    "archive_unreachable": Failure(
        "the archive does not answer, rejects the association or breaks it",
        "Check that the archive runs, its address and both AE titles. vfq listen tries again until it succeeds.",
    ),
    "archive_refused": Failure(
        "the archive answers that it does not take an object, or refuses a request",
        "Check the log of the archive, its free space, what kinds of objects it takes, and the credentials. A study "
        "that vfq listen gave up is sent after a restart.",
    ),
    "fetch_in_progress": Failure(
        "another command is fetching this study right now", "Wait until it has ended; the study is complete then."
    ),
    "queue_in_use": Failure("another vfq listen uses the folder", "End the other one, or give another --output."),
    "not_a_queue": Failure(
        "the file of the queue is damaged, or belongs to another program",
        "Move queue.sqlite away. The received studies stay, and are taken up when they are sent again.",
    ),
    "unsafe_url": Failure(
        "the address of a DICOMweb service is none, or would carry credentials without encryption",
        "Use an https:// address, with the credentials in VFQ_DICOMWEB_USER and VFQ_DICOMWEB_PASSWORD.",
    ),
    "nothing_found": Failure(
        "the archive has no CT study with this UID, ID or number",
        "Check the UID, ID or number, and that the account may see the study.",
    ),
}

COMPARISONS = {
    "same_study": Failure("the same scan was given twice for a comparison", "Give two examinations of one patient."),
    "other_method": Failure(
        "the vertebrae of two examinations were found by different methods",
        "Analyse both examinations with the same --method. Or review all their vertebrae.",
    ),
    "no_level_in_common": Failure(
        "no vertebra is in both scans, so nothing can be compared",
        "Give scans that overlap by at least two vertebrae. If they do, set the level of one vertebra in each with vfq "
        "review.",
    ),
    "other_patient": Failure(
        "sizes, shapes and images of the vertebrae are unlikely to be those of one patient",
        "Check that both scans are of the same patient, and that the voxel spacing in both headers is right. If they "
        "are, use vfq compare --same-patient.",
    ),
    "alignment_uncertain": Failure(
        "it is not certain which vertebrae of two scans belong together",
        "Open both cases with vfq review and set the level of one vertebra in each, then compare again.",
    ),
    "bad_matches": Failure(
        "the match that a reader corrected is damaged, of another scan, or no longer fits the vertebrae",
        "Open both with vfq review --prior and match the vertebrae again. Or remove matches.json from the folder of "
        "the current case; the match is then automatic.",
    ),
    "same_day": Failure(
        "both scans of a patient are of one day, so no fracture can be new between them",
        "Nothing needs to be done: the next scan of the patient is compared with the later of them.",
    ),
    "bad_dates": Failure(
        "the dates of the examinations are not in order, or cannot be read",
        "Give the examinations from the earliest to the latest, and with --dates one date for each, as 2026-11-30.",
    ),
}
