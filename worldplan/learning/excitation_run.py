"""Training on windows of episodes: the run behind the objective `excitation`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldplan.data.symmetries import transform
from worldplan.data.windows import Windows
from worldplan.errors import EncoderCollapsed, InvalidInput
from worldplan.learning.distributed import average, part, shards
from worldplan.learning.excitation import Excitation, covariances, predicted, shares_of
from worldplan.learning.network import CircleAngles
from worldplan.learning.training import PretrainConfig, Run

PULL = 0.1  # weight that keeps the points of circles near the unit circle, where their angle is well conditioned
MEMORY = 0.3  # share that training explains more than held-out episodes: the frames are known by heart
EVERY = 100  # steps between validations
RAMP = 0.2, 0.5  # shares of the run between which the other windows and symmetries come in


class ExcitationRun(Run):
    """A run on windows; it ends with the weights that have the best J on held-out episodes, and stops when J falls.

    Where displacements are a fraction of a pixel the network can learn the frames by heart: J then rises in training
    and falls on other episodes. And yet a run begins with few windows and no symmetry. In many windows a coordinate
    that hardly moves the pixels is lost in noise. In few it is learned by heart; as the others come in, what holds for
    all of them remains.

    J leaves some axes free; in the end they are chosen so that what the actions move has the covariance `c I` on the
    lines, and none with the circles. c is the mean variance on the circles, 1 without any. Circles are in radians by
    themselves.

    Raises InvalidInput if there are too few windows, or `data` holds no actions.
    """

    objective: Excitation

    def __init__(self, data: Windows, config: PretrainConfig) -> None:
        if not isinstance(config.objective, Excitation):
            raise InvalidInput(f"a run on windows needs the objective excitation, got {config.objective.name}")
        if not isinstance(data, Windows):
            raise InvalidInput("the objective excitation needs windows of episodes with their actions (`Windows`)")
        super().__init__(data, config)
        self.objective, self.validate_every = config.objective, EVERY
        self._actions = data.features.shape[1]
        self._known = data.features if data.controls is None else np.hstack([data.features, data.controls])
        self._best: dict[str, Tensor] = {}
        self._score, self._since = -math.inf, 0
        self._by_episode = np.sort(self.train)

    def terms(self, batch: NDArray[np.intp], generator: torch.Generator) -> dict[str, Tensor]:
        """Terms of the objective, and `pull`: how far the points of circles are from the unit circle."""
        share = float(np.clip((self.part_done - RAMP[0]) / (RAMP[1] - RAMP[0]), 0.0, 1.0))
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        batch = self.among(batch, share)
        names = self.objective.symmetries
        whole = len(batch) * shards()
        among = whole, part(whole)
        frames, features = transform(self.data[batch], self._known[batch], names, share, rng, among)
        outputs = self.through(self.network.outputs, frames)
        actions, controls = self._split(torch.from_numpy(features).to(self.device))
        terms = self.objective(self.network.angles(outputs), generator, actions, controls)
        if not isinstance(self.network.angles, CircleAngles):
            return terms
        cosines, sines = self.network.angles.planes(outputs)
        pull = average((torch.hypot(cosines, sines) - 1.0).square().mean())
        return {**terms, "loss": terms["loss"] + PULL * pull, "pull": pull}

    def among(self, batch: NDArray[np.intp], share: float) -> NDArray[np.intp]:
        """These windows; or in their place those of the first episodes, `first_windows` for a share of 0, all for 1."""
        few = min(self.objective.first_windows or len(self.train), len(self.train))
        count = round(few + share * (len(self.train) - few))
        return np.asarray(self._by_episode[np.searchsorted(self._by_episode, batch) % count])

    def validate(self) -> dict[str, float]:
        """J on held-out episodes, by the prediction that training windows give, and its parts.

        `loss` is n - J; `r2_1` ... are the shares of the coordinates, descending; `training_J` is that of the training
        windows themselves.
        """
        part = len(self.held_out)
        moved, actions, controls = self._windows(np.concatenate([self.train[:part], self.held_out]))
        if controls is not None:
            moved, actions = (x - predicted(x, controls, fitted=part) for x in (moved, actions))
        guess = predicted(moved, actions, fitted=part)
        training, shares = shares_of(moved[:part], guess[:part]), shares_of(moved[part:], guess[part:]).flip(0)
        J = float(shares.sum())
        self._keep(J)
        patience = self.objective.patience
        settled = patience and self.part_done >= RAMP[1]  # before, J may fall because windows and symmetries come in
        self.stopped = bool(settled and self._since >= patience and float(shares[-1]) >= self.objective.least)
        parts = {f"r2_{k + 1}": float(share) for k, share in enumerate(shares)}
        return {"loss": len(shares) - J, "J": J, **parts, "training_J": float(training.sum())}

    def finish(self) -> dict[str, Any]:
        """Take the best weights and scale the lines. Raises EncoderCollapsed if a coordinate was not found."""
        self.network.load_state_dict(self._best)
        found = self.validate()
        n, least = self.config.latent_dim, self.objective.least
        if not found[f"r2_{n}"] >= least:
            raise EncoderCollapsed(f"{_shares(found, n, least)}; {_remedy(found, n, self.objective.window)}")
        self._choose_axes()
        return {"space": list(self.config.space.kinds)}

    def memory(self) -> dict[str, Tensor]:
        """The best weights so far, their J, and how many validations ago that was."""
        state = torch.tensor([self._score, self._since], dtype=torch.float64)
        best = {f"memory.best.{k}": v for k, v in self._best.items()}
        return {"memory.state": state, **best}

    def remember(self, tensors: Mapping[str, Tensor]) -> None:
        """Undo `memory`."""
        head = "memory.best."
        self._best = {k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)}
        score, since = tensors["memory.state"].tolist()
        self._score, self._since = score, int(since)

    def _windows(self, index: NDArray[np.intp]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Displacements of windows as they are, features of the actions, and what is known besides, in float64."""
        embeddings = self._embeddings(index)
        actions, controls = self._split(torch.from_numpy(self._known[index]).to(embeddings))
        moved, actions, controls = self.objective.regression(embeddings, actions, controls)
        return moved.double(), actions.double(), None if controls is None else controls.double()

    def _split(self, known: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features of the actions, and controls if there are any."""
        rest = known[:, self._actions :]
        return known[:, : self._actions], rest if rest.shape[1] else None

    def _keep(self, J: float) -> None:
        if self._score < J or not self._best:
            self._score, self._since = J, 0
            self._best = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        else:
            self._since += 1

    def _choose_axes(self) -> None:
        """Leave what J leaves free so that the excited displacement is isotropic, or nearly so where there are circles.

        Lines are whitened to the mean variance c of the circles, and added to circles so that they are uncorrelated.
        """
        around = self.config.space.circles
        some = self.train[: len(self.held_out)]
        whole, explained = covariances(*self._windows(some))
        # What acts alike on two coordinates says little of their sizes: then the whole displacement does.
        part = (whole if self.objective.drift == "explained" else explained).cpu().numpy()
        circles, lines = np.flatnonzero(around), np.flatnonzero(~around)
        if not len(lines):
            return
        M, inner = np.eye(len(around)), part[np.ix_(lines, lines)]
        M[np.ix_(circles, lines)] = -np.linalg.solve(inner, part[np.ix_(lines, circles)]).T
        free = (M @ part @ M.T).diagonal()[circles]
        values, vectors = np.linalg.eigh(inner)
        size = float(free.mean()) if len(circles) else 1.0
        M[np.ix_(lines, lines)] = (vectors * np.sqrt(size / values)) @ vectors.T
        self.network.change_axes(M)


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
