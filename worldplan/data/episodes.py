"""Episodes on disk: frames, actions, rewards, and the true states that their world tells.

A shard holds B episodes of T steps: `actions` (B, T, m) float64, `rewards` (B, T), states (B, T + 1, width) and what is
fixed in an episode (B, width), as the world's card names them: the Reacher has `qpos` and `qvel`, 2 wide, and `target`,
3 wide. Where a policy explored, it also holds `expected` (B, T, m), the mean of each action. Once drawn, it also holds
`frames` (B, T + 1, S, S, 3) uint8. Whole episodes belong to training or to test. `StridedPairs` opens only frames:
training cannot see a state.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldplan.checks import check_name
from worldplan.data.shards import check_file, digest, open_array, read_manifest
from worldplan.data.trajectories import Trajectories
from worldplan.data.world_card import REACHER, WorldCard
from worldplan.errors import BadFile, InvalidInput

FORMAT = 1  # version of the manifest's format
SPLITS = ("train", "test")


class EpisodeDataset:
    """Episodes on disk, in a folder that `worldplan collect sac|random|mixture` wrote; `world` says of what.

    Raises BadFile if the manifest is missing, altered, or of another kind of dataset.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.manifest, self.manifest_sha256 = read_manifest(self.folder, FORMAT)
        if self.manifest.get("kind") != "episodes":
            raise BadFile(self.folder, "holds pairs, not episodes; collect with `worldplan collect sac|random|mixture`")
        self.shards: list[dict[str, Any]] = self.manifest["shards"]
        self.runs: list[dict[str, Any]] = self.manifest.get("runs", [])
        try:
            self.world = WorldCard.from_dict(self.manifest["world"]) if "world" in self.manifest else REACHER
        except InvalidInput as error:
            raise BadFile(self.folder, f"{error}; collect it again") from error
        if not all(map(_whole, self.shards)):
            raise BadFile(self.folder, "has a shard whose episodes, steps and split do not fit; collect it again")

    def __len__(self) -> int:
        """Number of episodes."""
        return sum(s["episodes"] for s in self.shards)

    def load(self, split: str | None = None, frames: bool = False) -> Trajectories:
        """Load episodes into memory (frames are memory-mapped).

        Args:
            split: `train`, `test`, or None for all.
            frames: True gives frames as observations; False gives the true states side by side, of the Reacher
                (qpos, qvel, target), (T + 1, 7).

        Raises:
            BadFile: an array is missing or damaged.
            InvalidInput: no frames were drawn, or no episode is in this split.
        """
        world, named = self.world, [*self.world.states, *self.world.fixed]
        episodes: dict[str, list[NDArray[Any]]] = {name: [] for name in ("actions", "rewards", *named, "frames")}
        for shard in self.shards:
            count, steps = shard["episodes"], shard["steps"]
            shapes = {"actions": (count, steps, world.action_dim), "rewards": (count, steps)}
            shapes |= {name: (count, steps + 1, width) for name, width in world.states.items()}
            shapes |= {name: (count, width) for name, width in world.fixed.items()}
            arrays = {name: self._array(shard, name, shape, np.float64) for name, shape in shapes.items()}
            if frames:
                arrays["frames"] = self.frames(shard)
            for k in _members(shard, split):
                for name, array in arrays.items():
                    rows = np.repeat(array[k][None], steps + 1, axis=0) if name in world.fixed else array[k]
                    episodes[name].append(rows)
        if not episodes["actions"]:
            raise InvalidInput(f"no episode of the split {split!r} in {self.folder}; collect more")
        info = {name: episodes[name] for name in named}
        empty = [np.zeros((len(u) + 1, 0)) for u in episodes["actions"]]
        states = [np.concatenate(rows, axis=1) for rows in zip(*info.values(), strict=True)] or empty
        return Trajectories(
            frames=episodes["frames"] or states, actions=episodes["actions"], rewards=episodes["rewards"], info=info
        )

    def frames(self, shard: dict[str, Any]) -> NDArray[np.uint8]:
        """Frames (B, T + 1, S, S, 3) of a shard, memory-mapped."""
        shape = (shard["episodes"], shard["steps"] + 1, *self.world.frame)
        array: NDArray[np.uint8] = self._array(shard, "frames", shape, np.uint8)
        return array

    def poses(self, shard: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Joint angles (B, T + 1, 2) and targets (B, 3) of a shard of the Reacher, memory-mapped.

        Raises InvalidInput if these are episodes of another world.
        """
        if self.world.name != REACHER.name:
            raise InvalidInput(
                f"{self.folder} holds episodes of {self.world.name!r}, whose frames are taken as they happen; only "
                "those of the Reacher are drawn later"
            )
        count, steps = shard["episodes"], shard["steps"]
        shapes = {"qpos": (count, steps + 1, 2), "target": (count, 3)}
        qpos, target = (self._array(shard, name, shape, np.float64) for name, shape in shapes.items())
        return qpos, target

    def actions(self, shard: dict[str, Any]) -> NDArray[np.float64]:
        """Actions (B, T, m) of a shard, memory-mapped."""
        shape = (shard["episodes"], shard["steps"], self.world.action_dim)
        array: NDArray[np.float64] = self._array(shard, "actions", shape, np.float64)
        return array

    def expected(self, shard: dict[str, Any]) -> NDArray[np.float64] | None:
        """What a policy that explored did on average, (B, T, m); None where nobody told, as of random torques."""
        shape = (shard["episodes"], shard["steps"], self.world.action_dim)
        return self._array(shard, "expected", shape, np.float64) if "expected" in shard else None

    def verify(self) -> None:
        """Compare the SHA-256 of every file with the manifest. Raises BadFile if one differs or is gone."""
        for shard in self.shards:
            for entry in shard.values():
                if isinstance(entry, dict) and "sha256" in entry:
                    check_file(self.folder, entry)

    def _array(self, shard: dict[str, Any], name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
        if name not in shard:
            raise InvalidInput(f"{self.folder} lacks {name}; draw frames with `worldplan collect frames {self.folder}`")
        return open_array(self.folder / shard[name]["file"], shape, dtype)


class StridedPairs:
    """Positive pairs of frames `stride` steps apart in the same episode, for `pretrain`.

    Args:
        data: episodes with frames.
        stride: delta, steps between the two views of a pair.
        split: `train` or `test`.
        lead: steps that each episode has before the first view of a pair.
        past: if not 0, there is a third view, in the first place: the frame so many steps before the other two.

    Raises:
        InvalidInput: stride below 1 or longer than all episodes, no episode in this split, or no frames drawn.
    """

    def __init__(
        self, data: EpisodeDataset, stride: int, split: str = "train", *, lead: int = 0, past: int = 0
    ) -> None:
        if stride < 1 or past < 0:
            raise InvalidInput(f"the stride must be at least 1 step, and past at least 0, got {stride} and {past}")
        self._offsets = [-past, 0, stride] if past else [0, stride]
        self.views, lead = len(self._offsets), max(lead, past)
        shards = [(data.frames(s), _members(s, split)) for s in data.shards]
        longest = max((s["steps"] for s, (_, k) in zip(data.shards, shards, strict=True) if len(k)), default=0)
        if longest < lead + stride:
            what = f"its longest {split} episode has {longest} steps" if longest else f"it has no {split} episode"
            needs = f"pairs {stride} steps apart" + (f", {lead} steps after the start" if lead else "")
            option = "--window" if lead else "--stride"
            raise InvalidInput(f"{data.folder} has no {needs}: {what}; lower {option} or collect longer episodes")
        self._frames = [frames for frames, _ in shards]
        rows = [
            np.stack(np.broadcast_arrays(i, k[:, None], np.arange(lead, frames.shape[1] - stride)), axis=-1).reshape(
                -1, 3
            )
            for i, (frames, k) in enumerate(shards)
            if len(k) and frames.shape[1] > lead + stride
        ]
        self._rows = np.concatenate(rows)  # (N, 3): shard, episode in it, step of the first view
        self._data = data
        self.manifest_sha256 = digest({"data": data.manifest_sha256, "stride": stride, "split": split})
        self.provenance = {
            "kind": "episodes",
            "stride": stride,
            "split": split,
            "data": data.manifest_sha256,
            **{name: value for name, value in data.manifest.items() if name not in ("shards", "format", "kind")},
        }

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self._rows)

    @property
    def places(self) -> NDArray[np.int64]:
        """(N, 3): shard, episode in it, and step of the first frame of each pair."""
        return self._rows

    def __getitem__(self, index: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Frames (len(index), V, S, S, 3) of the pairs `index`, V = 2, or 3 with `past`."""
        out = np.empty((len(index), self.views, *self._data.world.frame), dtype=np.uint8)
        for row, (shard, episode, step) in enumerate(self._rows[index]):
            out[row] = self._frames[shard][episode, [step + offset for offset in self._offsets]]
        return out

    def verify(self) -> None:
        """Compare the SHA-256 of every file with the manifest."""
        self._data.verify()

    def split(self, held_out: int, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Indices of `held_out` pairs, and of the pairs of all episodes that those do not touch.

        Neighbouring frames are alike: with one episode on both sides, the held-out loss would be a training loss.
        Raises InvalidInput if there are too few episodes to hold some out.
        """
        episodes, owner = np.unique(self._rows[:, :2], axis=0, return_inverse=True)
        order = rng.permutation(len(episodes))
        sizes = np.bincount(owner, minlength=len(episodes))[order].cumsum()
        apart = int(np.searchsorted(sizes, held_out) + 1)
        if apart >= len(episodes):
            raise InvalidInput(
                f"holding out {held_out} of {len(self)} pairs takes {apart} of {len(episodes)} episodes; lower "
                "--validation or collect more episodes"
            )
        outside = np.isin(owner, order[:apart])
        return rng.permutation(np.flatnonzero(outside))[:held_out], rng.permutation(np.flatnonzero(~outside))


def _whole(shard: dict[str, Any]) -> bool:
    """Whether a shard tells how many episodes it has, how long they are, and which are for testing."""
    count, steps, test = (shard.get(name) for name in ("episodes", "steps", "test"))
    numbers = all(isinstance(x, int) and not isinstance(x, bool) and x >= 1 for x in (count, steps))
    return numbers and isinstance(test, list) and len(test) == count and all(isinstance(x, bool) for x in test)


def _members(shard: dict[str, Any], split: str | None) -> NDArray[np.intp]:
    """Indices of a shard's episodes that belong to a split."""
    if split is None:
        return np.arange(shard["episodes"])
    check_name("split", split, SPLITS)
    return np.flatnonzero(np.asarray(shard["test"], dtype=bool) == (split == "test"))
