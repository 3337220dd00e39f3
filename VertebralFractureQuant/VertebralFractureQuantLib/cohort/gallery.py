"""The gallery of a cohort: `index.html`, which a browser opens from disk, without a server or a network.

It shows what the cohort's tables hold. The table of cases is DataTables, which the package itables ships, and the
charts are Bokeh's; both lie inside the page, and the rows beside it in `gallery/cases.js`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import CODES, VFQError
from ..report.markups import GRADE_COLORS
from ..report.outputs import writing
from ..whole import whole_file

if TYPE_CHECKING:
    import polars as pl

    from .gallery_table import Column
    from .gallery_tables import Tables

AT_ONCE = 10_000  # rows that are written at once
PACKAGES = ("polars", "itables", "bokeh", "jinja2")


def write_gallery(folder: Path) -> Path:
    """Write the gallery of a cohort from its tables, and return `index.html`.

    Parameters
    ----------
    folder : the cohort's folder with patients.parquet, vertebrae.parquet and failures.csv.

    Raises
    ------
    VFQError
        `not_found`: a table is missing; `missing_dependency`: a package of the extra `cohort` is not installed;
        `output_not_writable`: the page cannot be written.
    """
    lacking = [name for name in PACKAGES if not find_spec(name)]
    if lacking:
        raise VFQError(
            "missing_dependency",
            f"The gallery needs {', '.join(lacking)}. Install with pip install 'vertebral-fracture-quant[cohort]'.",
        )
    from .gallery_rows import sorted_cases
    from .gallery_tables import read_tables

    tables = read_tables(folder)
    cases = sorted_cases(folder, tables)
    page = _page(cases, tables)
    with writing(folder):
        (folder / "gallery").mkdir(exist_ok=True)
        with _replacing(folder / "gallery" / "cases.js") as file:
            _write_rows(cases, tables, file)
        with _replacing(folder / "index.html") as file:
            file.write(page)
    return folder / "index.html"


def _write_rows(cases: pl.DataFrame, tables: Tables, file: TextIO) -> None:
    """Write all rows as a script that defines `window.cases`."""
    from .gallery_rows import gallery_rows

    file.write("window.cases = [")
    for i, part in enumerate(cases.iter_slices(AT_ONCE)):
        file.write(("," if i else "") + gallery_rows(part, len(tables.covariates)).write_json()[1:-1])
    file.write("];\n")


def _page(cases: pl.DataFrame, tables: Tables) -> str:
    from bokeh.embed import components
    from bokeh.resources import Resources
    from jinja2 import Environment

    from .gallery_charts import DOTS, charts
    from .gallery_table import table_columns, table_options

    columns = table_columns(tables)
    chart_script, chart_parts = components(charts(tables))
    bundle = files("itables") / "html"
    return (
        Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        .from_string(_resource("gallery.html"))
        .render(
            total=f"{len(cases):,}",
            numbers=_numbers(cases),
            columns=columns,
            options=table_options(columns),
            failures=_failures(tables.failures),
            charts=chart_parts,
            dots=DOTS,
            chart_script=chart_script,
            chart_library=Resources(mode="inline", components=["bokeh"]).render_js(),
            library=base64.b64encode((bundle / "dt_bundle.js").read_bytes()).decode(),
            library_style=(bundle / "dt_bundle.css").read_text(encoding="utf-8"),
            style=_resource("gallery.css") + _colors() + _labels(columns),
        )
    )


def _numbers(cases: pl.DataFrame) -> list[tuple[int, str]]:
    """The cohort in a few counts, for the head of the page."""
    status, grade = cases["status"], cases["worst_grade"]
    counts = [
        (len(cases), "cases"),
        ((status == "ok").sum(), "measured"),
        ((~status.is_in(["ok", "waiting"])).sum(), "without a result"),
        ((status == "waiting").sum(), "waiting"),
        ((cases["urgency"] > 0).sum(), "need a look"),
        (grade.is_in(["moderate", "severe"]).sum(), "moderate or severe"),
        ((cases["reviewed"] == "yes").sum(), "reviewed"),
    ]
    return [(int(count), what) for count, what in counts if count or what != "waiting"]


def _failures(failures: pl.DataFrame) -> list[dict[str, Any]]:
    """One row for each code, the most frequent first."""
    counts = failures.group_by("code").len().sort("len", "code", descending=[True, False]).to_dicts()
    unknown = "a reason of a newer program"
    return [
        {**row, "meaning": CODES[row["code"]].meaning, "what_to_do": CODES[row["code"]].remedy}
        if row["code"] in CODES
        else {**row, "meaning": unknown, "what_to_do": "Update this program."}
        for row in counts
    ]


def _colors() -> str:
    parts = {name: "".join(f"{round(255 * c):02x}" for c in color) for name, color in GRADE_COLORS.items()}
    return "".join(f"#cases b.{name} {{ background: #{color}; }}\n" for name, color in parts.items())


def _labels(columns: list[Column]) -> str:
    """The names of the covariates on the cards, as texts of the style sheet."""
    texts = ((c.name, "".join(f"\\{ord(letter):x} " for letter in c.title)) for c in columns if c.given)
    return "".join(f"#cases td.{name}::before {{ content: '{title}\\20'; }}\n" for name, title in texts)


def _resource(name: str) -> str:
    """A file of the module's Resources in a checkout or in Slicer, of the package itself after pip."""
    package = Path(__file__).resolve().parent.parent
    beside = package.parent / "Resources" / "Gallery"
    return ((beside if beside.is_dir() else package / "gallery") / name).read_text(encoding="utf-8")


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """Write a file completely or not at all."""
    with whole_file(path) as fresh, fresh.open("w", encoding="utf-8") as file:
        yield file
