"""Global and local views: random crops of a frame, as LeJEPA takes where no second frame shows the same state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worldplan.checks import check_fields
from worldplan.errors import InvalidInput
from worldplan.learning.distributed import part, shards

RATIO = 3 / 4, 4 / 3  # width over height of a crop


@dataclass(frozen=True)
class Views:
    """V_g global and V_l local views of each set of frames (Balestriero and LeCun 2025, arXiv 2511.08544).

    A view is a random crop, resized bilinearly. Views take the frames of a set in turn, so with two frames or more they
    differ in time as well. Crops teach that the place in the frame does not matter: for the state of an arm it does, so
    there the crops should stay large.

    Args:
        global_views: V_g, at least 1; their mean is what all views are drawn to.
        local_views: V_l, at least 0. V_g + V_l is at least 2.
        global_area: least and greatest share of the frame that a global view shows.
        local_area: the same of a local view.
        local_size: pixels a side of a local view; 0 for those of the frame. Global views keep the frame's. Only a
            network that takes frames of several sizes takes another: most of timm's do, `conv` does not.
        flip: probability of a view mirrored left to right.
        jitter: largest change of contrast (a factor of 1 +- jitter) and of brightness (+- jitter / 2 of full scale).

    Raises:
        InvalidInput: too few views, or a share, probability or size out of range.
    """

    global_views: int = 2
    local_views: int = 6
    global_area: tuple[float, float] = (0.3, 1.0)
    local_area: tuple[float, float] = (0.05, 0.3)
    local_size: int = 0
    flip: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.global_views < 1 or self.local_views < 0 or self.global_views + self.local_views < 2:
            raise InvalidInput(
                f"views are at least 1 global one and 2 in all, got {self.global_views, self.local_views}"
            )
        for name in ("global_area", "local_area"):
            area = tuple(getattr(self, name))
            if len(area) != 2 or not 0.0 < area[0] <= area[1] <= 1.0:
                raise InvalidInput(f"{name} is a least and a greatest share in (0, 1], got {area}")
            object.__setattr__(self, name, area)
        if self.local_size < 0 or not 0.0 <= self.flip <= 1.0 or not 0.0 <= self.jitter < 1.0:
            raise InvalidInput(f"need local_size >= 0, flip in [0, 1] and jitter in [0, 1), got {self}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "global_area": list(self.global_area), "local_area": list(self.local_area)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Views:
        """Undo `to_dict`. Raises InvalidInput for an option that views do not have."""
        foreign = sorted(set(record) - {field.name for field in fields(cls)})
        if foreign:
            raise InvalidInput(f"views have no option {', '.join(foreign)}")
        return cls(**record)

    def draw(self, frames: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Global views (B, V_g, 3, S, S) and local views (B, V_l, 3, s, s) of sets of frames (B, V, 3, S, S).

        Frames are floats in [-.5, .5]; so are the views, up to the jitter. `generator` is one of the CPU.
        """
        side = frames.shape[-1]
        parts = (
            (0, self.global_views, self.global_area, side),
            (
                self.global_views,
                self.local_views,
                self.local_area,
                self.local_size or side,
            ),
        )
        first, second = (self._crops(frames, *part, generator) for part in parts)
        return first, second

    def _crops(
        self, frames: Tensor, first: int, count: int, area: tuple[float, float], side: int, generator: torch.Generator
    ) -> Tensor:
        sets, shown = frames.shape[:2]
        chosen = frames[:, [(first + v) % shown for v in range(count)]].flatten(0, 1)
        if not count:
            return chosen.new_empty((sets, 0, 3, side, side))
        whole = len(chosen) * shards()
        rows = part(whole)
        boxes = random_boxes(whole, area, generator)[rows]
        flipped = torch.rand(whole, generator=generator)[rows] < self.flip
        contrast, light = self.jitter * (2.0 * torch.rand(2, whole, 1, 1, 1, generator=generator)[:, rows] - 1.0)
        views: Tensor = crop(chosen, boxes.to(chosen), flipped.to(chosen.device), side)
        views = views * (1.0 + contrast.to(views)) + 0.5 * light.to(views)
        return views.unflatten(0, (sets, count))  # type: ignore[no-any-return]


def random_boxes(count: int, area: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Boxes (count, 4) inside the unit square: left, top, width, height.

    The share of the square is uniform in `area`, the logarithm of width over height in that of `RATIO`, and the place
    wherever the box lies inside. Boxes that would be longer than the square are cut to it.
    """
    share, shape, x, y = torch.rand(4, count, generator=generator)
    share = area[0] + (area[1] - area[0]) * share
    low, high = map(math.log, RATIO)
    ratio = torch.exp(low + (high - low) * shape)
    width, height = (share * ratio).sqrt().clamp_max(1.0), (share / ratio).sqrt().clamp_max(1.0)
    return torch.stack([x * (1.0 - width), y * (1.0 - height), width, height], dim=1)


def crop(frames: Tensor, boxes: Tensor, flipped: Tensor, side: int) -> Tensor:
    """Crops (N, 3, side, side) of frames (N, 3, S, S): one box (left, top, width, height) each, of the unit square.

    Pixels are sampled bilinearly at their centres. `flipped` (N,) says which are mirrored left to right.
    """
    left, top, width, height = boxes.unbind(dim=1)
    zero = torch.zeros_like(left)
    turn = torch.where(flipped, -1.0, 1.0).to(width)
    across = torch.stack([turn * width, zero, 2.0 * left + width - 1.0], dim=1)
    down = torch.stack([zero, height, 2.0 * top + height - 1.0], dim=1)
    grid = functional.affine_grid(torch.stack([across, down], dim=1), [len(frames), 3, side, side], align_corners=False)
    views: Tensor = functional.grid_sample(frames, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return views
