"""Why a case of a cohort needs a look: no result, a doubt, odd levels, or a grade that is uncertain.

A reason has a `kind` (a doubt's code, `GRADE`, `LEVELS` or `FAILED`) and `words`, one sentence. Everything
here is a polars frame with one row for each reason or case; nothing is decided again that an analysis has decided.
"""

from __future__ import annotations

import polars as pl

from ..spine.genant import GRADES, MILD, MODERATE, ROUNDING, SEVERE
from ..spine.levels import NAMES
from ..spine.quality import CODES as DOUBTS

GRADE, LEVELS, FAILED = "uncertain grade", "odd levels", "no result"
# The most serious first: cases stand in this order.
KINDS = (*(code for code, doubt in DOUBTS.items() if doubt.suspect), GRADE, LEVELS, FAILED)
UNMEASURED = ("ok", "waiting")  # statuses that are no failure
L1, T13 = NAMES.index("L1"), NAMES.index("T13")


def reasons(patients: pl.DataFrame, vertebrae: pl.DataFrame) -> pl.DataFrame:
    """Return `case, kind, words`: every reason to look at a case, the most serious of a case first.

    A case that a reader has settled (`reviewed` is "yes") has none but a failure.
    """
    unsettled = patients.filter(pl.col("reviewed").fill_null("no") != "yes").select("case")
    seen = vertebrae.join(unsettled, on="case", how="semi").filter(pl.col("review") != "deleted")
    found = pl.concat(
        [
            _failures(patients),
            _doubts(patients.join(unsettled, on="case", how="semi"), seen),
            _levels(seen),
            _grades(seen),
        ]
    )
    order = pl.col("kind").replace_strict({kind: i for i, kind in enumerate(KINDS)}, default=-1, return_dtype=pl.Int32)
    return found.with_columns(rank=order).sort("rank", maintain_order=True)


def _failures(patients: pl.DataFrame) -> pl.DataFrame:
    failed = patients.filter(~pl.col("status").is_in(UNMEASURED))
    return failed.select("case", kind=pl.lit(FAILED), words=pl.lit("There is no result."))


def _doubts(patients: pl.DataFrame, vertebrae: pl.DataFrame) -> pl.DataFrame:
    """The doubts of the study that suggest a failure, with the vertebrae concerned; see `quality.is_suspect`."""
    told = _codes(patients.select("case", "doubts")).unique(["case", "kind"], maintain_order=True)
    doubted = vertebrae.filter((pl.col("review") == "open") & (pl.col("doubts") != ""))
    of_open = doubted.select("case", "doubts", name=vertebra_names())
    places = _codes(of_open).group_by("case", "kind", maintain_order=True).agg(_place("name"), concerned=pl.len())
    minor = [code for code, doubt in DOUBTS.items() if not doubt.suspect]
    both = told.join(places, on=["case", "kind"], how="left").filter(
        ~pl.col("kind").is_in(minor) & ~((pl.col("kind") == "low_score") & (pl.col("concerned").fill_null(0) == 1))
    )
    meant = pl.col("kind").replace_strict({k: _sentence(d.meaning) for k, d in DOUBTS.items()}, default=pl.col("kind"))
    where = pl.when(pl.col("place").is_null()).then(pl.lit("")).otherwise(pl.format(": {}", "place"))
    return both.select("case", "kind", words=pl.concat_str(meant, where, pl.lit(".")))


def _levels(vertebrae: pl.DataFrame) -> pl.DataFrame:
    """Levels that are uncertain, appear twice, are skipped, or belong to a variant of the spine."""
    number = pl.col("level").to_physical().cast(pl.Float32)
    # The place in a regular spine; T13 is a variant and stands between T12 and L1.
    place = pl.when(number > T13).then(number - 1).when(number == T13).then(number - 0.5).otherwise(number)
    seen = vertebrae.select("case", "index", "level", "level_certain", step=place.diff().over("case"))
    doubted = seen.filter(~pl.col("level_certain") | pl.col("level").is_null())
    no_t12 = (pl.col("level") == "L1") & (pl.col("step") == 2.0)  # a variant of the spine
    odd = seen.filter(((pl.col("step") < 0.5) | (pl.col("step") > 1.0)) & ~no_t12)
    variant = seen.filter(pl.col("level").is_in(["T13", "L6"]))
    texts = (
        (doubted, "Levels are uncertain: {}."),
        (odd, "Levels do not follow each other at {}."),
        (variant, "An unusual level was found: {}."),
    )
    return pl.concat(
        [
            rows.with_columns(name=vertebra_names())
            .group_by("case", maintain_order=True)
            .agg(_place("name"))
            .select("case", kind=pl.lit(LEVELS), words=pl.format(text, "place"))
            for rows, text in texts
        ]
    )


