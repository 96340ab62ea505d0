"""Pretraining: a resumable run that makes an encoder from positive pairs and never sees a label."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worldplan.data.files import held
from worldplan.data.pairs import Pairs
from worldplan.errors import EncoderCollapsed, InvalidInput
from worldplan.learning.checkpoints import check_start, delete_checkpoint
from worldplan.learning.distributed import leads
from worldplan.learning.encoder import CARDS, PixelEncoder
from worldplan.learning.excitation import Excitation
from worldplan.learning.excitation_run import ExcitationRun
from worldplan.learning.foreign import check_outputs
from worldplan.learning.objectives import LeJEPA
from worldplan.learning.training import PretrainConfig, Report, Run, Watch, train_encoder, unreported, unwatched
from worldplan.learning.views import Views


def pretrain(
    data: Pairs,
    folder: Path | str,
    config: PretrainConfig | None = None,
    *,
    views: Views | None = None,
    begin: PixelEncoder | None = None,
    resume: bool = False,
    command: str = "",
    progress: Watch = unwatched,
    report: Report = unreported,
) -> Path:
    """Train an encoder on `data` and save it to `folder` as `load_encoder` reads it; returns the folder.

    Args:
        data: positive pairs.
        folder: receives `encoder.json`, `encoder.safetensors`, `log.jsonl`, and checkpoints on the way.
        config: None for the defaults.
        views: global and local views for LeJEPA, in place of those of `config`.
        begin: an encoder of the same network and space, whose weights to begin with; None draws them.
        resume: continue from the folder's checkpoint, exactly as if never interrupted; start if it holds none.
        command: provenance, stored in the card.
        progress: wraps the iterator of steps (start, total given), for a progress bar.
        report: receives each logged row.

    Raises:
        BadFile: a checkpoint of another configuration, a finished encoder in the way, or another run that writes there.
        EncoderCollapsed: the embedding has (nearly) lost a dimension, or the loss is not finite.
        InvalidInput: too few pairs, an encoder to begin with that has another network or space, views that the
            objective or the network does not take, or processes that cannot share a batch or have other options.
        ProcessLost: another process of the group has ended.

    In a group of processes (torch.distributed) all of them call this, and train one encoder together; only process 0
    uses the folder. docs/scale.md says what is the same as in one process.
    """
    config, folder = config or PretrainConfig(), Path(folder)
    config = config if views is None else replace(config, views=views)
    with held(folder) if leads() else nullcontext():
        begun = leads() and check_start(folder, "encoder", (folder / CARDS.card).exists(), resume)
        kind: Any = PretrainRun if config.views is None else ViewsRun
        kind = ExcitationRun if isinstance(config.objective, Excitation) else kind
        run: Run = kind(data, config)
        facts: dict[str, Any] = {"command": command}
        if begin is not None:
            run.begin(begin)
            facts["began_with"] = begin.card.get("sha256")
        start = run.share(run.restore(folder) if begun else 0)
        train_encoder(run, folder, facts, start=start, progress=progress, report=report)
        if leads():
            delete_checkpoint(folder)
    return folder


class PretrainRun(Run):
    """A run that refuses a collapsed encoder."""

    def finish(self) -> dict[str, list[float]]:
        """Spread of the embedding on held-out pairs, for the card. Raises EncoderCollapsed."""
        # Judged on what it was trained on: held-out pairs of a few episodes may all show much the same pose.
        learned = self.spread(self.train[: len(self.held_out)])
        if not learned[0] >= 0.1:  # also when it is not a number
            raise EncoderCollapsed(
                f"the embedding collapsed: its standard deviations run from {learned[0]:.3f} to {learned[-1]:.3f} "
                f"instead of about 1; raise {self.config.objective.remedy}, the number of pairs or the epochs"
            )
        return {"spread": self.spread(self.held_out)}


class ViewsRun(PretrainRun):
    """A run on global and local views of each set of frames. Raises InvalidInput if the network takes no local ones."""

    def __init__(self, data: Pairs, config: PretrainConfig) -> None:
        super().__init__(data, config)
        assert config.views is not None and isinstance(config.objective, LeJEPA)
        self.crops, self.lejepa = config.views, config.objective
        if self.crops.local_views and self.crops.local_size:
            try:
                check_outputs(self.network, self.crops.local_size)
            except InvalidInput as error:
                raise InvalidInput(f"{error}; leave local_size at 0: local views as large as the frame") from error

    def terms(self, batch: NDArray[np.intp], generator: torch.Generator) -> dict[str, Tensor]:
        """Terms of LeJEPA of crops of these sets of frames."""
        return self.lejepa.of_views(self._cropped(batch, generator), self.crops.global_views, generator)

    def validate(self) -> dict[str, float]:
        """Loss on the held-out sets, always with the same crops and directions."""
        self.network.eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            parts = np.array_split(self.held_out, -(-len(self.held_out) // 128))
            embeddings = torch.cat([self._cropped(part, generator) for part in parts])
            terms = self.lejepa.of_views(embeddings, self.crops.global_views, generator)
        return {k: float(v) for k, v in terms.items()}

    def _cropped(self, index: NDArray[np.intp], generator: torch.Generator) -> Tensor:
        """Embeddings (B, V_g + V_l, n) of fresh crops, global ones first."""
        large, small = self.crops.draw(self.input(self.data[index]), generator)
        same = large.shape[2:] == small.shape[2:]  # one pass, as of any set of frames
        passes = [torch.cat([large, small], dim=1)] if same else [large, small]
        outputs = [self.through(self.network.outputs, views) for views in passes if views.shape[1]]
        embeddings: Tensor = self.network.angles(torch.cat(outputs, dim=1))
        return embeddings
