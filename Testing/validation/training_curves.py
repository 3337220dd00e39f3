"""The validation of networks while they trained: one panel for each run, from its `log.csv`.

    python Testing/validation/training_curves.py RUN [RUN ...] --output training-curves.png

The score is what a training makes small: millimetres and missed vertebrae, or 1 - Dice. The best one is marked; its
weights are kept.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

SHOWN = 3.0  # times the best score; the first scores are far above


def curve(run: Path) -> tuple[str, list[int], list[float]]:
    """Return the role of a run, its steps and their scores; with real scans the score is that of both."""
    role = next(p.stem for p in run.glob("*.safetensors"))
    rows = list(csv.DictReader((run / "log.csv").open(encoding="utf-8")))
    score = "score" if "score" in rows[0] else "phantom_score"
    return role, [int(row["step"]) for row in rows], [float(row[score]) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    figure, panels = pyplot.subplots(1, len(given.run), figsize=(2.6 * len(given.run), 2.4), layout="constrained")
    for panel, run in zip(panels if len(given.run) > 1 else [panels], given.run, strict=True):
        role, steps, scores = curve(run)
        best = min(range(len(scores)), key=scores.__getitem__)
        panel.plot(steps, scores, color="black", linewidth=1)
        panel.plot(steps[best], scores[best], "o", color="tab:orange", label=f"{scores[best]:.3g} at {steps[best]}")
        panel.set(title=role, xlabel="steps", xlim=(0, None), ylim=(0, min(max(scores), SHOWN * scores[best]) * 1.05))
        panel.title.set_size(10)
        panel.legend(frameon=False, fontsize=8)
    figure.supylabel("score of the validation", fontsize=10)
    figure.savefig(given.output, dpi=150)


if __name__ == "__main__":
    main()
