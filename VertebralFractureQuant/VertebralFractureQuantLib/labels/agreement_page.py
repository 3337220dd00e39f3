"""The page of `vfq agreement`: one HTML file with its plots inside, that needs no other file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ..evaluation.metrics import Estimate, Estimates
from ..report.wording import resources
from ..spine.genant import GRADES, ratio_text
from .agreement import Agreement
from .comparison import Compared

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAGE = "agreement.html.j2"
MOST_WORST = 50
FEW_PATIENTS = 10  # a bootstrap of fewer is too sure
# Figure, words, digits.
ROWS = (
    ("ratio_sd", "Standard deviation of G, one reading (pooled, n - 1)", 3),
    ("mean_ratio_sd", "Mean standard deviation of G within a vertebra (n)", 3),
    ("ratio_difference_bias", "Difference of G: mean", 3),
    ("ratio_difference_low", "Difference of G: lower 95 % limit of agreement", 3),
    ("ratio_difference_high", "Difference of G: upper 95 % limit of agreement", 3),
    ("icc_ratio", "ICC(A,1) of G", 2),
    ("weighted_kappa", "Quadratic weighted kappa of grades", 2),
    ("fleiss_kappa", "Fleiss' kappa of grades", 2),
    ("raw_agreement", "Same grade, share", 2),
    ("height_sd_mm", "Standard deviation of a height, mm", 2),
    ("height_mm_difference_bias", "Difference of the mean height: mean, mm", 2),
    ("height_mm_difference_low", "Difference of the mean height: lower limit, mm", 2),
    ("height_mm_difference_high", "Difference of the mean height: upper limit, mm", 2),
    ("point_to_mean_in_plane_mm", "Point to the mean of the sources, in the plane, mm", 2),
    ("point_in_plane_mm", "Point to point, in the plane, mm", 2),
    ("point_mm", "Point to point, in space, mm", 2),
    ("planes_apart_mm", "Distance of the sagittal planes, mm", 2),
    ("found_by_both", "Vertebrae marked by both of two sources, share", 3),
    ("precision", "Precision: the second marked it too, share", 3),
    ("recall", "Recall: the first found what the second marked, share", 3),
)
PART_ROWS = ("mean_ratio_sd", "ratio_sd", "point_in_plane_mm", "weighted_kappa", "raw_agreement", "icc_ratio")
COLORS = ("#2a6fb0", "#7a8791")
TITLES = {
    "readers": "All readers",
    "pair": "{0} and {1}",
    "repeated": "{0}: first and second reading",
    "automatic": "Automatic result against {1}",
}


def page(agreement: Agreement) -> str:
    """Return the page as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(resources()), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(PAGE).render(
        name=agreement.dataset.name,
        mode=agreement.dataset.protocol.get("mode"),
        repeats=agreement.repeats,
        sections=[_section(c) for c in agreement.compared],
        sources=list(dict.fromkeys(s for d in agreement.worst for s in d.ratios)),
        worst=agreement.worst[:MOST_WORST],
        without_ct={name for name, case in agreement.dataset.cases.items() if case.ct is None},
        ratio_text=ratio_text,
        count=len(agreement.worst),
        effort=agreement.effort,
        left_out=agreement.left_out,
    )


def title(compared: Compared) -> str:
    """Return the heading of a comparison."""
    return TITLES[compared.kind].format(*compared.sources)


def counts(compared: Compared) -> str:
    """Say how many vertebrae and patients there are, and whether they are few."""
    text = f"{compared.vertebrae} vertebrae, patients: {compared.patients}"
    few = f"with fewer than {FEW_PATIENTS} patients the intervals are too narrow"
    return text if compared.patients >= FEW_PATIENTS else f"{text}; {few}"


def rows(estimates: Estimates) -> list[tuple[str, str]]:
    """Return name and text of each figure that exists."""
    return [(words, shown(estimates[(key,)], digits)) for key, words, digits in ROWS if _known(estimates, key)]


def shown(estimate: Estimate, digits: int) -> str:
    """Write a figure with its 95 % interval: "0.031 (0.028 to 0.034)"."""
    interval = f" ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})" if np.isfinite(estimate.low) else ""
    return f"{estimate.value:.{digits}f}{interval}"


def _known(estimates: Estimates, key: str) -> bool:
    return (key,) in estimates and bool(np.isfinite(estimates[(key,)].value))


