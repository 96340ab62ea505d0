"""A trained policy without its trainer: the actor of SAC as safetensors and JSON, behind SB3's `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from worldplan.data.cards import ZOO, Cards
from worldplan.data.trajectories import Starts, State
from worldplan.errors import BadFile, InvalidInput

Floats = NDArray[np.float32]

CARDS = Cards(
    "policy",
    ZOO / "policies",
    "policy.json",
    "policy.safetensors",
    {"format": 1, "kind": "sac-actor"},
    "fetch or train it again",
)
known_policies = CARDS.known
_LOG_STD = (-20.0, 2.0)  # SB3's limits


class ActorPolicy:
    """The squashed Gaussian policy of SAC (Haarnoja et al. 2018, arXiv 1812.05905): `a = tanh(mu(o) + sigma(o) xi)`.

    mu and log sigma are linear in the last layer of a ReLU network. a in [-1, 1] is then stretched to the action space.
    `xi` is 0 for deterministic actions, else N(0, I) from `rng`. `card` records how the policy was trained.

    Args:
        tensors: `hidden.i.weight` (out, in) and `.bias`, `mean.*`, `log_std.*`, float32.
        observation_space: a flat `Box` (d,).
        action_space: a bounded `Box` (m,).
        card: how it was made.
        seed: seed for actions that are drawn.

    Raises:
        InvalidInput: tensors that do not fit the spaces or each other, or are not finite.
    """

    def __init__(
        self,
        tensors: dict[str, Floats],
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        card: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.observation_space, self.action_space = flat_box(observation_space), flat_box(action_space, bounded=True)
        self.card = card or {}
        self.rng = np.random.default_rng(seed)
        self.tensors = {name: np.array(value) for name, value in tensors.items()}
        self.hidden = _sizes(self.tensors, self.observation_space.shape[0], self.action_space.shape[0])
        layers = [f"hidden.{i}" for i in range(len(self.hidden))]
        self._layers = [self._layer(name) for name in layers]
        self._mean, self._log_std = self._layer("mean"), self._layer("log_std")

    def _layer(self, name: str) -> tuple[Floats, Floats]:
        return self.tensors[f"{name}.weight"].T, self.tensors[f"{name}.bias"]

    def predict(
        self,
        observation: Any,
        state: State = None,
        episode_start: Starts = None,
        deterministic: bool = True,
        rng: np.random.Generator | None = None,
    ) -> tuple[Any, State]:
        """Actions (m,) or (N, m), float32 within the action space, for observations (d,) or (N, d); and `state`.

        Args:
            observation: array, or torch tensor; the actions are of the same kind.
            state: returned unchanged; the policy has none.
            episode_start: ignored.
            deterministic: False draws the action.
            rng: generator of drawn actions; None takes the policy's own.

        Raises:
            InvalidInput: another shape, or values that are no finite numbers.
        """
        if isinstance(observation, torch.Tensor):
            action, _ = self.predict(observation.detach().cpu().numpy(), None, None, deterministic, rng)
            return torch.from_numpy(action).to(observation.device), state
        action, deviation = self.distribution(observation)
        if not deterministic:
            action = action + deviation * (rng or self.rng).standard_normal(action.shape, dtype=np.float32)
        low, high = self.action_space.low, self.action_space.high
        stretched = low + 0.5 * (np.tanh(action) + 1.0) * (high - low)
        return stretched.clip(low, high).astype(np.float32, copy=False), state

    def distribution(self, observation: Any) -> tuple[Floats, Floats]:
        """Mean mu and standard deviation sigma of actions before squashing, (m,) or (N, m) each.

        Raises InvalidInput as `predict` does.
        """
        x = self._checked(observation)
        for weight, bias in self._layers:
            x = np.maximum(x @ weight + bias, 0.0)
        mean = x @ self._mean[0] + self._mean[1]
        return mean, np.exp((x @ self._log_std[0] + self._log_std[1]).clip(*_LOG_STD))

    def _checked(self, observation: Any) -> Floats:
        try:
            array: NDArray[Any] = np.asarray(observation)
        except ValueError as error:
            raise InvalidInput(f"observations must all have the same shape ({error})") from error
        (size,) = self.observation_space.shape
        if array.ndim not in (1, 2) or array.shape[-1] != size or array.dtype.kind not in "fiu":
            raise InvalidInput(
                f"this policy takes observations ({size},) or (N, {size}) of numbers, as {self.environment} gives "
                f"them; got {array.shape} of {array.dtype}"
            )
        if not np.isfinite(array).all():
            raise InvalidInput("an observation has entries that are not finite")
        return array.astype(np.float32, copy=False)

    @property
    def environment(self) -> str:
        """Name of the environment that the policy was trained in."""
        return str(self.card.get("environment", {}).get("id", "its environment"))

    def check_env(self, env: Any) -> None:
        """Raise InvalidInput if an environment has other spaces than the policy was trained in."""
        for name in ("observation_space", "action_space"):
            ours, theirs = getattr(self, name), getattr(env, name)
            if not isinstance(theirs, spaces.Box) or ours != theirs:
                raise InvalidInput(f"the policy was trained in {self.environment} with {name} {ours}, got {theirs}")

    def save(self, folder: Path | str) -> str:
        """Write weights, then the card with their SHA-256, for `load_policy`; returns that SHA-256."""
        facts = {
            "hidden": self.hidden,
            "observation_space": _describe(self.observation_space),
            "action_space": _describe(self.action_space),
        }
        weights = save({name: np.ascontiguousarray(value) for name, value in self.tensors.items()})
        self.card = CARDS.write(Path(folder), weights, {**self.card, **facts})
        return str(self.card["sha256"])


def load_policy(name: str | Path, seed: int = 0) -> ActorPolicy:
    """Load a policy that ships with worldplan, or one from a folder or the Hugging Face hub. Reads no pickle.

    Args:
        name: a shipped name (`known_policies()`), a folder that `worldplan train-sac` wrote, or an address of such a
            folder, `hf://OWNER/NAME@REVISION`.
        seed: seed for actions that are drawn (`predict(..., deterministic=False)`).

    Raises:
        UnknownName: neither a shipped name nor a folder.
        BadFile: a file is missing, truncated, altered, or of another kind.
        HubError: the hub cannot be reached, or does not have it, for you or at all.
    """
    folder = CARDS.find(name)
    card = CARDS.read(folder)
    weights, path = CARDS.read_weights(folder, card), folder / CARDS.weights
    try:
        tensors = load(weights)
        policy = ActorPolicy(tensors, _space(card["observation_space"]), _space(card["action_space"]), card, seed)
        if policy.hidden != card["hidden"]:
            raise InvalidInput(f"layers of {policy.hidden} units, the card says {card['hidden']}")
    except (SafetensorError, KeyError, TypeError, ValueError, AssertionError) as error:
        raise BadFile(path, f"holds no weights of this policy ({error}); train it again") from error
    return policy


def flat_box(space: spaces.Space[Any], *, bounded: bool = False) -> spaces.Box:
    """The space, if it is a `Box` of floating-point vectors and, with `bounded`, has bounds, as actions need.

    Raises InvalidInput if not: images need other networks.
    """
    if not isinstance(space, spaces.Box) or len(space.shape) != 1 or space.dtype is None or space.dtype.kind != "f":
        raise InvalidInput(f"need a flat Box of floats, such as that of worldplan/Reacher-v0, got {space}")
    if bounded and not space.is_bounded():
        raise InvalidInput(f"need bounded actions, got {space}")
    return space


def _sizes(tensors: dict[str, Floats], inputs: int, outputs: int) -> list[int]:
    """Units of the hidden layers, after a check that all tensors are there and fit together."""
    hidden: list[int] = []
    wanted: dict[str, tuple[int, ...]] = {}
    while (weight := tensors.get(f"hidden.{len(hidden)}.weight")) is not None:
        units = weight.shape[0] if weight.ndim else 0
        wanted |= {f"hidden.{len(hidden)}.weight": (units, inputs), f"hidden.{len(hidden)}.bias": (units,)}
        inputs = units
        hidden.append(units)
    for head in ("mean", "log_std"):
        wanted |= {f"{head}.weight": (outputs, inputs), f"{head}.bias": (outputs,)}
    found = {name: value.shape for name, value in tensors.items()}
    if found != wanted:
        raise InvalidInput(f"need tensors {wanted}, got {found}")
    for name, value in tensors.items():
        if value.dtype != np.float32 or not np.isfinite(value).all():
            raise InvalidInput(f"tensor {name} must be float32 and finite")
    return hidden


def _describe(box: spaces.Box) -> dict[str, Any]:
    return {"low": box.low.tolist(), "high": box.high.tolist(), "dtype": str(box.dtype)}


def _space(saved: dict[str, Any]) -> spaces.Box:
    kind: Any = {"float32": np.float32, "float64": np.float64}[saved["dtype"]]
    return spaces.Box(np.array(saved["low"], dtype=kind), np.array(saved["high"], dtype=kind), dtype=kind)
