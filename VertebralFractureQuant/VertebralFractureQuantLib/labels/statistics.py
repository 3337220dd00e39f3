"""Statistics of agreement on plain arrays, each for a subject (row) and a rater (column).

Weighted kappa is scikit-learn's, Fleiss' kappa is that of statsmodels. A statistic that cannot be computed is nan.
"""

from __future__ import annotations

import warnings

import numpy as np

from ..errors import VFQError

NAN = float("nan")


def check_packages() -> None:
    """Raise VFQError `missing_dependency` unless scikit-learn and statsmodels can be imported."""
    try:
        import sklearn.metrics  # noqa: F401
        import statsmodels.stats.inter_rater  # noqa: F401
    except ImportError as error:
        message = (
            f"Agreement needs a package that cannot be imported ({error.name}). Install it: pip install "
            "'vertebral-fracture-quant[agreement]'."
        )
        raise VFQError("missing_dependency", message) from error


def weighted_kappa(one: np.ndarray, other: np.ndarray, categories: int) -> float:
    """Return Cohen's kappa with quadratic weights of two raters `(n,)` of whole numbers below `categories`."""
    from sklearn.metrics import cohen_kappa_score

    if len(one) == 0 or ((one == one[0]).all() and (other == one[0]).all()):
        return NAN  # all in one category: agreement by chance is complete
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(cohen_kappa_score(one, other, labels=range(categories), weights="quadratic"))


def fleiss_kappa(ratings: np.ndarray, categories: int) -> float:
    """Return Fleiss' kappa of `(n, raters)` whole numbers below `categories`; every rater rated every subject."""
    from statsmodels.stats.inter_rater import fleiss_kappa as fleiss

    if len(ratings) == 0 or (ratings == ratings[0, 0]).all():
        return NAN
    return float(fleiss((ratings[:, :, None] == np.arange(categories)).sum(1)))


def icc_a1(values: np.ndarray) -> float:
    """Return ICC(A,1) of `(n, raters)`: two-way, absolute agreement, a single rater (McGraw & Wong 1996, table 4).

    No library that may be shipped has it.
    """
    n, k = values.shape
    if n < 2 or k < 2:
        return NAN
    mean = values.mean()
    rows = k * ((values.mean(1) - mean) ** 2).sum() / (n - 1)
    columns = n * ((values.mean(0) - mean) ** 2).sum() / (k - 1)
    total = ((values - mean) ** 2).sum()
    error = (total - rows * (n - 1) - columns * (k - 1)) / ((n - 1) * (k - 1))
    whole = rows + (k - 1) * error + k * (columns - error) / n
    return float((rows - error) / whole) if whole > 0 else NAN