def _grades(vertebrae: pl.DataFrame) -> pl.DataFrame:
    """Cases whose worst grade changes within one standard deviation of G, if it may be moderate or severe."""
    counted = vertebrae.filter(pl.col("counted") & pl.col("g").is_not_null())
    open_ones = (pl.col("review") == "open") & ~pl.col("physiologic") & (_grade_of(pl.col("g")) == grade_rank("grade"))
    sd = pl.when(open_ones).then(pl.col("g_sd").fill_null(0.0)).otherwise(0.0)
    called = pl.when("physiologic").then(0).otherwise(grade_rank("grade"))
    ranges = counted.select(
        *("case", "g", "g_sd", "index", "level", "level_certain"),
        best=pl.when(sd > 0).then(_grade_of(pl.col("g") + sd)).otherwise(called),
        worst=pl.when(sd > 0).then(_grade_of(pl.col("g") - sd)).otherwise(called),
    )
    of_case = (
        ranges.sort("worst", pl.col("g") * -1, descending=True, maintain_order=True)
        .group_by("case")
        .agg(pl.col("best").max(), pl.col("worst").max(), pl.exclude("case", "best", "worst").first())
    )
    names = {i: name for i, name in enumerate(GRADES)}
    text = "The worst grade is uncertain, {} to {}: {} has G {} (SD {})."
    return of_case.filter((pl.col("best") < pl.col("worst")) & (pl.col("worst") >= GRADES.index("moderate"))).select(
        "case",
        kind=pl.lit(GRADE),
        words=pl.format(
            text,
            pl.col("best").replace_strict(names, return_dtype=pl.String),
            pl.col("worst").replace_strict(names, return_dtype=pl.String),
            vertebra_names(),
            ratio_texts("g"),
            _decimals(pl.col("g_sd"), 2),
        ),
    )


def vertebra_names() -> pl.Expr:
    """The name of each vertebra: its level, with "?" if it is uncertain, or "V3" where it has none."""
    doubt = pl.when("level_certain").then(pl.lit("")).otherwise(pl.lit("?"))
    level = pl.concat_str(pl.col("level").cast(pl.String), doubt)
    return pl.when(pl.col("level").is_null()).then(pl.format("V{}", "index")).otherwise(level)


def grade_rank(column: str) -> pl.Expr:
    """The place of a grade in `GRADES`, 0 for normal; null without a grade."""
    return pl.col(column).to_physical().cast(pl.Int32)


def ratio_texts(column: str) -> pl.Expr:
    """G with two decimals, with three close to a threshold, as `genant.ratio_text` writes it; null stays null."""
    value = pl.col(column)
    near = pl.any_horizontal((value - t).abs() < 0.005 for t in (MILD, MODERATE, SEVERE))
    return pl.when(near).then(_decimals(value, 3)).otherwise(_decimals(value, 2))


def _decimals(value: pl.Expr, digits: int) -> pl.Expr:
    scaled = (value * 10**digits).round().cast(pl.Int64)
    return pl.concat_str(scaled // 10**digits, pl.lit("."), (scaled % 10**digits).cast(pl.String).str.zfill(digits))


def _grade_of(g: pl.Expr) -> pl.Expr:
    """The place in `GRADES` of the grade of G, as `genant.grade` has it."""
    return pl.sum_horizontal((g <= t + ROUNDING).cast(pl.Int32) for t in (MILD, MODERATE, SEVERE))


def _codes(frame: pl.DataFrame) -> pl.DataFrame:
    """One row for each code in the column `doubts`, as `kind`."""
    split = frame.with_columns(kind=pl.col("doubts").cast(pl.String).str.split(" ")).drop("doubts")
    return split.explode("kind").filter(pl.col("kind") != "")


def _place(column: str) -> pl.Expr:
    """Names as text: "T6, T7, T9", or "T6 to T12 (5 vertebrae)" for more than three."""
    names = pl.col(column).str.strip_suffix("?")
    many = pl.format("{} to {} ({} vertebrae)", names.first(), names.last(), pl.len())
    return pl.when(pl.len() <= 3).then(names.str.join(", ")).otherwise(many).alias("place")


def _sentence(meaning: str) -> str:
    return meaning[0].upper() + meaning[1:]
