"""Every claim of the papers on the one-layer problems, as printed and, where that is wrong, as it should read."""

from ..claim import Claim
from . import (
    binary_limits,
    binary_paths,
    binary_points,
    hard,
    order,
    prox,
    relu_limits,
    relu_paths,
    relu_points,
    unscaled,
)

CLAIMS: dict[str, Claim] = {
    claim.name: claim
    for table in (
        prox.CLAIMS,
        relu_points.CLAIMS,
        relu_paths.CLAIMS,
        relu_limits.CLAIMS,
        order.CLAIMS,
        hard.CLAIMS,
        unscaled.CLAIMS,
        binary_points.CLAIMS,
        binary_paths.CLAIMS,
        binary_limits.CLAIMS,
    )
    for claim in table
}
"""The claims by name, A before I before F."""
