"""The papers' claims on one-layer problems, as printed and, where they fail, corrected."""

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
    for module in (
        *(prox, relu_points, relu_paths, relu_limits, order, hard, unscaled),
        *(binary_points, binary_paths, binary_limits),
    )
    for claim in module.CLAIMS
}
"""Claims by name, A before I before F."""
