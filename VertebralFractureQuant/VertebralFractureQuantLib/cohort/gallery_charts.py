"""The distributions of the gallery, drawn by Bokeh: G and deformities by level, grades, shapes, and outcomes.

The numbers are aggregated here, so that a page of 100,000 cases holds some hundred of them. A dot is a vertebra; a
click on it opens the overview image of its case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from ..report.markups import GRADE_COLORS
from ..spine.genant import GRADES, MILD, MODERATE, SEVERE, SHAPES
from ..spine.levels import NAMES
from .gallery_tables import GRADE

if TYPE_CHECKING:
    from .gallery_tables import Tables

DOTS = 40  # of each level: the vertebrae with the lowest G
QUIET = "#8a939b"
DEFORMED = GRADES[1:]


def charts(tables: Tables) -> dict[str, Any]:
    """Return the charts by the heading of each."""
    patients = tables.patients
    counted = tables.vertebrae.filter(pl.col("counted") & pl.col("g").is_not_null() & pl.col("level").is_not_null())
    called = counted.with_columns(called=pl.when("physiologic").then(pl.lit("normal", GRADE)).otherwise("grade"))
    deformed = called.filter(pl.col("called") != "normal")
    return {
        "G by level": _ratios(called),
        "Cases by worst grade": _grades(patients),
        "Deformities by level": _by_level(called, deformed),
        "Deformities by shape": _bars(deformed["shape"], SHAPES),
        "Outcomes": _outcomes(patients),
    }


def _figure(**options: Any) -> Any:
    from bokeh.plotting import figure

    plot = figure(toolbar_location=None, tools="", background_fill_color=None, border_fill_color=None, **options)
    plot.outline_line_color = None
    plot.grid.grid_line_color = "#e6e9ec"
    plot.axis.axis_line_color = plot.axis.major_tick_line_color = "#c3c9cf"
    plot.axis.minor_tick_line_color = None
    plot.axis.major_label_text_color = "#4b545c"
    plot.axis.axis_label_text_color = QUIET
    plot.axis.axis_label_text_font_style = "normal"
    return plot


def _ratios(called: pl.DataFrame) -> Any:
    """For each level the median, quartiles and 5th to 95th percentile of G, and the lowest as dots."""
    from bokeh.models import HoverTool, OpenURL, TapTool
    from bokeh.models.annotations import Span

    levels = _levels_in(called)
    plot = _figure(width=760, height=300, x_range=levels, y_axis_label="Genant ratio (G)")
    shares = {"p5": 0.05, "q1": 0.25, "q2": 0.5, "q3": 0.75, "p95": 0.95}
    boxes = called.group_by("level").agg(**{k: pl.col("g").quantile(q, "linear") for k, q in shares.items()})
    data = boxes.to_dict(as_series=False)
    plot.segment("level", "p5", "level", "p95", source=_source(data), color=QUIET)
    plot.vbar("level", 0.6, "q3", "q1", source=_source(data), fill_color="#dfe5ea", line_color=QUIET)
    plot.scatter("level", "q2", source=_source(data), marker="dash", size=16, color="#39424a", line_width=2)
    for limit, grade in ((MILD, "mild"), (MODERATE, "moderate"), (SEVERE, "severe")):
        plot.add_layout(Span(location=limit, dimension="width", line_color=_color(grade), line_dash=[4, 4]))
    lowest = called.filter(pl.col("g") <= MILD).sort("g").group_by("level", maintain_order=True).head(DOTS)
    dots = plot.scatter("level", "g", source=_source(_dots(lowest)), size=8, color="color", line_color="#39424a")
    plot.add_tools(
        HoverTool(renderers=[dots], tooltips=[("", "@case"), ("", "@level G @g{0.00} @called")]),
        TapTool(renderers=[dots], callback=OpenURL(url="cases/@address/overview.png")),
    )
    return plot


def _dots(lowest: pl.DataFrame) -> dict[str, Any]:
    data = lowest.select("level", "g", "case", "called", address=pl.col("case")).to_dict(as_series=False)
    return {**data, "color": [_color(grade) for grade in data["called"]]}


def _by_level(called: pl.DataFrame, deformed: pl.DataFrame) -> Any:
    levels = _levels_in(called)
    plot = _figure(width=760, height=220, x_range=levels, y_axis_label="vertebrae")
    counts = deformed.group_by("level", "called").len().to_dicts()
    found = {(row["level"], row["called"]): row["len"] for row in counts}
    data = {"level": levels} | {grade: [found.get((level, grade), 0) for level in levels] for grade in DEFORMED}
    colors = [_color(grade) for grade in DEFORMED]
    plot.vbar_stack(
        DEFORMED,
        x="level",
        width=0.7,
        source=_source(data),
        fill_color=colors,
        line_color=None,
        legend_label=list(DEFORMED),
    )
    _from_zero(plot)
    _legend_above(plot)
    return plot


def _grades(patients: pl.DataFrame) -> Any:
    """Cases by worst grade; the automatic grades stand beside where a reader changed any."""
    from bokeh.transform import dodge

    measured = patients.filter(pl.col("worst_grade").is_not_null())
    changed = (measured["worst_grade"] != measured["auto_worst_grade"]).any()
    plot = _figure(width=370, height=220, x_range=list(GRADES), y_axis_label="cases")
    now, before = (_counts(measured[column], GRADES) for column in ("worst_grade", "auto_worst_grade"))
    data = {"grade": list(GRADES), "now": now, "before": before, "color": [_color(grade) for grade in GRADES]}
    shift, width = (0.2, 0.36) if changed else (0.0, 0.6)
    name = {"legend_label": "with review"} if changed else {}
    plot.vbar(dodge("grade", -shift, plot.x_range), width, "now", source=_source(data), color="color", **name)
    if changed:
        plot.vbar(
            dodge("grade", shift, plot.x_range),
            width,
            "before",
            source=_source(data),
            color="#c3c9cf",
            legend_label="automatic",
        )
        _legend_above(plot)
    _from_zero(plot)
    return plot


def _bars(values: pl.Series, names: tuple[str, ...]) -> Any:
    plot = _figure(width=370, height=220, x_range=list(names), y_axis_label="vertebrae")
    plot.vbar(list(names), 0.6, _counts(values, names), color="#7d93a8")
    _from_zero(plot)
    return plot


def _outcomes(patients: pl.DataFrame) -> Any:
    """Cases by status, the most frequent on top."""
    counts = patients.select(pl.col("status").replace("ok", "measured")).group_by("status").len().sort("len", "status")
    names = counts["status"].to_list()
    plot = _figure(width=760, height=60 + 24 * len(names), y_range=names, x_axis_label="cases")
    colors = ["#7fbfae" if name == "measured" else "#d98d86" for name in names]
    plot.hbar(names, 0.7, counts["len"].to_list(), color=colors)
    plot.text(
        counts["len"].to_list(),
        names,
        [f" {n:,}" for n in counts["len"]],
        text_font_size="12px",
        text_baseline="middle",
    )
    plot.x_range.start = 0
    plot.x_range.range_padding = 0.15
    return plot


def _legend_above(plot: Any) -> None:
    plot.legend.orientation = "horizontal"
    plot.legend.border_line_color = plot.legend.background_fill_color = None
    plot.add_layout(plot.legend[0], "above")


def _from_zero(plot: Any) -> None:
    from bokeh.models import BasicTicker, DataRange1d, NumeralTickFormatter

    plot.y_range = DataRange1d(start=0)
    plot.yaxis.ticker = BasicTicker(min_interval=1)
    plot.xgrid.grid_line_color = None
    plot.yaxis.formatter = NumeralTickFormatter(format="0,0")


def _source(data: dict[str, Any]) -> Any:
    from bokeh.models import ColumnDataSource

    return ColumnDataSource(data)


def _levels_in(vertebrae: pl.DataFrame) -> list[str]:
    there = set(vertebrae["level"].unique())
    return [name for name in NAMES if name in there]


def _counts(values: pl.Series, names: tuple[str, ...]) -> list[int]:
    return [int((values == name).sum()) for name in names]


def _color(grade: str) -> str:
    return "#" + "".join(f"{round(255 * c):02x}" for c in GRADE_COLORS[grade])
