"""The verbs of the command line: frozen dataclasses whose fields are the options. They call, and print; no logic.

Rooms are imported inside `run`, so that `worldplan --help` answers at once.
"""

from typing import Annotated

import tyro

from worldplan.commands.base import Verb
from worldplan.commands.bench import Bench
from worldplan.commands.collect import Collect
from worldplan.commands.compare import Compare
from worldplan.commands.convert import Convert
from worldplan.commands.diagnose import Diagnose
from worldplan.commands.doctor import Doctor
from worldplan.commands.dose import Dose
from worldplan.commands.fit import Fit
from worldplan.commands.identify import Identify
from worldplan.commands.plan import Plan
from worldplan.commands.pretrain import Pretrain
from worldplan.commands.reproduce import Reproduce
from worldplan.commands.train_sac import TrainSac
from worldplan.commands.verify import Verify

Command = (
    Annotated[Doctor, tyro.conf.subcommand("doctor")]
    | Annotated[Collect, tyro.conf.subcommand("collect")]
    | Annotated[Convert, tyro.conf.subcommand("convert")]
    | Annotated[Diagnose, tyro.conf.subcommand("diagnose")]
    | Annotated[Pretrain, tyro.conf.subcommand("pretrain")]
    | Annotated[Fit, tyro.conf.subcommand("fit")]
    | Annotated[Plan, tyro.conf.subcommand("plan")]
    | Annotated[TrainSac, tyro.conf.subcommand("train-sac")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Dose, tyro.conf.subcommand("dose")]
    | Annotated[Identify, tyro.conf.subcommand("identify")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[Bench, tyro.conf.subcommand("bench")]
)

__all__ = [
    "Bench",
    "Collect",
    "Command",
    "Compare",
    "Convert",
    "Diagnose",
    "Doctor",
    "Dose",
    "Fit",
    "Identify",
    "Plan",
    "Pretrain",
    "Reproduce",
    "TrainSac",
    "Verb",
    "Verify",
]
