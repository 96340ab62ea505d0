"""Training on windows of episodes: the run behind the objective `excitation`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from worldplan.data.symmetries import transform
from worldplan.data.windows import Windows
from worldplan.errors import EncoderCollapsed, InvalidInput
from worldplan.learning.excitation import Excitation, covariances, predicted, second_moments, shares_of
from worldplan.learning.network import CircleAngles
from worldplan.learning.training import PretrainConfig, Run

PULL = 0.1  # weight that keeps the points of circles near the unit circle, where their angle is well conditioned
MEMORY = 0.3  # share that training explains more than held-out episodes: the frames are known by heart
PATIENCE = 6  # validations without a better J after which a run that has found all coordinates stops
EVERY = 100  # steps between validations
KEEP, KEEP_FROM = 0.9, 0.3  # weight of earlier batches in the moments, which noise of few windows hides, and the
# share of the run at which it is reached: while the latent still changes fast, earlier batches mislead
RAMP = 0.2, 0.5  # shares of the run between which symmetries come in: from the start they hide the weakest coordinate


class ExcitationRun(Run):
    """A run on windows; it ends with the weights that have the best J on held-out episodes, and stops when J falls.

    Where displacements are a fraction of a pixel the network can learn the frames by heart: J then rises in training
    and falls on other episodes. Lines are scaled in the end: what the actions move has on them the covariance `c I`, c
    the mean variance on the circles (1 without circles). Circles are in radians by themselves.

    Raises InvalidInput if there are too few windows, or `data` holds no actions.
    """

    objective: Excitation

    def __init__(self, data: Windows, config: PretrainConfig) -> None:
        if not isinstance(config.objective, Excitation):
            raise InvalidInput(f"a run on windows needs the objective excitation, got {config.objective.name}")
        if not isinstance(data, Windows):
            raise InvalidInput("the objective excitation needs windows of episodes with their actions (`Windows`)")
        super().__init__(data, config)
        self.objective, self.windows, self.validate_every = config.objective, data, EVERY
        self._best: dict[str, Tensor] = {}
        self._score, self._since = -math.inf, 0
        self._past = torch.zeros(0)

    def terms(self, batch: NDArray[np.intp], generator: torch.Generator) -> dict[str, Tensor]:
        """Terms of the objective, and `pull`: how far the points of circles are from the unit circle.

        The value is that of the moments of this batch and earlier ones, the gradient that of this batch.
        """
        share = float(np.clip((self.part_done - RAMP[0]) / (RAMP[1] - RAMP[0]), 0.0, 1.0))
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        names = self.objective.symmetries
        frames, features = transform(self.data[batch], self.windows.features[batch], names, share, rng)
        outputs = self.through(self.network.outputs, frames)
        moved = self.objective.displacement(self.network.angles(outputs))
        now = second_moments(moved, torch.from_numpy(features).to(self.device))
        keep = KEEP * min(1.0, self.part_done / KEEP_FROM)
        kept = keep * self._past.to(now) + (1.0 - keep) * now.detach() if len(self._past) else now.detach()
        self._past = kept
        terms = self.objective.terms(moved, features.shape[1], kept + (now - now.detach()), generator)
        if not isinstance(self.network.angles, CircleAngles):
            return terms
        cosines, sines = self.network.angles.planes(outputs)
        pull = (torch.hypot(cosines, sines) - 1.0).square().mean()
        return {**terms, "loss": terms["loss"] + PULL * pull, "pull": pull}

    def validate(self) -> dict[str, float]:
        """J on held-out episodes, by the prediction that training windows give, and its parts.

        `loss` is n - J; `r2_1` ... are the shares of the coordinates, descending; `training_J` is that of the training
        windows themselves.
        """
        known = self.train[: len(self.held_out)]
        (seen, before), (new, after) = self._windows(known), self._windows(self.held_out)
        guess = predicted(torch.cat([seen, new]), torch.cat([before, after]), fitted=len(seen))
        shares = shares_of(new, guess[len(seen) :]).flip(0)
        training = shares_of(seen, guess[: len(seen)])
        J = float(shares.sum())
        self._keep(J)
        self.stopped = self._since >= PATIENCE and float(shares[-1]) >= self.objective.least
        parts = {f"r2_{k + 1}": float(share) for k, share in enumerate(shares)}
        return {"loss": len(shares) - J, "J": J, **parts, "training_J": float(training.sum())}

    def finish(self) -> dict[str, Any]:
        """Take the best weights and scale the lines. Raises EncoderCollapsed if a coordinate was not found."""
        self.network.load_state_dict(self._best)
        found = self.validate()
        n, least = self.config.latent_dim, self.objective.least
        if not found[f"r2_{n}"] >= least:
            raise EncoderCollapsed(f"{_shares(found, n, least)}; {_remedy(found, n, self.objective.window)}")
        self._scale_lines()
        return {"space": list(self.config.space.kinds)}

    def memory(self) -> dict[str, Tensor]:
        """The best weights so far, their J, how many validations ago that was, and the moments."""
        state = torch.tensor([self._score, self._since], dtype=torch.float64)
        best = {f"memory.best.{k}": v for k, v in self._best.items()}
        return {"memory.state": state, "memory.moments": self._past, **best}

    def remember(self, tensors: Mapping[str, Tensor]) -> None:
        """Undo `memory`."""
        head = "memory.best."
        self._best = {k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)}
        score, since = tensors["memory.state"].tolist()
        self._score, self._since = score, int(since)
        self._past = tensors["memory.moments"]

    def _windows(self, index: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        """Displacements and features of windows as they are, in float64."""
        moved = self.objective.displacement(self._embeddings(index)).double()
        return moved, torch.from_numpy(self.windows.features[index]).to(moved)

    def _keep(self, J: float) -> None:
        if self._score < J or not self._best:
            self._score, self._since = J, 0
            self._best = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        else:
            self._since += 1

    def _scale_lines(self) -> None:
        circles = self.config.space.circles
        lines = np.flatnonzero(~circles)
        if not len(lines):
            return
        moved, features = self._windows(self.train[: len(self.held_out)])
        moments = second_moments(moved, features)
        part = covariances(moments, len(circles), features.shape[1])[1].cpu().numpy()
        size = float(part.diagonal()[circles].mean()) if circles.any() else 1.0
        values, vectors = np.linalg.eigh(part[np.ix_(lines, lines)])
        factor = torch.from_numpy((vectors * np.sqrt(size / values)) @ vectors.T).to(self.device)
        last = self.network.head[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            for tensor in (last.weight, last.bias):
                tensor[lines] = (factor @ tensor[lines].double()).to(tensor.dtype)


def _shares(found: Mapping[str, float], n: int, least: float) -> str:
    shares = ", ".join(f"{found[f'r2_{k + 1}']:.2f}" for k in range(n))
    return (
        f"the encoder found fewer than {n} coordinates that the actions move: on held-out episodes the actions explain "
        f"{shares} of their displacements, where each needs {least:g}"
    )


def _remedy(found: Mapping[str, float], n: int, window: int) -> str:
    """What to change, by what training found."""
    if found["training_J"] - found["J"] > MEMORY:
        return (
            f"training alone explains {found['training_J']:.2f} of {n}, so it knows the frames by heart: collect more "
            f"episodes, name the world's --symmetries, or take a longer window than {window} steps, so that a window "
            "moves more pixels"
        )
    return (
        f"training did not find them either: take a longer window than {window} steps, a larger batch or more epochs; "
        "if that does not help, the actions may not excite every coordinate (`worldplan diagnose`), or the space is "
        "another (--space)"
    )
