"""The rows of the gallery's table: one for each case, as text that is safe in HTML.

A cell is a text or number, or has several forms: what is shown (`html`), what it is sorted by (`sort`) and what the
filters list (`facets`). Everything that comes from the tables is escaped here.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import polars as pl

from .gallery_reasons import KINDS, grade_rank, ratio_texts, reasons, vertebra_names
from .gallery_tables import Tables

REVIEW = "vfq cohort review . {}"
NONE = "none"  # how filters list a case without a doubt, reason or deformity


def sorted_cases(folder: Path, tables: Tables) -> pl.DataFrame:
    """Return the patients with all that their rows show, those that need a look first.

    folder : the cohort's folder, in which the thumbnails are looked up. `urgency` is above 0 for a case to look at.
    """
    why = reasons(tables.patients, tables.vertebrae)
    messages = tables.failures.select("case", "message").unique("case")
    joined = tables.patients
    for of_case in (_looks(why), _deformities(tables.vertebrae), messages):
        joined = joined.join(of_case, on="case", how="left", maintain_order="left")
    joined = joined.with_columns(
        pl.col("urgency").fill_null(0),
        pictured=pl.col("case").is_in(_pictured(folder)),
        worst=grade_rank("worst_grade").fill_null(-1),
    )
    order = joined.sort("urgency", "worst", descending=True, maintain_order=True)
    return order.with_columns(row=pl.int_range(pl.len()))


def gallery_rows(cases: pl.DataFrame, covariates: int) -> pl.DataFrame:
    """Return the rows of `sorted_cases` or a slice of them; `covariates` is the number of columns `x0`, `x1`, ..."""
    given = (_covariate(cases, f"x{i}") for i in range(covariates))
    seen = (_picture(), escaped("case"), _grade(), _deformity(), _look())
    return cases.select(*seen, _sdi(), _levels(), _doubt(), _outcome(), _review(), *given, _command(cases))


def escaped(column: str) -> pl.Expr:
    """Return a text that is safe in HTML and in quoted attributes."""
    marks = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
    return pl.col(column).cast(pl.String).str.replace_many(list(marks), list(marks.values()))


def _address() -> pl.Expr:
    """The case as a part of a relative address in a quoted attribute."""
    codes = {letter: f"%{ord(letter):02X}" for letter in "%#?\\&<>\"'"}
    return pl.col("case").str.replace_many(list(codes), list(codes.values()))


def _pictured(folder: Path) -> list[str]:
    return [path.stem for path in (folder / "gallery" / "thumbnails").glob("*.jpg")]


def _picture() -> pl.Expr:
    """The thumbnail, a button that opens the overview image above the page; the browser loads both when they show."""
    text = (
        '<button popovertarget=p{}><img loading=lazy src="gallery/thumbnails/{}.jpg" alt=Enlarge></button>'
        '<div popover id=p{}><a href="cases/{}/overview.png" target=_blank>'
        '<img loading=lazy src="cases/{}/overview.png" alt="Overview image"></a></div>'
    )
    case = _address()
    shown = pl.format(text, "row", case, "row", case, case)
    return pl.when("pictured").then(shown).otherwise(pl.lit("")).alias("picture")


def _looks(why: pl.DataFrame) -> pl.DataFrame:
    return why.group_by("case", maintain_order=True).agg(
        kinds=escaped("kind").unique(maintain_order=True),
        looks=pl.concat_str(pl.lit("<li>"), escaped("words"), pl.lit("</li>")).str.join(""),
        urgency=len(KINDS) - pl.col("rank").min(),
    )


def _look() -> pl.Expr:
    shown = pl.concat_str(pl.lit("<ul>"), "looks", pl.lit("</ul>")).fill_null("")
    return pl.struct(html=shown, sort=pl.col("urgency"), facets=_or_none(pl.col("kinds"))).alias("look")


def _or_none(texts: pl.Expr) -> pl.Expr:
    return pl.when(texts.list.len().fill_null(0) > 0).then(texts).otherwise(pl.lit([NONE]))


def _grade() -> pl.Expr:
    badge = pl.format('<b class="{}">{}</b>', "worst_grade", "worst_grade").fill_null("")
    return pl.struct(
        html=pl.concat_str(badge, _automatic("worst_grade")),
        sort=pl.col("worst"),
        facets=pl.col("worst_grade").cast(pl.String).fill_null(NONE),
    ).alias("grade")


def _sdi() -> pl.Expr:
    shown = pl.concat_str(pl.col("sdi").cast(pl.String).fill_null(""), _automatic("sdi"))
    return pl.struct(html=shown, sort=pl.col("sdi").fill_null(-1)).alias("sdi")


def _automatic(column: str) -> pl.Expr:
    """The automatic value, where a reader changed it."""
    changed = pl.col(column).ne_missing(pl.col(f"auto_{column}")) & pl.col(f"auto_{column}").is_not_null()
    return pl.when(changed).then(pl.format(" <i>automatic: {}</i>", f"auto_{column}")).otherwise(pl.lit(""))


GONE = pl.col("review").cast(pl.String).is_in(["rejected", "deleted"])  # by a reader
CHANGED = pl.col("auto_g").is_not_null()  # a reader changed the vertebra


def _deformities(vertebrae: pl.DataFrame) -> pl.DataFrame:
    """The vertebrae of each case that are not normal, or were not before a reader saw them, as texts and levels."""
    deformed = pl.col("counted") & ~pl.col("physiologic") & (pl.col("grade") != "normal").fill_null(False)
    was = (CHANGED | GONE) & (pl.coalesce("auto_grade", "grade") != "normal").fill_null(False)
    deleted = pl.coalesce(pl.col("auto_level").cast(pl.String), pl.lit("A vertebra"))
    name = pl.when(pl.col("review") == "deleted").then(deleted).otherwise(vertebra_names())
    told = vertebrae.filter(deformed | was).with_columns(name=name)
    levels = pl.col("name").filter(deformed).str.strip_suffix("?").unique(maintain_order=True)
    text = pl.format("<li>{} {}{}</li>", escaped("name"), _verdict(), _before())
    return told.group_by("case", maintain_order=True).agg(deformed_levels=levels, deformities=text.str.join(""))


def _verdict() -> pl.Expr:
    """ "severe wedge 0.55", or what the reader did with it."""
    parts = (pl.col("grade").cast(pl.String), pl.col("shape").cast(pl.String), ratio_texts("g"))
    measured = pl.concat_str(parts, separator=" ", ignore_nulls=True)
    return pl.when(GONE).then(pl.col("review").cast(pl.String)).otherwise(measured)


def _before() -> pl.Expr:
    """The automatic values that a reader changed, or those of a vertebra that is gone."""
    level = pl.when(~GONE & (pl.col("auto_level") != pl.col("level"))).then(pl.col("auto_level").cast(pl.String))
    grade = pl.when(GONE | (pl.col("auto_grade") != pl.col("grade"))).then(pl.coalesce("auto_grade", "grade"))
    other = CHANGED & (pl.col("auto_g") != pl.col("g")).fill_null(True)
    ratio = pl.when(GONE | other).then(pl.coalesce(ratio_texts("auto_g"), ratio_texts("g")))
    texts = pl.concat_str([level, grade.cast(pl.String), ratio], separator=" ", ignore_nulls=True)
    added = (pl.col("origin") == "reader") & ~CHANGED
    shown = pl.when((CHANGED | GONE) & (texts != "")).then(pl.format(" <i>automatic: {}</i>", texts))
    return shown.when(added).then(pl.lit(" <i>added by the reader</i>")).otherwise(pl.lit(""))


def _deformity() -> pl.Expr:
    shown = pl.concat_str(pl.lit("<ul>"), "deformities", pl.lit("</ul>")).fill_null("")
    facets = _or_none(pl.col("deformed_levels"))
    return pl.struct(html=shown, sort=pl.col("deformed_levels").list.len().fill_null(0), facets=facets).alias(
        "deformity"
    )


def _levels() -> pl.Expr:
    shown = pl.format("{} to {} ({})", escaped("first_level"), escaped("last_level"), "levels_assessed").fill_null("")
    return pl.struct(html=shown, sort=pl.col("levels_assessed").fill_null(0)).alias("levels")


def _doubt() -> pl.Expr:
    text = escaped("doubts").fill_null("")
    codes = text.str.split(" ").list.eval(pl.element().filter(pl.element() != ""))
    return pl.struct(html=text.str.replace_all(" ", ", "), facets=_or_none(codes)).alias("doubt")


def _outcome() -> pl.Expr:
    message = pl.format(" <span>{}</span>", escaped("message")).fill_null("")
    shown = pl.concat_str(pl.lit("<code>"), escaped("status"), pl.lit("</code>"), message)
    measured = pl.col("status") == "ok"
    return pl.struct(
        html=pl.when(measured).then(pl.lit("<small>measured</small>")).otherwise(shown),
        facets=pl.when(measured).then(pl.lit("measured")).otherwise(escaped("status")),
    ).alias("outcome")


def _review() -> pl.Expr:
    who = pl.format(" <i>{}</i>", escaped("reader")).fill_null("")
    state = escaped("reviewed").fill_null("no")
    shown = pl.when(state == "no").then(pl.lit("<small>no</small>")).otherwise(pl.concat_str(state, who))
    return pl.struct(html=shown, facets=state).alias("review")


def _covariate(cases: pl.DataFrame, name: str) -> pl.Expr:
    """A number as it is; anything else as text."""
    kind = cases.schema[name]
    if kind.is_float():
        return pl.when(pl.col(name).is_finite()).then(pl.col(name))
    return pl.col(name) if kind.is_integer() else escaped(name).alias(name)


def _command(cases: pl.DataFrame) -> pl.Expr:
    commands = pl.DataFrame({"command": [REVIEW.format(_argument(case)) for case in cases["case"]]})
    return pl.format("<code>{}</code>", pl.lit(commands.select(escaped("command"))["command"])).alias("command")


def _argument(case: str) -> str:
    """A name as an argument for a shell; "--" keeps one that begins with "-" from being an option."""
    return ("-- " if case.startswith("-") else "") + shlex.quote(case)
