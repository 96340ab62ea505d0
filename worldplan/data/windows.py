"""Windows of recorded episodes: two frames, and what was done between them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldplan.arrays import Floats
from worldplan.data.episodes import EpisodeDataset, StridedPairs
from worldplan.data.shards import digest
from worldplan.errors import InvalidInput

BLOCKS = 3  # sums of actions that a window has: before it, in it, at its end
EDGE = 8  # steps over which an action still moves the arm: .16 s at 20 ms a step


class Windows(StridedPairs):
    """Pairs of frames `window` steps apart, and sums of the actions that lead from the first to the second.

    The features of a window are three sums over blocks of steps: the 8 before it, which give its first velocity, the
    window but its last 8, and these, which have not acted in full yet (w / 2 in place of 8 for windows of w < 16). Few
    features matter: each one fits a share of pure noise in a batch.

    Where a policy acted, only the noise that it adds excites: the features are sums of `action - expected`, and
    `controls` holds the same sums of what it did on average.

    Attributes:
        features: (N, p), p three times the number of actions.
        controls: (N, p), or None for random actions.

    Args:
        data: episodes with frames and actions.
        window: w, steps between the two frames, at least 2.
        split: `train` or `test`.
        past: if not 0, each window has the frame so many steps before it too, in the first place.

    Raises:
        InvalidInput: a window below 2 or longer than the episodes, no episode in this split, no frames drawn, episodes
            of a deterministic policy, or actions that never vary, are linearly dependent, or are not finite.
    """

    def __init__(self, data: EpisodeDataset, window: int, split: str = "train", *, past: int = 0) -> None:
        if window < 2:
            raise InvalidInput(f"a window has at least 2 steps, got {window}")
        edge = self.edge(window)
        super().__init__(data, window, split, lead=edge, past=past)
        self.window = window
        expected = [data.expected(shard) for shard in data.shards]
        _check_policies(data, expected)
        means = [np.zeros((1, 1, 1)) if known is None else known for known in expected]
        noise = [data.actions(shard) - known for shard, known in zip(data.shards, means, strict=True)]
        self.features = self._sums(noise, edge)
        self.controls = None
        if any(known is not None for known in expected):
            self.controls = self._sums([known + 0 * u for known, u in zip(means, noise, strict=True)], edge)
        check_features(self.features)
        what = {"window": window, **({"past": past} if past else {})}
        self.manifest_sha256 = digest({"data": data.manifest_sha256, "split": split, **what})
        self.provenance: dict[str, Any] = {**self.provenance, **what}

    @staticmethod
    def edge(window: int) -> int:
        """Steps of the blocks before a window and at its end."""
        return min(EDGE, window // 2)

    def _sums(self, actions: list[Floats], edge: int) -> Floats:
        """Sums (N, p) of the actions of each window over the three blocks; `actions` (B, T, m) by shard."""
        totals = [_running_sums(u) for u in actions]
        found = np.empty((len(self), BLOCKS * totals[0].shape[2]))
        for i, total in enumerate(totals):
            mine = np.flatnonzero(self._rows[:, 0] == i)
            episode, step = self._rows[mine, 1], self._rows[mine, 2]
            marks = [total[episode, step + shift] for shift in (-edge, 0, self.window - edge, self.window)]
            found[mine] = np.concatenate(np.diff(marks, axis=0), axis=1)
        return found

    def split(self, held_out: int, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Indices of windows held out, of a tenth of the episodes or more, and of all windows of the others.

        Raises InvalidInput if there are too few episodes to hold some out.
        """
        episodes = len(np.unique(self._rows[:, :2], axis=0))
        apart, rest = super().split(max(held_out, len(self) // 10 - len(self) // episodes), rng)
        return apart[:held_out], rest


def _check_policies(data: EpisodeDataset, expected: list[Floats | None]) -> None:
    """Refuse actions that a policy chose without telling what it does on average."""
    policies = [run["policy"] for run in data.runs if run.get("policy")]
    if policies and any(known is None for known in expected):
        name = policies[0].get("name", "a policy")
        raise InvalidInput(
            f"these are episodes of the deterministic policy {name}: its actions are functions of the state and tell "
            "nothing beyond it; collect with --noise SIGMA or --stochastic, whose noise is known and excites"
        )


def _running_sums(actions: Floats) -> Floats:
    """Sums (B, T + 1, m) of the actions (B, T, m) before each step."""
    return np.concatenate([np.zeros_like(actions[:, :1]), np.cumsum(actions, axis=1)], axis=1)


def check_features(features: NDArray[np.float64]) -> None:
    """Raise InvalidInput unless features (N, p) are finite and vary in every direction."""
    if not np.isfinite(features).all():
        raise InvalidInput("the actions hold values that are not finite; record the episodes again")
    blocks = features.reshape(len(features), BLOCKS, -1)
    deviations = blocks.std(axis=(0, 1))
    still = np.flatnonzero(deviations <= 1e-9 * (1 + np.abs(blocks).max(axis=(0, 1))))
    if len(still):
        raise InvalidInput(
            f"action {', '.join(map(str, still))} never varies, so nothing tells what it moves; excite every action, "
            "or leave it out"
        )
    spread = np.linalg.eigvalsh(np.corrcoef(features.T).reshape(features.shape[1], -1))
    if spread[0] < 1e-6:
        raise InvalidInput(
            "some direction of the actions never varies: they are linear functions of each other, or held constant; "
            "excite all actions independently"
        )
