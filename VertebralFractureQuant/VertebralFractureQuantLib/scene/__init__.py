"""A case that is open for review, as MRML nodes in a scene: 3D Slicer's own, or that of slicer-core behind a browser.

Where things live:

- the study: `study`, put together from `nodes`, `vertebra`, `column` (live measurement) and `observer`;
- its changes: `editor`, with undo from `journal`; `machine` for the networks; `merging` after another curve;
- the review: `review` (opening, saving, closing), `actions` (what the reader does), `clicking`, `viewpoint`;
- a prior study beside the open one: `pair`, with `pair_match`, `pair_views`, `pair_rows` and `pair_overlay`;
- what other modules do to the nodes: `guard` and `repairs`;
- on disk: `case_files`, `journal_file`, and `unsaved` for actions that the disk refuses;
- for the panel and the page: `face` (what they provide), `keys`, `rows`.
"""
