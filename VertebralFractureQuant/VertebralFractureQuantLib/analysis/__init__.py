"""From a CT to a measured spine. Start reading at `pipeline.analyze`.

The other files are its steps, in this order: `models`, `curve_finding`, `detection`, `naming`.
`curve_repair` leads a curve through a reader's clicks.
"""

from .models import Models, load_models
from .pipeline import analyze, analyze_along

__all__ = ["Models", "analyze", "analyze_along", "load_models"]
