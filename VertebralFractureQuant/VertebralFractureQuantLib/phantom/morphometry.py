"""Mean sizes of adult vertebral bodies and discs by level, in mm.

Heights, depths, wedging and discs from C4 to L3 are the means of the experts' annotations published with Zakharov et
al. 2023. The rest is rounded from published morphometry (Panjabi et al. 1991, 1992).
"""

from __future__ import annotations

from ..spine.levels import LEVELS

SACRUM = ("S1", "S2", "S3")
COLUMN = LEVELS + SACRUM

# By level: posterior height, ratio of anterior to posterior height, depth, width, anterior and posterior height of the
# disc below; all lengths in mm.
SIZES = {
    "C2": (17.0, 1.00, 13.5, 18, 3.2, 1.8),
    "C3": (13.6, 0.99, 13.3, 18, 3.2, 1.8),
    "C4": (13.1, 0.98, 13.5, 19, 3.2, 1.8),
    "C5": (12.7, 0.99, 13.5, 20, 3.2, 2.0),
    "C6": (13.2, 0.97, 14.2, 22, 3.2, 1.9),
    "C7": (14.9, 0.98, 14.4, 25, 2.9, 2.3),
    "T1": (17.2, 0.96, 15.0, 28, 2.9, 2.2),
    "T2": (18.2, 0.97, 16.5, 28, 2.2, 2.0),
    "T3": (18.9, 0.95, 18.4, 27, 1.8, 1.9),
    "T4": (19.6, 0.935, 20.2, 27, 1.7, 1.8),
    "T5": (20.4, 0.92, 21.8, 27, 1.8, 2.0),
    "T6": (20.9, 0.89, 23.4, 28, 2.1, 2.2),
    "T7": (21.3, 0.88, 24.6, 29, 2.7, 2.4),
    "T8": (21.8, 0.895, 26.0, 30, 3.0, 2.4),
    "T9": (22.2, 0.925, 26.6, 31, 3.3, 2.4),
    "T10": (23.5, 0.94, 27.2, 33, 3.7, 2.5),
    "T11": (25.3, 0.92, 27.5, 36, 4.6, 3.0),
    "T12": (26.7, 0.93, 28.0, 40, 5.4, 3.3),
    "L1": (28.0, 0.94, 29.2, 42, 7.3, 4.0),
    "L2": (28.6, 0.98, 30.3, 44, 9.3, 5.5),
    "L3": (28.4, 1.02, 31.5, 46, 10.5, 6.2),
    "L4": (27.8, 1.06, 32.5, 48, 11.8, 6.2),
    "L5": (26.8, 1.15, 33.0, 50, 12.0, 5.0),
}
HEIGHT, WEDGE, DEPTH, WIDTH, DISC_FRONT, DISC_BACK = zip(*SIZES.values(), strict=True)
# Thoracic bodies are heart-shaped when seen from above: how much narrower the front is than the middle.
TAPER = {"T2": 0.1, "T3": 0.22, "T4": 0.3, "T5": 0.32, "T6": 0.3, "T7": 0.27, "T8": 0.22, "T9": 0.17, "T10": 0.12}
SACRUM_HEIGHT, SACRUM_DEPTH, SACRUM_WIDTH = (28, 22, 19), (32, 22, 15), (50, 38, 28)
SACRUM_WEDGE = (1.15, 1.0, 0.9)
SEEN_OUTSIDE_MM = 0.35  # distance of the annotators' points outside the bone's surface, see `scanner.visible_shift`
