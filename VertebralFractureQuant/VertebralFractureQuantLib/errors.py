"""Coded failures: what cannot be done gets a code, and a message that says what is wrong and what to do.

A code is a stable, lower-case word for programs (such as the status in `analysis.json`). The message is for people.
`CODES` gives the meaning and the remedy of each code, those of scans, archives and comparisons from `failures`;
Documentation/troubleshooting.md is generated from it.
"""

from __future__ import annotations

from .failures import ARCHIVES, COMPARISONS, READING, Failure

CODES = {
    **READING,
    # Finding and measuring the spine
    "no_spine_found": Failure(
        "no spine was found in the field of view",
        "Use a CT of the neck or trunk that contains the vertebral column. If it does, open the scan with vfq review "
        "or in 3D Slicer, press s and click the spine.",
    ),
    "no_vertebra_found": Failure(
        "no complete vertebra was found in the field of view",
        "Check that whole vertebral bodies lie in the field of view. If they do, open the scan with vfq review or in "
        "3D Slicer, press s and click the spine.",
    ),
    "too_few_vertebrae": Failure(
        "only one complete vertebra lies in the field of view",
        "Give a longer scan: at least two vertebrae are needed, because each is compared with its neighbours.",
    ),
    "spine_cut_off": Failure(
        "the field of view ends right behind what may be the spine",
        "Give a scan or a reformat that contains the whole spine with its canal. If whole vertebral bodies are in "
        "view, open the scan with vfq review or in 3D Slicer, press s and click the spine.",
    ),
    "implausible_size": Failure(
        "most of what looks like vertebrae has sizes that no human spine has",
        "Check the voxel spacing in the scan's header. Give a scan that contains whole vertebral bodies from front to "
        "back, or open it with vfq review or in 3D Slicer, press s and click the spine.",
    ),
    "orientation_contradicts_anatomy": Failure(
        "the body lies otherwise than the header of the scan says",
        "Convert the scan again from DICOM, or correct the orientation in its header: the message names the axes that "
        "seem to be exchanged. If the header is right, use vfq analyze --trust-header.",
    ),
    "slices_too_thick": Failure(
        "the slices are so thick that heights cannot be measured",
        "Use a reconstruction of the same scan with slices of 3 mm or less.",
    ),
    # Networks, training and evaluation
    "no_device": Failure("the chosen device is not available", "Use --device auto or --device cpu."),
    "bad_template": Failure(
        "the words of a report cannot be made: an unknown language, or an error in a template",
        "Correct the line of the template that the message names, or leave --template out. Use --language en or de.",
    ),
    "missing_dependency": Failure(
        "an optional package is needed and not installed",
        "Install the package that the message names, with pip, or with the button Install missing packages in 3D "
        "Slicer.",
    ),
    "bad_weights": Failure(
        "the network weights are missing, damaged or do not fit",
        "Give a folder of weights as vfq train writes them, or reinstall to restore the shipped weights. Mix only "
        "networks with the same channels. During a review without networks, place the six points by hand (b).",
    ),
    "unknown_weights": Failure(
        "no weights of this name are installed, or weights cannot have this name",
        "See the names with vfq weights list. Choose with vfq weights use NAME, or vfq weights use shipped.",
    ),
    "unknown_method": Failure(
        "there is no method of this name",
        "Give --method one of the names that the message lists.",
    ),
    "no_method_weights": Failure(
        "the chosen method has no weights",
        "Train its networks with vfq train and give their folder as --weights, or use the method anchor-free.",
    ),
    "bad_channels": Failure(
        "a network cannot have these channels",
        "Give one number for each depth of the network, such as 16-32-64-96-128. With --start, leave --channels out.",
    ),
    "not_a_reference": Failure(
        "a file is not a six-point reference",
        "Give folders with references only, such as Testing/references.",
    ),
    "no_real_data": Failure(
        "this network learns from phantoms only",
        "Leave out --references and --dataset.",
    ),
    "too_few_labels": Failure(
        "the label set has too few final labels or patients to learn from",
        "Finish readings of more cases, each with at least three labelled vertebrae, or use fewer --folds.",
    ),
    "bad_checkpoint": Failure(
        "the training run cannot be resumed",
        "Restore the checkpoint, leave --start and --channels out to resume, or give another folder for a new run.",
    ),
    "diverged": Failure(
        "the training produced numbers that are not finite",
        "Resume from the last saved step with a lower learning rate (--rate).",
    ),
    "bad_shares": Failure(
        "the shares of a mixture do not fit its networks", "Give one --share above 0 for each weights file, or none."
    ),
    "nothing_to_evaluate": Failure(
        "there is no usable annotation, or no prediction with a usable reference",
        "Read the problems that the message lists. Check that a reference has the name of its case, or the beginning "
        "of that name.",
    ),
    # The synthetic picture
    "no_selection": Failure("no vertebra is selected", "Select a vertebra in the table or in the image."),
    "no_neighbour": Failure(
        "there is no other vertebra that a synthetic picture could be made from",
        "Give a longer scan, or set the points of a neighbour.",
    ),
    "no_synthetic_body": Failure(
        "the network draws no vertebral body where the vertebra was hidden",
        "Check the six points of the vertebra, and that a whole neighbour is in the scan.",
    ),
    # Outputs and earlier results
    "output_exists": Failure(
        "the output exists already, or belongs to another scan, other networks or a review",
        "Choose another output folder, or use --overwrite to recompute. A reviewed case and another scan's analysis "
        "are never overwritten: move that folder away.",
    ),
    "output_not_writable": Failure(
        "the output cannot be written",
        "Check the folder's permissions and the free space, or choose another folder. During a review, keep the case "
        "open until it is saved.",
    ),
    # Cohorts
    "bad_manifest": Failure(
        "the manifest of a cohort cannot be read, or is incomplete",
        "Give a CSV (UTF-8, header row) or Parquet table with the columns case and path, and a different case for each "
        "scan.",
    ),
    "nothing_to_analyze": Failure(
        "the folder contains no scan", "Give a folder of NIfTI, NRRD, MetaImage or DICOM files, or a manifest."
    ),
    "folder_not_readable": Failure(
        "a folder in the source of a cohort cannot be read",
        "Change its permissions and run the same command again, or leave the folder out.",
    ),
    "scan_changed": Failure(
        "the files of a scan changed while it was read",
        "Run the same command again when the scan has been copied completely.",
    ),
    "cohort_in_use": Failure(
        "another run uses the folder of the cohort", "Wait until it has ended, or choose another folder."
    ),
    "output_in_cohort": Failure(
        "the output folder lies among the cases of another cohort",
        "Choose an output folder outside of the folder `cases` of that cohort.",
    ),
    "not_a_cohort": Failure(
        "the folder contains no cohort, or its state is damaged",
        "Give the --output of vfq cohort run. If cohort.sqlite is damaged, move it away and run the command again: all "
        "cases are then recomputed.",
    ),
    "worker_died": Failure(
        "the worker that had the scan died, also when it had no other scan",
        "Memory may have run out: use a computer with more memory or a crop of the scan, then run the same command "
        "again. If it happens again, report the scan's size and format.",
    ),
    "no_scheduler": Failure(
        "the scheduler of the workers does not answer",
        "Start it with dask scheduler and check its address, then run the same command again.",
    ),
    "versions_differ": Failure(
        "the computers of a cluster have different versions of this program, its packages or its weights",
        "Install the same versions on all of them, then run the same command again.",
    ),
    "not_an_analysis": Failure(
        "the file is not an analysis of this program, or is damaged",
        "Give an analysis.json that vfq analyze wrote, or analyse the scan again.",
    ),
    "newer_schema": Failure(
        "the analysis, or a file of the label set, was written by a newer version", "Update this program."
    ),
    "other_ct": Failure(
        "the analysis belongs to another CT",
        "Give the CT that was analysed, or analyse this one into another output folder.",
    ),
    # DICOM objects
    "no_identity": Failure(
        "there is no usable identity of patient and study for DICOM objects",
        "Give the DICOM series that was analysed with --source, complete and with its UIDs. For a case that came as "
        "NIfTI, write a PDF or HTML page with vfq report instead.",
    ),
    "dicom_not_written": Failure(
        "the header of the series has values that do not fit into a DICOM object",
        "Check the attributes of patient and study in the series, or export it again.",
    ),
    **ARCHIVES,
    **COMPARISONS,
    # Label sets
    "not_a_dataset": Failure(
        "the folder is no label set, or a file in it is damaged or at the wrong place",
        "Give a folder that vfq dataset create made. Restore a damaged file from a backup, or move it away.",
    ),
    "dataset_in_use": Failure(
        "another program is writing into the label set", "Try again when the other program has finished."
    ),
    "bad_labels": Failure(
        "labels are faulty: their levels, their points, or points outside the scan",
        "Correct what the message lists. For a mask, check --numbers.",
    ),
    "labels_exist": Failure(
        "the label set has other labels at this place, which are never overwritten",
        "Add a version beside them: --correct for an import, --keep-both for a merge.",
    ),
    "labels_changed": Failure(
        "a draft was saved elsewhere since it was opened", "Open the reading again, and repeat the last changes."
    ),
    "blinded_protocol": Failure(
        "the protocol of the label set asks for a blinded reading, without automatic points",
        "Place the six points by hand (b). For readings that begin with automatic points, make another label set with "
        "--mode assisted.",
    ),
    "reading_incomplete": Failure(
        "a reading cannot be finished yet", "Do what the message lists, or go to another case: the draft is saved."
    ),
    "nothing_assigned": Failure(
        "nothing is left to read for this reader", "Assign cases with vfq dataset assign, or open one with --case."
    ),
    "bad_import": Failure(
        "a file cannot be imported into a label set",
        "Give annotations, markups, CSV, centroids, references, analyses, or masks with --numbers.",
    ),
    "no_voxel_size": Failure(
        "labels are in voxels whose size is not known", "Add the CT of the case to the label set, or use --pixel-mm."
    ),
    "unknown_case": Failure("the label set has no such case", "Add its CT with vfq dataset add, or check --case."),
    "unknown_reader": Failure(
        "the label set has no such reader", "Check the name; vfq dataset status lists the readers."
    ),
    # Review
    "not_a_journal": Failure(
        "the journal of the review is damaged, or was not written by this version",
        "Move review.sqlite away: analysis.json contains what was last saved. If a newer version wrote it, update this "
        "program.",
    ),
    "study_in_use": Failure("another process has this case open", "Close the case in the other window first."),
    "too_few_points": Failure(
        "too few points were clicked for a curve",
        "Click the middles of at least 3 vertebral bodies, at least 20 mm from the top one to the bottom one. Where "
        "there is a curve already, one click is enough.",
    ),
    "not_along_spine": Failure(
        "the clicked points do not follow the spine",
        "Click the middles of vertebral bodies, one below the other; more of them where the curve is far away.",
    ),
    "outside_reformat": Failure(
        "the click lies outside the straightened image", "Click on a vertebra in the straightened image."
    ),
    "no_vertebra_here": Failure(
        "no vertebra was recognised at the click",
        "Click on the middle of a vertebral body, or place its six points by hand (b).",
    ),
    "vertebra_there": Failure(
        "there is a vertebra already where one is to be added", "Drag the points of that vertebra, or delete it first."
    ),
    "faulty_vertebra": Failure(
        "the key points of a vertebra contradict each other",
        "Move the points that are drawn in magenta to their place, click the six points again, or reject the vertebra.",
    ),
    "impossible_vertebra": Failure(
        "the points of a vertebra that is to be confirmed contradict each other, or make it too tall, overlap another "
        "one, or reach out of the scan",
        "Put its points right or reject it. If it is right as it is, confirm it once more: it then counts.",
    ),
    "study_open": Failure(
        "a study is to be completed, but not every vertebra is confirmed or rejected",
        "Confirm or reject the vertebrae that are still open first.",
    ),
    "not_certain": Failure(
        "vertebrae are to be confirmed together, but one of them is in doubt",
        "Confirm or reject each of them by itself.",
    ),
    "signed_reading": Failure(
        "a reading that another reader has signed would be changed",
        "Counter-sign it, or begin your own reading of the case on the review page; both are kept.",
    ),
    "no_reader": Failure("the reader's name is empty or too long", "Type a name of 1 to 80 characters."),
    "no_machine_points": Failure(
        "there are no automatic points to go back to", "Use undo instead, or drag the points of the vertebra."
    ),
    "empty_scene": Failure("no study is open", "Analyse a scan or open an earlier review first."),
    "no_prior": Failure(
        "no prior study is open beside the current one, or the chosen one cannot be its prior",
        "Choose another study of the patient: in the worklist, as --prior, or in the section Prior study of 3D Slicer.",
    ),
    "no_other_case": Failure(
        "there is no further case in this direction", "Choose a case in the worklist, or open a cohort first."
    ),
    "cancelled": Failure("the analysis was cancelled", "Open the case again to restart the analysis."),
    # The review page and the computer
    "port_in_use": Failure(
        "a port cannot be used, for the page or for vfq listen",
        "Give another --port. For the page, leave the option out to use a free one.",
    ),
    "unsafe_host": Failure(
        "other computers could reach the page, and no key file was given",
        "Give your own key with --key-file, or leave --host out and use an SSH tunnel.",
    ),
    "unsafe_key": Failure(
        "the key of the page is weak, cannot be read, or can be read by others",
        "Use 32 to 256 letters, digits, - and _ on one line, in a file that only you can read (chmod 600).",
    ),
    "child_died": Failure(
        "the process that analysed the scan ended unexpectedly",
        "Read the message: memory may have run out, or an installation may be incomplete. Try vfq analyze on the same "
        "scan with --debug.",
    ),
    "out_of_memory": Failure(
        "memory ran out",
        "Close other programs, or analyse a crop of the scan. In a cohort, use fewer workers. If it was the memory of "
        "the GPU, use --device cpu.",
    ),
    "internal_error": Failure(
        "there is a defect in this program",
        "Run the command again with --debug and report the traceback; make sure that it names no patient.",
    ),
}


