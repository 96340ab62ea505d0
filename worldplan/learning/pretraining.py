"""The resumable loop that trains an encoder on positive pairs, without ever seeing a label."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from worldplan.checks import checked_seed
from worldplan.data.files import atomic_write, read_json, write_json
from worldplan.data.pairs import Pairs
from worldplan.errors import BadFile, EncoderCollapsed, InvalidInput, WorldplanError
from worldplan.learning.encoder import save_encoder
from worldplan.learning.network import ConvEncoder, to_input
from worldplan.learning.objectives import LeJEPA, Objective, objective_from_dict, objective_to_dict

_CHECKPOINT, _PROGRESS, _LOG = "checkpoint.safetensors", "checkpoint.json", "log.jsonl"


@dataclass(frozen=True)
class PretrainConfig:
    """How an encoder is trained.

    Args:
        objective: the loss.
        latent_dim: n, width of the embedding.
        width: channels of the first convolution.
        hidden: units of the head.
        half: the weights are stored as float16; they are computed with in float32.
        mirror: the saved encoder is made odd by averaging over the mirror image (`MirrorOdd`); training is not touched.
        batch: pairs (sets of views) per step.
        epochs: passes over the training pairs; the last may be a part of one.
        lr: peak learning rate (AdamW; linear warm-up over a tenth of the steps, then cosine to 0).
        weight_decay: AdamW's.
        clip: largest gradient norm.
        validation: pairs held out to report the label-free loss.
        seed: of weights, order and directions.
        device: "auto" takes a GPU when there is one.
        bfloat16: autocast the network; None: on a GPU only.
        checkpoint_every: steps between checkpoints.
    """

    objective: Objective = field(default_factory=LeJEPA)
    latent_dim: int = 2
    width: int = 16
    hidden: int = 256
    half: bool = False
    mirror: bool = False
    batch: int = 128
    epochs: float = 20
    lr: float = 4e-3
    weight_decay: float = 1e-4
    clip: float = 1.0
    validation: int = 1024
    seed: int = 0
    device: str = "auto"
    bfloat16: bool | None = None
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        sizes = ("latent_dim", "width", "hidden", "batch", "validation", "checkpoint_every")
        for name in (*sizes, "epochs", "lr", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidInput(f"{name} must be positive and finite, got {getattr(self, name)}")
        checked_seed(self.seed)
        if self.batch < 2 or not 0 <= self.weight_decay < math.inf:
            raise InvalidInput(
                f"weight_decay must be positive or 0, got {self.weight_decay}; batch at least 2, got {self.batch}"
            )

    def to_dict(self) -> dict[str, Any]:
        """As JSON, the objective with its name."""
        return {**asdict(self), "objective": objective_to_dict(self.objective)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> PretrainConfig:
        """Undo `to_dict`; what an older record lacks has its default."""
        return cls(**{**record, "objective": objective_from_dict(record["objective"])})


def pretrain(
    data: Pairs,
    folder: Path | str,
    config: PretrainConfig | None = None,
    *,
    resume: bool = False,
    command: str = "",
    progress: Callable[[Iterator[int], int, int], Iterator[int]] = lambda steps, start, total: steps,
    report: Callable[[dict[str, float]], None] = lambda row: None,
) -> Path:
    """Train an encoder on `data` and save it to `folder` in the form that `load_encoder` reads.

    Args:
        data: positive pairs.
        folder: receives `encoder.json`, `encoder.safetensors`, `log.jsonl`, and checkpoints on the way.
        config: None for the defaults.
        resume: continue from the folder's checkpoint, exactly as if never interrupted.
        command: provenance, stored in the card.
        progress: wraps the iterator of steps (start, total given), for a progress bar.
        report: receives each logged row.

    Returns:
        The folder.

    Raises:
        BadFile: nothing to resume, a checkpoint of another configuration, or a finished encoder in the way.
        EncoderCollapsed: the embedding has (nearly) lost a dimension, or the loss is not finite.
        InvalidInput: too few pairs.
    """
    config, folder = config or PretrainConfig(), Path(folder)
    if (folder / "encoder.json").exists():
        raise BadFile(folder, "already holds a trained encoder; choose another folder")
    if not resume and (folder / _PROGRESS).exists():
        raise BadFile(folder, "holds an unfinished run; continue it with --resume or choose another folder")
    if resume and not (folder / _PROGRESS).exists():
        raise BadFile(folder, "holds no checkpoint to resume from; start without --resume")
    if len(data) < config.validation + config.batch:
        wanted = f"{config.validation} held out and batches of {config.batch}"
        raise InvalidInput(f"{len(data)} pairs are too few for {wanted}; collect more or lower both")
    run = _Run(data, config)
    start = run.restore(folder) if resume else 0
    with atomic_write(folder / _LOG) as stream:  # rows past the checkpoint will be written again
        stream.writelines(_rows_until(start, folder / _LOG))
    with open(folder / _LOG, "a", encoding="utf-8") as log:
        for step in progress(iter(range(start, run.steps)), start, run.steps):
            row = run.step(step)
            done = step + 1
            if not (math.isfinite(row["loss"]) and math.isfinite(row["gradient"])):
                raise EncoderCollapsed(
                    f"loss {row['loss']} and gradient {row['gradient']} at step {done}; lower --lr and start anew"
                )
            if done % 100 == 0 or done == run.steps:
                if done % config.checkpoint_every == 0 or done == run.steps:
                    row |= {f"validation_{k}": v for k, v in run.validate().items()}
                log.write(json.dumps({"step": done, **row}) + "\n")
                log.flush()
                report({"step": done, **row})
            if done % config.checkpoint_every == 0 and done < run.steps:
                run.checkpoint(folder, done)
    # On what it was trained on: held-out pairs of a few episodes may all show much the same pose.
    learned = run.spread(run.train[: len(run.held_out)])
    if not learned[0] >= 0.1:  # also when it is not a number
        raise EncoderCollapsed(
            f"the embedding collapsed: its standard deviations run from {learned[0]:.3f} to {learned[-1]:.3f} instead "
            f"of about 1; raise {config.objective.remedy}, the number of pairs or the epochs"
        )
    save_encoder(
        run.network,
        folder,
        card={
            "command": command,
            "mirror": config.mirror,
            "config": config.to_dict(),
            "data": {"sha256": data.manifest_sha256, **data.provenance},
            "validation": run.validate(),
            "spread": run.spread(run.held_out),
        },
        half=config.half,
    )
    for name in (_CHECKPOINT, _PROGRESS):
        (folder / name).unlink(missing_ok=True)
    return folder


class _Run:
    """State of one training run: network, optimiser, and an order of data that is a function of (seed, step)."""

    def __init__(self, data: Pairs, config: PretrainConfig) -> None:
        self.data, self.config = data, config
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(wanted if config.device == "auto" else config.device)
        self.autocast = self.device.type == "cuda" if config.bfloat16 is None else config.bfloat16
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            network = ConvEncoder(config.latent_dim, config.width, config.hidden)
        self.network = network.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self.held_out, self.train = data.split(config.validation, np.random.default_rng([config.seed, 0]))
        self.per_epoch = len(self.train) // config.batch
        self.steps = max(1, round(self.per_epoch * config.epochs))
        self._epoch, self._order = -1, self.train

    def step(self, step: int) -> dict[str, float]:
        """One optimiser step; everything random is a function of the seed and the step's number."""
        epoch, k = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.config.seed, 1, epoch]).permutation(self.train)
        batch = self._order[k * self.config.batch : (k + 1) * self.config.batch]
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * _schedule(step / self.steps)
        self.network.train()
        seed = int(np.random.SeedSequence([self.config.seed, 2, step]).generate_state(1)[0])
        terms = self.config.objective(self._embed(batch), torch.Generator().manual_seed(seed))
        self.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.optimizer.step()
        return {k: float(v.detach()) for k, v in terms.items()} | {"gradient": float(norm)}

    def validate(self) -> dict[str, float]:
        """Label-free loss on the held-out pairs, always with the same directions."""
        terms = self.config.objective(self._embeddings(self.held_out), torch.Generator().manual_seed(0))
        return {k: float(v) for k, v in terms.items()}

    def spread(self, pairs: NDArray[np.intp]) -> list[float]:
        """Standard deviations of the embedding of these pairs along its principal axes, ascending."""
        h = self._embeddings(pairs).flatten(0, 1).double()
        if not h.isfinite().all():
            return [math.nan] * h.shape[1]
        variances: Tensor = torch.linalg.eigvalsh(torch.cov(h.T).reshape(h.shape[1], h.shape[1]))
        return [math.sqrt(max(v, 0.0)) for v in variances.tolist()]

    def _embeddings(self, pairs: NDArray[np.intp]) -> Tensor:
        self.network.eval()
        with torch.no_grad():
            parts = np.array_split(pairs, -(-len(pairs) // 128))
            return torch.cat([self._embed(part) for part in parts])

    def _embed(self, index: np.ndarray[Any, np.dtype[np.intp]]) -> Tensor:
        frames = torch.from_numpy(self.data[index]).to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            h = self.network(to_input(frames.flatten(0, 1)))
        return h.float().unflatten(0, frames.shape[:2])  # type: ignore[no-any-return]

    def checkpoint(self, folder: Path, done: int) -> None:
        """Write weights, optimiser state and step in one file; the JSON beside it says whose they are."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        for i, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{k}": v for k, v in slots.items()}
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        with atomic_write(folder / _CHECKPOINT) as stream:
            stream.write(save(tensors, metadata={"step": str(done)}))
        progress = {"step": done, "config": self.config.to_dict(), "data": self.data.manifest_sha256}
        write_json(folder / _PROGRESS, progress)

    def restore(self, folder: Path) -> int:
        """Load the folder's checkpoint and return the number of steps done.

        The step is the one inside the weight file: a crash may leave a JSON older than the weights.
        """
        saved = read_json(folder / _PROGRESS)
        try:
            same = PretrainConfig.from_dict(saved["config"]) == self.config
        except (KeyError, TypeError, ValueError, WorldplanError):
            same = False
        if not same or saved.get("data") != self.data.manifest_sha256:
            raise BadFile(folder / _PROGRESS, "belongs to another configuration or dataset; start a new folder")
        try:
            with safe_open(folder / _CHECKPOINT, framework="pt") as file:
                done = int(file.metadata()["step"])
                tensors = {k: file.get_tensor(k).clone() for k in file.keys()}  # noqa: SIM118 (no mapping)
            weights = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
            self.network.load_state_dict(weights)
            state = self.optimizer.state_dict()
            for name, value in tensors.items():
                if name.startswith("optimizer."):
                    _, i, slot = name.split(".")
                    state["state"].setdefault(int(i), {})[slot] = value
            self.optimizer.load_state_dict(state)
        except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
            raise BadFile(folder / _CHECKPOINT, f"cannot be read ({error}); start a new folder") from error
        return done


def _rows_until(step: int, log: Path) -> list[bytes]:
    """Lines of a log up to a step; the rest, perhaps torn by a crash, belongs to work that was lost."""
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


def _schedule(t: float) -> float:
    """Learning rate at the fraction t of the run, over its peak."""
    return t / 0.1 if t < 0.1 else 0.5 * (1.0 + math.cos(math.pi * (t - 0.1) / 0.9))
