"""Which space and which window: short runs of each candidate, judged by J on held-out episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

from worldplan.data.episodes import EpisodeDataset
from worldplan.data.files import write_json
from worldplan.data.windows import Windows
from worldplan.errors import BadFile, InvalidInput
from worldplan.learning.checkpoints import changed
from worldplan.learning.distributed import agreed, leads
from worldplan.learning.encoder import CARDS, load_encoder
from worldplan.learning.excitation import Excitation
from worldplan.learning.pretraining import pretrain
from worldplan.learning.training import FREE, PretrainConfig, Watch, unwatched
from worldplan.planning.space import KINDS
from worldplan.provenance import plain

WINDOWS = (8, 16, 32, 48)  # steps: candidates for `auto`
TIE = 0.05  # of J; a choice, not measured
SHORT = 0.5  # epochs of a candidate, of those asked for
FOLDER, FILE = "candidates", "candidates.json"  # beside the encoder


@dataclass(frozen=True)
class Candidate:
    """A space and a window, with J on held-out episodes of its short run, and the shares of its coordinates."""

    space: tuple[str, ...]
    window: int
    J: float
    shares: tuple[float, ...]

    @property
    def name(self) -> str:
        """Space and window, as the options write them."""
        return f"{','.join(self.space)}, window {self.window}"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"space": list(self.space), "window": self.window, "J": self.J, "shares": list(self.shares)}


def spaces_of(n: int) -> list[tuple[str, ...]]:
    """Every space of n coordinates up to their order, lines alone first."""
    found = [tuple(kinds) for kinds in combinations_with_replacement(KINDS, n)]
    return sorted(found, key=lambda kinds: kinds.count("circle"))


def choose(
    data: EpisodeDataset,
    config: PretrainConfig,
    folder: Path | str,
    *,
    spaces: Sequence[tuple[str, ...]] = (),
    windows: Sequence[int] = (),
    progress: Watch = unwatched,
) -> tuple[PretrainConfig, list[Candidate]]:
    """The configuration with the best of these windows, and then the best of these spaces at that window.

    Each candidate has a run of half the epochs, in `folder`/candidates; those that are there are not run again. The
    best has the greatest J on held-out episodes: true states take no part. Of spaces that tie, the one with the most
    lines is taken: a circle tells a joint with a stop as well as a line does. Spaces of several widths are tried from
    the narrowest on, until one has no space of which every coordinate is found (a share of `least`); the width before
    is taken. Windows are compared in the own space of the configuration, or where spaces are to be chosen too, in a
    widest one with one circle, which no joint contradicts.

    Args:
        data: episodes with actions and frames.
        config: of the objective `excitation`.
        folder: where the encoder will be.
        spaces: candidates, of one width or of several; empty keeps the configuration's.
        windows: candidates, steps; those longer than half an episode are left out. Empty keeps it.
        progress: wraps the iterator of each run's steps.

    Raises:
        InvalidInput: another objective, or no window fits into the episodes.
    """
    if not isinstance(config.objective, Excitation):
        raise InvalidInput(f"windows and spaces are those of the objective excitation, not {config.objective.name}")
    tried: list[Candidate] = []
    least = config.objective.least
    where = Path(folder) / FOLDER
    if windows:
        most = max(map(len, spaces), default=0)
        kinds = next((s for s in spaces if "circle" in s and len(s) == most), tuple(config.space.kinds))
        longest = min(int(shard["steps"]) for shard in data.shards)
        fitting = [w for w in windows if 2 * w <= longest]
        if not fitting:
            raise InvalidInput(
                f"the shortest window, {min(windows)} steps, is over half an episode of {longest}; name a --window"
            )
        found = [_tried(data, config, kinds, window, where, progress) for window in fitting]
        tried += found
        config = _with(config, config.space.kinds, max(found, key=lambda c: c.J).window)
    if spaces:
        window = _window(config)
        known = {c.space: c for c in tried if c.window == window}
        best: list[Candidate] = []
        for n in sorted(set(map(len, spaces))):
            wide = [s for s in spaces if len(s) == n]
            found = [known.get(s) or _tried(data, config, s, window, where, progress) for s in wide]
            tried += [c for c in found if c not in tried]
            whole = [c for c in found if min(c.shares) >= least]
            if best and not whole:
                break
            best = whole or found
        config = _with(config, simplest(best).space, window)
    if leads():
        write_json(Path(folder) / FILE, {"chosen": name_of(config), "candidates": [c.to_dict() for c in tried]})
    return config, tried


def simplest(found: Sequence[Candidate]) -> Candidate:
    """The candidate with the most lines among those whose J is the best or ties with it; of these the best."""
    best = max(c.J for c in found)
    return min((c for c in found if best - TIE <= c.J), key=lambda c: (c.space.count("circle"), -c.J))


def _tried(
    data: EpisodeDataset, config: PretrainConfig, space: Sequence[str], window: int, where: Path, progress: Watch
) -> Candidate:
    folder = where / f"{'-'.join(space)}-{window}"
    short = _with(config, space, window, least=-1e9)
    short = replace(short, epochs=config.epochs * SHORT)
    assert isinstance(config.objective, Excitation)
    views = Windows(data, window, past=config.objective.past)
    if not agreed(leads() and (folder / CARDS.card).exists())[0]:
        pretrain(views, folder, short, resume=True, progress=progress)
    card = load_encoder(folder).card
    if changed(card["config"], plain(short.to_dict()), FREE) or card["data"]["sha256"] != views.manifest_sha256:
        raise BadFile(folder, "is a candidate of other options or data; delete it, or choose another folder")
    judged: dict[str, Any] = card["validation"]
    shares = tuple(float(judged[f"r2_{k + 1}"]) for k in range(len(space)))
    return Candidate(tuple(space), window, float(judged["J"]), shares)


def _with(config: PretrainConfig, space: Sequence[str], window: int, **more: Any) -> PretrainConfig:
    assert isinstance(config.objective, Excitation)
    objective = replace(config.objective, window=window, space=tuple(space), **more)
    return replace(config, objective=objective, latent_dim=len(tuple(space)))


def name_of(config: PretrainConfig) -> str:
    """Space and window of a configuration."""
    return Candidate(config.space.kinds, _window(config), 0.0, ()).name


def _window(config: PretrainConfig) -> int:
    assert isinstance(config.objective, Excitation)
    return config.objective.window