def _section(compared: Compared) -> dict[str, Any]:
    parts = [("region", compared.by_region), ("shape", compared.by_shape)]
    columns = [(key, words, digits) for key, words, digits in ROWS if key in PART_ROWS]
    tables = [
        (f"By {name}", [words for _, words, _ in columns], [_part(p, n, e, columns) for p, (n, e) in found.items()])
        for name, found in parts
        if found
    ]
    return {
        "title": title(compared),
        "counts": counts(compared),
        "rows": rows(compared.estimates),
        "tables": tables,
        "picture": _picture(compared),
    }


def _part(name: str, count: int, estimates: Estimates, columns: list[tuple[str, str, int]]) -> list[str]:
    cells = [shown(estimates[(key,)], digits) if _known(estimates, key) else "" for key, _, digits in columns]
    return [name, str(count), *cells]


def _picture(compared: Compared) -> str:
    """Return the plots of a comparison as SVG."""
    from matplotlib.figure import Figure

    two = len(compared.sources) == 2
    figure = Figure(figsize=(10.5, 3.9))
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    if two:
        _bland_altman(left, compared)
    else:
        _spread(left, compared)
    _confusion(right, compared)
    figure.set_layout_engine("constrained")  # only now: statsmodels has its own
    return _svg(figure)


def _bland_altman(axes: Axes, compared: Compared) -> None:
    from statsmodels.graphics.agreement import mean_diff_plot

    one, other = np.array(_pairs(compared)).T[:2]
    if len(one) < 2:
        axes.set_axis_off()
        return
    looks = {"s": 9, "alpha": 0.45, "color": COLORS[0], "rasterized": True}
    mean_diff_plot(one, other, ax=axes, scatter_kwds=looks)
    axes.set_xlabel("mean of G", fontsize=9)
    axes.set_ylabel(_plain(f"G: {compared.sources[0]} - {compared.sources[1]}"), fontsize=9)
    axes.tick_params(labelsize=8)
    for text in [*axes.texts]:
        text.remove()  # the table has these numbers
    reach = 1.08 * max(abs(one - other).max(), 2.2 * np.std(one - other))
    axes.set_ylim(-reach, reach)  # statsmodels cuts off what lies far outside


def _spread(axes: Axes, compared: Compared) -> None:
    """Draw the SD of G within each vertebra over its mean."""
    members = [
        [g.members[s].measured.genant_ratio for s in compared.sources if s in g.members] for g in compared.groups
    ]
    several = [m for m in members if len(m) > 1]
    axes.scatter([np.mean(m) for m in several], [np.std(m) for m in several], s=9, alpha=0.45, color=COLORS[0],
                 rasterized=True)  # fmt: skip
    axes.set_xlabel("mean of G", fontsize=9)
    axes.set_ylabel("standard deviation of G within the vertebra", fontsize=9)
    axes.tick_params(labelsize=8)


def _pairs(compared: Compared) -> list[tuple[float, float, int, int]]:
    a, b = compared.sources[:2]
    both = [(g.members[a], g.members[b]) for g in compared.groups if a in g.members and b in g.members]
    return [(m.measured.genant_ratio, n.measured.genant_ratio, m.grade, n.grade) for m, n in both]


def _confusion(axes: Axes, compared: Compared) -> None:
    """Draw how often which grades met; of several readers, in each pair of them, both ways."""
    counts = np.zeros((len(GRADES), len(GRADES)), int)
    two = len(compared.sources) == 2
    for group in compared.groups:
        grades = [group.members[s].grade if s in group.members else None for s in compared.sources]
        for i, one in enumerate(grades):
            for j, other in enumerate(grades):
                if one is not None and other is not None and (i < j if two else i != j):
                    counts[one, other] += 1
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(counts):
        axes.text(
            j, i, str(count), ha="center", va="center", fontsize=9, color="white" if share[i, j] > 0.6 else "black"
        )
    axes.set_xticks(range(len(GRADES)), GRADES, fontsize=8)
    axes.set_yticks(range(len(GRADES)), GRADES, fontsize=8)
    first, second = compared.sources if two else ("one reader", "another reader")
    axes.set_xlabel(_plain(second), fontsize=9)
    axes.set_ylabel(_plain(first), fontsize=9)


def _plain(text: str) -> str:
    """Return a name that matplotlib does not read as a formula."""
    return text.replace("$", r"\$")


def _svg(figure: Figure) -> str:
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vfq", "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", dpi=110, metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
