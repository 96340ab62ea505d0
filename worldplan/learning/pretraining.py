"""Pretraining: a resumable run that makes an encoder from positive pairs and never sees a label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from worldplan.data.files import held
from worldplan.data.pairs import Pairs
from worldplan.errors import EncoderCollapsed
from worldplan.learning.checkpoints import check_start, delete_checkpoint
from worldplan.learning.encoder import CARDS, PixelEncoder
from worldplan.learning.excitation import Excitation
from worldplan.learning.excitation_run import ExcitationRun
from worldplan.learning.training import PretrainConfig, Report, Run, Watch, train_encoder, unreported, unwatched


def pretrain(
    data: Pairs,
    folder: Path | str,
    config: PretrainConfig | None = None,
    *,
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
        begin: an encoder of the same network and space, whose weights to begin with; None draws them.
        resume: continue from the folder's checkpoint, exactly as if never interrupted.
        command: provenance, stored in the card.
        progress: wraps the iterator of steps (start, total given), for a progress bar.
        report: receives each logged row.

    Raises:
        BadFile: nothing to resume, a checkpoint of another configuration, a finished encoder in the way, or another
            process that writes there.
        EncoderCollapsed: the embedding has (nearly) lost a dimension, or the loss is not finite.
        InvalidInput: too few pairs, or an encoder to begin with that has another network or space.
    """
    config, folder = config or PretrainConfig(), Path(folder)
    with held(folder):
        check_start(folder, "encoder", (folder / CARDS.card).exists(), resume)
        kind: Any = ExcitationRun if isinstance(config.objective, Excitation) else PretrainRun
        run: Run = kind(data, config)
        facts: dict[str, Any] = {"command": command}
        if begin is not None:
            run.begin(begin)
            facts["began_with"] = begin.card.get("sha256")
        start = run.restore(folder) if resume else 0
        train_encoder(run, folder, facts, start=start, progress=progress, report=report)
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
