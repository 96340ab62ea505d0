"""`worldplan convert`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from worldplan.commands.base import Verb, writable_file, writable_folder


@dataclass(frozen=True, kw_only=True)
class Convert(Verb):
    """Episodes to and from HDF5 files and Minari's datasets, with pictures of any size and world.

    HDF5 files are those that worldplan exports, or flat columns: pixels, action, ep_len, ep_offset.

    Args:
        source: a folder of episodes, a file *.hdf5, or minari:<id>.
        out: one of the other two kinds for a folder, otherwise a new folder.
        frames: export the frames as observations, in place of the states of worldplan/Reacher-v0.
        test_share: import: probability that an episode belongs to the test split.
        env: import of pictures: the world that they show, as for `collect random --env`; by default the one that the
            file names, or one of its own.
        size: import of pictures: pixels a side that they are resized to.
    """

    source: tyro.conf.Positional[str]
    out: str
    frames: bool = False
    test_share: float = 0.2
    env: Annotated[str | None, tyro.conf.arg(metavar="ID")] = None
    size: int = 64

    def run(self, command: str) -> int:
        """Exit status 0."""
        from worldplan.envs.datasets.convert import convert_episodes
        from worldplan.eval.show.table import facts_table

        if not self.out.startswith("minari:"):
            check = writable_file if self.out.endswith((".hdf5", ".h5")) else writable_folder
            check(Path(self.out))
        world = None
        if self.env is not None:
            from worldplan.envs.world.registry import find_world

            world = find_world(self.env, size=self.size).card
        kept: dict[str, Any] = {
            "frames": self.frames,
            "test_share": self.test_share,
            "seed": self.seed,
            "size": self.size,
        }
        where = convert_episodes(self.source, self.out, world=world, **kept)
        self.show({"out": where}, facts_table(f"Episodes in {where}", ()))
        return 0
