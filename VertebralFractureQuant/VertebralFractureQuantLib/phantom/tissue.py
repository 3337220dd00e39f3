"""Properties of everything around the bones of one patient: trunk, fat, muscle, organs, vessels, discs, canal."""

from __future__ import annotations

import numpy as np


def draw_tissue(rng: np.random.Generator, pathology: float) -> dict[str, float]:
    """Draw the sizes (mm), densities (HU) and chances of a patient's tissues by name; angles in radians."""
    contrast = float(rng.choice([0, 1], p=[0.5, 0.5]))
    return {
        "trunk_wide": float(rng.uniform(130, 200)),
        "trunk_deep": float(rng.uniform(90, 150)),
        "behind_spine": float(rng.uniform(55, 85)),
        "fat": float(rng.uniform(4, 40)),
        "muscle_hu": float(rng.uniform(25, 75)),
        "fat_hu": float(rng.uniform(-125, -80)),
        "organ_hu": float(rng.uniform(20, 60) + contrast * rng.uniform(20, 80)),
        "blood_hu": float(rng.uniform(30, 55) + contrast * rng.uniform(50, 420)),
        "heart_hu": float(rng.uniform(30, 55) + contrast * rng.uniform(30, 420)),
        "lung_hu": float(rng.uniform(-920, -650)),
        "disc_hu": float(rng.uniform(55, 140)),
        "annulus_hu": float(rng.uniform(0, 90)),
        "vacuum": float(rng.choice([0, 0.2], p=[0.7, 0.3])),
        "disc_calcified": float(rng.choice([0, 0.15], p=[0.7, 0.3])),
        "bridging": float(rng.choice([0, 0.5, 1.0], p=[0.25, 0.4, 0.35])),  # share of discs with bright outer fibres
        "bridge_hu": float(rng.uniform(80, 600)),
        "bridge_mm": float(rng.uniform(0.8, 3.0)),
        "canal_hu": float(rng.uniform(5, 45)),
        "aorta_r": float(rng.uniform(8, 18)),
        "aorta_left": float(rng.uniform(0.3, 1.4)),  # angle from anterior towards the left
        "aorta_front": float(rng.uniform(-0.3, 0.6)),
        "aorta_gap": float(abs(rng.normal(0, 3))),
        "calcified": float(rng.choice([0, 1], p=[0.5, 0.5])),
        "rib_hu": float(rng.uniform(150, 600)),
        "arms_up": float(rng.random() < 0.75),
        "screws": float(rng.random() < 0.04 * pathology),
        "muscle_fat": float(rng.uniform(0, 0.6)),
        "trachea_gap": float(rng.uniform(12, 26)),
    }
