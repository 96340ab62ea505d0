"""Writers that die: at a chosen rename or removal, or at any instant."""

import multiprocessing
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

# Children of a process that has drawn cannot draw; those of this server can, and need no new imports.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["killed", "worldplan.envs.datasets.pairs", "worldplan.envs.datasets.frames"])
WHOLE = 100  # exit code of a child that came to its end, plus its renames and removals
STOPPED = 9  # of one that ended itself


def run(verb, folder, resume, deaths=None, after=None):
    """Do it in another process, which ends without a word before its `deaths`-th rename or removal; None for never.

    With `after`, it is killed after so many seconds. Returns WHOLE and the number of renames and removals, or less if
    it did not come to its end.
    """
    process = SERVER.Process(target=_run, args=(verb, folder, resume, deaths))
    process.start()
    process.join(120 if after is None else after)
    if process.exitcode is None:
        process.kill()
        process.join()
        assert after is not None
    return process.exitcode


def _run(verb, folder, resume, deaths):
    done = []

    def mortal(real):
        def act(*args, **kwargs):
            if len(done) == deaths:
                os._exit(STOPPED)
            done.append(args)
            return real(*args, **kwargs)

        return act

    os.replace, Path.unlink = mortal(os.replace), mortal(Path.unlink)
    verb(folder, resume)
    os._exit(WHOLE + len(done))


def contents(folder):
    """Bytes of the files by name, without those that only a writer sees."""
    paths = [
        p for p in folder.rglob("*") if p.is_file() and not any(n.startswith(".") for n in p.relative_to(folder).parts)
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


# --- verbs: what to do in a folder, and whether to go on there ------------------------------------------------------


def ou(folder, resume, count=4):
    from worldplan.envs.datasets import pairs
    from worldplan.envs.worlds import OUWorld

    pairs._SHARD = 2
    pairs.collect_pairs(OUWorld(), count, folder, with_labels=True, resume=resume)


def record(folder, resume):
    from worldplan.data.recipes import EpisodeConfig
    from worldplan.envs.datasets import episodes

    episodes.SHARD = 2
    episodes.record_episodes(None, folder, EpisodeConfig(episodes=4, steps=3), resume=resume)


def draw(look, folder, resume):
    from worldplan.envs.datasets.frames import draw_frames

    draw_frames(folder, look, resume=resume)


frames, again = partial(draw, "fast"), partial(draw, "dmc")


def train(pairs, folder, resume):
    """Pretrain on the pairs of a folder."""
    from worldplan.data.pairs import PairDataset
    from worldplan.learning.pretraining import pretrain
    from worldplan.learning.training import PretrainConfig

    config = PretrainConfig(
        width=2, hidden=8, batch=8, epochs=30, validation=8, lr=1e-2, checkpoint_every=20, device="cpu"
    )
    pretrain(PairDataset(pairs), folder, config, resume=resume)


def save(which, folder, resume):
    """Save an agent, over another one if there is one."""
    from arms import COST, joints, small_encoder

    from worldplan.agents.planning_agent import PlanningAgent

    PlanningAgent(small_encoder(which), joints(), replace(COST), "lqr").save(folder)


def sac(folder, resume):
    """Train a policy by SAC."""
    import gymnasium as gym

    from worldplan.agents.config import SACConfig
    from worldplan.agents.sac import train_sac

    config = SACConfig(
        steps=48, hidden=(4,), batch=8, buffer=64, warmup=16, copies=2, updates=1, episode_steps=10,
        evaluate_every=24, evaluations=1, tests=1,
    )  # fmt: skip
    train_sac(partial(gym.make, "worldplan/Reacher-v0"), folder, config, resume=resume)
