"""Several processes that train together on this machine, and small episodes for them: a dot that actions move."""

import json
import os
import sys
import time
import traceback
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from killed import SERVER

from worldplan.__main__ import main
from worldplan.learning.excitation import Excitation
from worldplan.learning.objectives import InfoNCE, LeJEPA, VICReg, Whitening
from worldplan.learning.training import PretrainConfig
from worldplan.learning.views import Views

SERVER.set_forkserver_preload(
    ["ranks", "worldplan.envs.datasets.pairs", "worldplan.envs.datasets.frames", "worldplan.eval.show.table"]
    + ["worldplan.learning.pretraining", "worldplan.data.own", "torch.utils.tensorboard", "torch._dynamo"]
)
SIDE, EPISODES, STEPS = 32, 12, 30
NET = PretrainConfig(
    width=4, hidden=16, batch=32, epochs=40, lr=4e-3, validation=32, device="cpu", checkpoint_every=10, bfloat16=False
)
LINES = ("line", "line")
CASES = {
    "lejepa": replace(NET, objective=LeJEPA()),
    **{
        test: replace(NET, objective=LeJEPA(weight=0.02, slices=64, test=test))
        for test in ("moments", "jarque-bera", "cramer-von-mises", "watson", "anderson-darling")
    },
    "views": replace(NET, objective=LeJEPA(), views=Views(2, 2, jitter=0.2, flip=0.5)),
    "whitening": replace(NET, objective=Whitening()),
    "vicreg": replace(NET, objective=VICReg()),
    "infonce": replace(NET, objective=InfoNCE()),
    "excitation": replace(NET, objective=Excitation(window=4, space=LINES, past=4, symmetries=("mirror", "turns"))),
    "excitation, circle": replace(NET, objective=Excitation(window=4, space=("circle", "line"), against="sigreg")),
    "supervised": NET,
}


def dots(folder, seed=0, episodes=EPISODES):
    """A dataset of episodes: frames of a dot, which two actions move; its place is a label of every frame."""
    from worldplan.data.own import save_episodes

    rng = np.random.default_rng(seed)
    frames, actions = [], []
    across = (np.arange(SIDE) + 0.5) / SIDE
    for _ in range(episodes):
        u = rng.uniform(-1, 1, (STEPS, 2))
        z = np.concatenate([np.zeros((1, 2)), 0.1 * u.cumsum(axis=0)]) + rng.uniform(-0.5, 0.5, 2)
        place = 0.5 + 0.35 * np.sin(z)[:, :, None]
        x, y = np.exp(-0.5 * ((across - place) / 0.08) ** 2).transpose(1, 0, 2)
        picture = 255.0 * y[:, :, None] * x[:, None, :]
        frames.append(np.repeat(picture[..., None], 3, axis=3).astype(np.uint8))
        actions.append(u)
    return save_episodes(folder, frames, actions, size=SIDE)


def run_of(case, folder, **more):
    """The run of a case on the episodes in a folder."""
    from worldplan.data.episodes import EpisodeDataset, StridedPairs
    from worldplan.data.windows import Windows
    from worldplan.learning.excitation_run import ExcitationRun
    from worldplan.learning.pretraining import PretrainRun, ViewsRun
    from worldplan.learning.supervised import SquaredError, SupervisedRun

    config, data = replace(CASES[case], **more), EpisodeDataset(folder)
    if isinstance(config.objective, Excitation):
        return ExcitationRun(Windows(data, config.objective.window, past=config.objective.past), config)
    pairs = StridedPairs(data, 1)
    if case == "supervised":
        targets = np.random.default_rng(0).standard_normal((len(pairs), 2, 2)).astype(np.float32)
        return SupervisedRun(pairs, replace(config, objective=SquaredError()), targets)
    return (ViewsRun if config.views else PretrainRun)(pairs, config)


def trained(case, folder, steps, **more):
    """Rows of the log of some steps, and the weights after them.

    The last biases are left out: most objectives do not see where the origin of the latent is, so that their gradient
    is rounding alone, which Adam makes into steps.
    """
    run = run_of(case, folder, **more)
    run.share(0)
    rows = [run.step(k) for k in range(steps)]
    weights = [v.ravel() for k, v in run.network.state_dict().items() if k != "head.4.bias"]
    return rows, np.concatenate(weights).astype(np.float64)


@contextmanager
def apart():
    """In place of `sharded`: each process takes the statistics of its own part of a batch, and gradients are averaged.

    It is what wrapping the network alone does.
    """
    from worldplan.learning import training
    from worldplan.learning.distributed import processes, rank

    def each(count):
        return slice(rank() * count // processes(), (rank() + 1) * count // processes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "sharded", nullcontext)
        patch.setattr(training, "part", each)
        yield


def together(work, size, folder, *arguments):
    """`work(*arguments)` in `size` processes of one group; their results, which must be JSON. Raises if one failed."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    everyone = [SERVER.Process(target=_take_part, args=(work, k, size, folder, arguments)) for k in range(size)]
    for process in everyone:
        process.start()
    for process in everyone:
        process.join(300)
    codes = [process.exitcode for process in everyone]
    assert codes == [0] * size, codes
    return [json.loads((folder / f"{k}.json").read_text()) for k in range(size)]


def command(said, *arguments, **environment):
    """The command line in a process of its own, which writes what it says to the file `said`."""
    process = SERVER.Process(target=_command, args=(said, arguments, environment))
    process.start()
    return process


def _command(said, arguments, environment):
    os.environ |= environment
    sys.stdout = sys.stderr = open(said, "w", buffering=1)  # noqa: SIM115 (until the process ends)
    sys.exit(main(list(arguments)))


def wait_for(path, process):
    """Until a file is there that a process writes."""
    while not path.exists():
        assert process.is_alive(), f"it ended with {process.exitcode}"
        time.sleep(0.01)


def _take_part(work, rank, size, folder, arguments):
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
        (folder / f"{rank}.json").write_text(json.dumps(work(*arguments)))
        dist.destroy_process_group()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