def meaning(code: str, otherwise: str = "") -> str:
    """Return the meaning of `code`, or `otherwise` if it is not in `CODES`, as "ok" or the code of a newer program."""
    return CODES[code].meaning if code in CODES else otherwise


class VFQError(Exception):
    """A failure with a code from `CODES` and a message that says what to do next.

    notes : more sentences for the user. They may list series by UID: keep them out of records.
    """

    def __init__(self, code: str, message: str, notes: tuple[str, ...] = ()):
        if code not in CODES:
            raise ValueError(f"unknown failure code {code!r}")
        super().__init__(message)
        self.code = code
        self.message = message
        self.notes = notes


def as_coded(error: Exception) -> VFQError:
    """Return any exception as a coded failure: itself, `out_of_memory`, or `internal_error` with one line of text."""
    if isinstance(error, VFQError):
        return error
    text = (str(error).splitlines() or [""])[0]
    # torch has its own exceptions: OutOfMemoryError on a GPU, a RuntimeError of its allocator on the CPU.
    lacks_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if lacks_memory or "can't allocate memory" in text:
        return VFQError("out_of_memory", "Memory ran out. Close other programs, or analyse a crop of the scan.")
    return VFQError(
        "internal_error",
        f"This program has a defect ({type(error).__name__}: {text}). Report it, without any name of a patient.",
    )
