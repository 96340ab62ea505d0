"""The training loop: network, optimiser, a data order that the seed decides, a log, checkpoints."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldplan.data.files import atomic_write, read_json, to_json
from worldplan.data.pairs import Pairs
from worldplan.errors import BadFile, EncoderCollapsed, InvalidInput, WorldplanError
from worldplan.learning.checkpoints import (
    PROGRESS,
    changed,
    load_state,
    read_checkpoint,
    state_tensors,
    write_checkpoint,
)
from worldplan.learning.config import TrainingOptions
from worldplan.learning.distributed import agreed, average_gradients, leads, part, processes, sharded, shared
from worldplan.learning.encoder import PixelEncoder, save_encoder
from worldplan.learning.foreign import new_network
from worldplan.learning.network import ConvEncoder, to_input
from worldplan.learning.objectives import LeJEPA, Objective, objective_from_dict, objective_to_dict
from worldplan.learning.views import Views
from worldplan.planning.space import LatentSpace
from worldplan.stopping import Stopped, postponed

LOG = "log.jsonl"
LOG_EVERY = 100  # steps
FREE = "device", "checkpoint_every"  # may differ when a run is resumed: they decide where and how often, not what

Watch = Callable[[Iterator[int], int, int], Iterator[int]]
"""Wraps the iterator of steps (start and total given), for a progress bar."""
Report = Callable[[dict[str, float]], None]


def unwatched(steps: Iterator[int], start: int, total: int) -> Iterator[int]:
    """No progress bar."""
    return steps


def unreported(row: dict[str, float]) -> None:
    """Ignore a row of the log."""


@dataclass(frozen=True)
class PretrainConfig(TrainingOptions):
    """How an encoder is trained: the options, the objective (the loss), and for LeJEPA global and local views."""

    objective: Objective = field(default_factory=LeJEPA)
    views: Views | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.space.dim != self.latent_dim:
            raise InvalidInput(
                f"a latent of {self.latent_dim} cannot lie in {self.space!r}; set latent_dim to {self.space.dim}"
            )
        if self.mirror and not self.space.flat:
            raise InvalidInput("averaging over the mirror image is for latents of lines; train without --mirror")
        if self.views is not None and not isinstance(self.objective, LeJEPA):
            raise InvalidInput(f"global and local views are of LeJEPA, not of {self.objective.name}; leave views out")

    @property
    def space(self) -> LatentSpace:
        """The space of the latents: the objective's, or lines."""
        kinds = getattr(self.objective, "space", ())
        return LatentSpace(*kinds) if kinds else LatentSpace.lines(self.latent_dim)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, the objective with its name; without `views` where there are none."""
        record = {**asdict(self), "objective": objective_to_dict(self.objective)}
        del record["views"]
        return record if self.views is None else {**record, "views": self.views.to_dict()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> PretrainConfig:
        """Undo `to_dict`; fields that an older record lacks get their defaults."""
        views = record.get("views")
        read = {"objective": objective_from_dict(record["objective"]), "views": views and Views.from_dict(views)}
        return cls(**{**record, **read})


class Run:
    """State of one training run: network, optimiser, and a data order that is a function of (seed, step).

    `stopped` is True once more steps would not help; `part_done` is the share of the steps that were made.

    In a group of processes (`distributed`) each one computes its part of every batch, and all make the same steps.

    Raises InvalidInput if there are too few pairs, or processes that cannot share a batch evenly.
    """

    stopped = False
    part_done = 0.0

    def __init__(self, data: Pairs, config: PretrainConfig) -> None:
        if len(data) < config.validation + config.batch:
            wanted = f"{config.validation} held out and batches of {config.batch}"
            raise InvalidInput(f"{len(data)} pairs are too few for {wanted}; collect more or lower both")
        if config.batch % processes():
            raise InvalidInput(
                f"{processes()} processes cannot share a batch of {config.batch} evenly; for --batch, which counts the "
                f"pairs of all of them, choose a multiple of {processes()}, or start another number of processes"
            )
        self.data, self.config = data, config
        self.held_out, self.train = data.split(config.validation, np.random.default_rng([config.seed, 0]))
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(wanted if config.device == "auto" else config.device)
        self.autocast = self.device.type == "cuda" if config.bfloat16 is None else config.bfloat16
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            size = data[self.train[:1]].shape[2]
            network = new_network(config.network, config.space.kinds, size, config.width, config.hidden)
        self.network: Any = network.to(self.device)
        if isinstance(network, ConvEncoder):  # others may have a layout of their own
            self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self.per_epoch = len(self.train) // config.batch
        self.steps = max(1, round(self.per_epoch * config.epochs))
        self.validate_every = config.checkpoint_every
        self._epoch, self._order = -1, self.train

    def begin(self, encoder: PixelEncoder) -> None:
        """Take the weights of an encoder. Raises InvalidInput if it has another network or space."""
        try:
            if encoder.space != self.config.space:
                raise RuntimeError(f"{encoder.space!r} for {self.config.space!r}")
            self.network.load_state_dict(encoder.trained.state_dict())
        except RuntimeError as error:
            raise InvalidInput(
                "the encoder to begin with has another network or space; train with its --width, --hidden, --network "
                f"and --space ({str(error).splitlines()[-1].strip()})"
            ) from error

    def step(self, step: int) -> dict[str, float]:
        """One optimiser step; everything random is a function of the seed and the step's number."""
        epoch, k = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.config.seed, 1, epoch]).permutation(self.train)
        batch = self._order[k * self.config.batch : (k + 1) * self.config.batch]
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * schedule(step / self.steps)
        self.part_done = step / self.steps
        self.network.train()
        seed = int(np.random.SeedSequence([self.config.seed, 2, step]).generate_state(1)[0])
        with sharded():
            terms = self.terms(batch[part(len(batch))], torch.Generator().manual_seed(seed))
        self.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        average_gradients(self.network.parameters())
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.optimizer.step()
        return {k: float(v.detach()) for k, v in terms.items()} | {"gradient": float(norm)}

    def terms(self, batch: NDArray[np.intp], generator: torch.Generator) -> dict[str, Tensor]:
        """Terms of the loss of these pairs, or of the `sharded` batch of which they are a part."""
        return self.config.objective(self.embed(batch), generator)

    def validate(self) -> dict[str, float]:
        """Loss on the held-out pairs, always with the same directions."""
        terms = self.config.objective(self._embeddings(self.held_out), torch.Generator().manual_seed(0))
        return {k: float(v) for k, v in terms.items()}

    def spread(self, pairs: NDArray[np.intp]) -> list[float]:
        """Standard deviations of the embedding of these pairs along its principal axes, ascending."""
        h = self._embeddings(pairs).flatten(0, 1).double()
        if not h.isfinite().all():
            return [math.nan] * h.shape[1]
        variances: Tensor = torch.linalg.eigvalsh(torch.cov(h.T).reshape(h.shape[1], h.shape[1]))
        return [math.sqrt(max(v, 0.0)) for v in variances.tolist()]

    def finish(self) -> dict[str, Any]:
        """Further facts for the card, after the last step; a subclass may refuse the encoder here."""
        return {}

    def _embeddings(self, pairs: NDArray[np.intp]) -> Tensor:
        self.network.eval()
        with torch.no_grad():
            parts = np.array_split(pairs, -(-len(pairs) // 128))
            return torch.cat([self.embed(part) for part in parts])

    def embed(self, index: NDArray[np.intp]) -> Tensor:
        """Embeddings (len(index), V, n), the input of the objective."""
        return self.network.angles(self.through(self.network.outputs, self.data[index]))  # type: ignore[no-any-return]

    def through(self, module: Callable[[Tensor], Tensor], views: NDArray[np.uint8] | Tensor) -> Tensor:
        """What a part of the network makes of frames (B, V, S, S, 3), or its input (B, V, 3, S, S), as (B, V, k)."""
        frames = self.input(views) if isinstance(views, np.ndarray) else views
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            h = module(frames.flatten(0, 1))
        return h.float().unflatten(0, frames.shape[:2])  # type: ignore[no-any-return]

    def input(self, views: NDArray[np.uint8]) -> Tensor:
        """Frames (B, V, S, S, 3) as the network takes them, floats (B, V, 3, S, S) in [-.5, .5] on its device."""
        frames = torch.from_numpy(views).to(self.device, non_blocking=True)
        return to_input(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])  # type: ignore[no-any-return]

    def checkpoint(self, folder: Path, done: int) -> None:
        """Write weights, optimiser state and step in one file; the JSON beside it says which run they belong to."""
        tensors = {**state_tensors(self.network, {"optimizer.": self.optimizer}), **self.memory()}
        write_checkpoint(folder, tensors, {"step": str(done)}, {"step": done, **self.identity()})

    def identity(self) -> dict[str, Any]:
        """What the steps depend on, as JSON values; the configuration with the precision that it leaves open."""
        return {"config": {**self.config.to_dict(), "bfloat16": self.autocast}, "data": self.data.manifest_sha256}

    def restore(self, folder: Path) -> int:
        """Load the folder's checkpoint and return the number of steps done.

        The step is the one in the weight file: a crash may leave a JSON older than the weights. The options `FREE` and
        the number of processes may have changed. Raises BadFile if the checkpoint belongs to another configuration or
        dataset, and names what differs, or if it cannot be read.
        """
        path = folder / PROGRESS
        saved = read_json(path)
        try:
            config = PretrainConfig.from_dict(saved["config"]).to_dict()
        except (KeyError, TypeError, ValueError, WorldplanError) as error:
            raise BadFile(path, f"belongs to another configuration ({error}); start a new folder") from error
        if config["bfloat16"] is None:
            config["bfloat16"] = self.autocast  # older checkpoints do not tell
        others = changed({**saved, "config": config}, self.identity(), FREE)
        if others:
            raise BadFile(
                path, f"belongs to another configuration or dataset ({others}); give its options, or start a new folder"
            )
        with read_checkpoint(folder) as (tensors, metadata):
            load_state(self.network, {"optimizer.": self.optimizer}, tensors)
            self.remember(tensors)
            return int(metadata["step"])

    def share(self, start: int) -> int:
        """Take weights, optimiser and steps done from process 0, so that all start alike.

        Raises InvalidInput if not all have the same options and data.
        """
        if processes() == 1:
            return start
        mark = hashlib.sha256(to_json(self.identity()).encode()).digest()
        own = {"start": torch.tensor(start), "identity": torch.tensor(list(mark), dtype=torch.uint8)}
        told = shared({**state_tensors(self.network, {"optimizer.": self.optimizer}), **own})
        if agreed(not torch.equal(told["identity"], own["identity"]))[0]:
            raise InvalidInput("the processes of this run have different options or data; start all of them alike")
        load_state(self.network, {"optimizer.": self.optimizer}, told)
        return int(told["start"])

    def memory(self) -> dict[str, Tensor]:
        """Further tensors of a checkpoint, for a subclass that carries more from step to step."""
        return {}

    def remember(self, tensors: Mapping[str, Tensor]) -> None:
        """Undo `memory`."""


def train_encoder(
    run: Run,
    folder: Path,
    facts: Mapping[str, Any],
    *,
    start: int = 0,
    checkpoints: bool = True,
    progress: Watch = unwatched,
    report: Report = unreported,
) -> Path:
    """Run the steps from `start` on, log them, save the encoder with its card, and return the folder.

    `facts` are entries of the card, beside configuration, data and validation. `start` is the number of steps that a
    checkpoint holds already. `checkpoints` writes one every `checkpoint_every` steps, with the loss on held-out pairs
    in the log. SIGTERM waits for the end of a step, and for the last step and the encoder if that is it. The other
    arguments are those of `pretrain`.

    Of several processes, process 0 alone writes, judges and reports; what it decides holds for all.

    Raises:
        EncoderCollapsed: the loss is not finite, or the embedding has (nearly) lost a dimension.
        ProcessLost: another process has ended.
        Stopped: SIGTERM came to one of the processes; a checkpoint is written.
    """
    config, first = run.config, leads()
    if first:
        with atomic_write(folder / LOG) as stream:  # rows past the checkpoint will be written again
            stream.writelines(_rows_until(start, folder / LOG))
    watch = progress if first else unwatched
    with postponed() as asked, open(folder / LOG if first else os.devnull, "a", encoding="utf-8") as log:
        for step in watch(iter(range(start, run.steps)), start, run.steps):
            row, done = run.step(step), step + 1
            if not (math.isfinite(row["loss"]) and math.isfinite(row["gradient"])):
                raise EncoderCollapsed(
                    f"loss {row['loss']} and gradient {row['gradient']} at step {done}; lower --lr and start anew"
                )
            if first and (done % LOG_EVERY == 0 or done == run.steps):
                if checkpoints and (done % run.validate_every == 0 or done == run.steps):
                    row |= {f"validation_{k}": v for k, v in run.validate().items()}
                log.write(json.dumps({"step": done, **row}) + "\n")
                log.flush()
                report({"step": done, **row})
            enough, stop = agreed(run.stopped, asked())
            if enough:
                break
            due = stop or done % config.checkpoint_every == 0
            if first and checkpoints and due and done < run.steps:
                run.checkpoint(folder, done)
            if stop and done < run.steps:
                raise Stopped
        if first:
            data = {"sha256": run.data.manifest_sha256, **run.data.provenance}
            judged = run.finish()
            about = {"mirror": config.mirror, "config": config.to_dict(), "data": data, "validation": run.validate()}
            about |= {"processes": processes()} if processes() > 1 else {}
            save_encoder(run.network, folder, {**facts, **about, **judged}, half=config.half)
        agreed(True)  # for all, the folder is whole
    return folder


def schedule(t: float) -> float:
    """Learning rate at the fraction t of the run, relative to its peak."""
    return t / 0.1 if t < 0.1 else 0.5 * (1.0 + math.cos(math.pi * (t - 0.1) / 0.9))


def _rows_until(step: int, log: Path) -> list[bytes]:
    """Lines of a log up to a step; later ones, perhaps torn by a crash, belong to lost work."""
    rows = log.read_bytes().splitlines(keepends=True) if step and log.exists() else []
    kept = []
    for row in rows:
        try:
            if json.loads(row)["step"] > step:
                break
        except ValueError:
            break
        kept.append(row)
    return kept
