"""Tables with a row for each flow or half, which grow as the capture shows more of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def grown(table: NDArray[Any], count: int) -> NDArray[Any]:
    """Return the table with room for ``count`` rows, new ones zero."""
    if count <= table.size:
        return table
    bigger = np.zeros(max(count, table.size * 2), dtype=table.dtype)
    bigger[: table.size] = table
    return bigger
