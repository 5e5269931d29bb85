"""The plainest prediction from a relative: its backbone where the two are aligned, and nothing elsewhere."""

from __future__ import annotations

import numpy as np

from structgen.features.templates import Templates

_CA = 1


def copied_trace(templates: Templates) -> np.ndarray | None:
    """[n, 3] CA positions in angstrom of the first template on the query, NaN where nothing of it lies; None where there is none."""
    if not len(templates):
        return None
    return np.where(templates.frame_mask[0, :, None], templates.frame[0, :, _CA], np.nan)
