"""What tells two sets of texts apart in what a model's layers put out: the direction that leads from one to the other.

Pure, and without any model: what the layers put out is given. The direction is the difference of the two means, which
Marks and Tegmark (2023, "The Geometry of Truth") find to steer better than a classifier's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memos_mcp.activation.engine import Layers

SAME = 1e-4
"""A difference shorter than this beside what the layers put out is none."""


@dataclass(frozen=True)
class Contrast:
    """A direction: `rows`, shape (layers, width), and for each layer its `shares` and `norms`.

    `shares`: which part of the variance of what the layer puts out lies between the two sides, 0..1. `norms`: the
    length of the difference, as a part of the mean length of what the layer puts out.
    """

    rows: Layers
    shares: tuple[float, ...]
    norms: tuple[float, ...]

    @property
    def is_nothing(self) -> bool:
        """Whether the model tells the two sides apart in no layer."""
        return max(self.norms) < SAME


def contrast(towards: Sequence[Layers], away: Sequence[Layers]) -> Contrast:
    """What leads from the mean of `away` to that of `towards`, an equal part of it in each layer.

    Each is what the layers put out for one text, shape (layers, width), for the same layers; one text or more a side.
    What a layer adds stays in all that follow, so that the whole difference in each of them would be too much: weight
    1 adds it once, however many layers there are.
    """
    there, here = np.stack(towards).astype(np.float64), np.stack(away).astype(np.float64)
    difference = there.mean(axis=0) - here.mean(axis=0)
    within = sum(((side - side.mean(axis=0)) ** 2).sum(axis=(0, 2)) for side in (there, here))
    between = (difference**2).sum(axis=1) * (len(there) * len(here) / (len(there) + len(here)))
    lengths = np.linalg.norm(np.concatenate([there, here]), axis=2).mean(axis=0)
    tiny = np.finfo(np.float64).tiny
    return Contrast(
        (difference / len(difference)).astype(np.float32),
        tuple(round(float(share), 4) for share in between / np.maximum(between + within, tiny)),
        tuple(round(float(norm), 6) for norm in np.linalg.norm(difference, axis=1) / np.maximum(lengths, tiny)),
    )
