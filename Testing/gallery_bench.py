"""The gallery of many cases: how long it takes to write, how much memory, and how fast it answers in a browser.

`python Testing/gallery_bench.py --cases 100000 FOLDER`. The tables are a stub: numbers drawn at random in the form in
which `vfq cohort run` writes them, without a scan or a case's folder behind them. One thumbnail stands for all.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from pathlib import Path

import numpy as np
import polars as pl
from chromium import CHROMIUM, FLAGS
from PIL import Image

LEVELS = [f"T{i}" for i in range(1, 13)] + [f"L{i}" for i in range(1, 6)]
GRADES = ("normal", "mild", "moderate", "severe")
FAILURES = ("corrupt_file", "not_ct", "no_spine_found", "too_few_slices")
SEEN = 12  # vertebrae of a case
PAGE = """async () => {
  const told = {};
  const timed = (name, act) => { const t = performance.now(); act(); document.body.offsetHeight;
    told[name] = (performance.now() - t) / 1000; };
  const table = window.$("#cases").DataTable();
  const column = (name) => table.column("." + name);
  timed("sort by grade", () => column("grade").order("desc").draw());
  timed("sort by name", () => column("case").order("desc").draw());
  timed("search", () => table.search("L1 severe").draw());
  timed("filter", () => { table.search(""); column("outcome").search("not_ct").draw(); });
  timed("clear", () => { column("outcome").search("").draw(); });
  timed("page", () => table.page(50).draw("page"));
  told.rows = table.rows().count();
  told.nodes = document.querySelectorAll("*").length;
  return told;
}"""


def write_tables(folder: Path, cases: int, seed: int = 1) -> None:
    """Write the tables of `cases` made-up cases, one in twenty without a result and one in ten reviewed."""
    random = np.random.default_rng(seed)
    names = [f"case-{i:06d}" for i in range(cases)]
    failed = random.random(cases) < 0.05
    vertebrae = _vertebrae(random, [name for name, bad in zip(names, failed, strict=True) if not bad])
    worst = vertebrae.group_by("case").agg(
        pl.col("grade").replace_strict({g: i for i, g in enumerate(GRADES)}, return_dtype=pl.Int64).max().alias("rank"),
        pl.col("grade").replace_strict({g: i for i, g in enumerate(GRADES)}, return_dtype=pl.Int64).sum().alias("sdi"),
        pl.col("level").first().alias("first_level"),
        pl.col("level").last().alias("last_level"),
        pl.len().alias("levels_assessed"),
        pl.col("doubts").filter(pl.col("doubts") != "").unique(maintain_order=True).str.join(" ").alias("doubts"),
    )
    grade = pl.col("rank").replace_strict(dict(enumerate(GRADES)), default=None, return_dtype=pl.String)
    status = np.where(failed, random.choice(FAILURES, cases), "ok")
    patients = (
        pl.DataFrame({"case": names, "status": status})
        .join(worst, on="case", how="left", maintain_order="left")
        .with_columns(
            worst_grade=grade,
            auto_worst_grade=grade,
            auto_sdi="sdi",
            reviewed=pl.Series(np.where(random.random(cases) < 0.1, "yes", "no")),
            reader=pl.lit(None, pl.String),
            age=pl.Series(random.integers(40, 95, cases)),
            sex=pl.Series(random.choice(["F", "M"], cases)),
            site=pl.Series(random.choice(["Basel", "Bern", "Chur"], cases)),
        )
        .drop("rank")
    )
    patients.write_parquet(folder / "patients.parquet")
    vertebrae.write_parquet(folder / "vertebrae.parquet")
    patients.filter(pl.col("status") != "ok").select(
        "case", code="status", message=pl.lit("A made-up failure."), what_to_do=pl.lit("Nothing.")
    ).write_csv(folder / "failures.csv")


def _vertebrae(random: np.random.Generator, names: list[str]) -> pl.DataFrame:
    count = len(names) * SEEN
    start = np.repeat(random.integers(0, len(LEVELS) - SEEN + 1, len(names)), SEEN)
    g = np.clip(
        random.normal(0.9, 0.05, count) - (random.random(count) < 0.02) * random.uniform(0.05, 0.4, count), 0.2, 1
    )
    rank = (g <= 0.80).astype(int) + (g <= 0.75) + (g <= 0.60)
    doubts = random.choice(["", "low_score", "column_gap", "metal"], count, p=[0.98, 0.01, 0.005, 0.005])
    text = pl.lit(None, pl.String)
    return pl.DataFrame(
        {
            "case": np.repeat(names, SEEN),
            "index": np.tile(np.arange(1, SEEN + 1), len(names)),
            "level": np.array(LEVELS)[start + np.tile(np.arange(SEEN), len(names))],
            "g": g,
            "g_sd": random.uniform(0.03, 0.08, count),
            "grade": np.array(GRADES)[rank],
            "doubts": doubts,
            "score": random.uniform(0.6, 1, count),
        }
    ).with_columns(
        level_certain=pl.lit(True),
        shape=pl.when(pl.col("grade") == "normal").then(text).otherwise(pl.lit("wedge")),
        counted=pl.lit(True),
        review=pl.lit("open"),
        origin=pl.lit("model"),
        physiologic=pl.lit(False),
        auto_level=text,
        auto_g=pl.lit(None, pl.Float64),
        auto_grade=text,
        auto_shape=text,
    )


def write_thumbnails(folder: Path, cases: int) -> None:
    """One made-up thumbnail, linked under the name of every case."""
    pictures = folder / "gallery" / "thumbnails"
    pictures.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (168, 500), "#556677").save(pictures / "case-000000.jpg")
    for i in range(1, cases):
        if not (pictures / f"case-{i:06d}.jpg").exists():
            os.link(pictures / "case-000000.jpg", pictures / f"case-{i % cases:06d}.jpg")


def main() -> None:
    """Write the tables and the gallery, then drive it in Chromium if there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=100_000)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    child = os.fork()  # so that the memory of the stub is not counted
    if not child:
        write_tables(given.folder, given.cases)
        write_thumbnails(given.folder, min(given.cases, 60_000))
        os._exit(0)
    os.waitpid(child, 0)
    from VertebralFractureQuantLib.cohort.gallery import write_gallery

    start, cpu = time.perf_counter(), time.process_time()
    page = write_gallery(given.folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"write_gallery of {given.cases:,} cases (stub tables): {time.perf_counter() - start:.1f} s", end="; ")
    print(f"{time.process_time() - cpu:.1f} s of processor time; memory {peak:.0f} MB", end="; ")
    print(f"page {(page.stat().st_size + (page.parent / 'gallery' / 'cases.js').stat().st_size) / 1e6:.1f} MB")
    if CHROMIUM:
        _drive(page)


def _drive(page: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        tab = browser.new_page(viewport={"width": 1280, "height": 800})
        start = time.perf_counter()
        tab.goto(page.as_uri())
        tab.wait_for_selector("#cases td.case", timeout=120_000)
        print(f"open: {time.perf_counter() - start:.1f} s")
        for what, value in tab.evaluate(PAGE).items():
            print(f"{what}: {value:.2f} s" if isinstance(value, float) else f"{what}: {value:,}")
        browser.close()


if __name__ == "__main__":
    main()
