"""The verbs of the command line: frozen dataclasses whose fields are the options. They call, and print; no logic.

Rooms are imported inside `run`, so that `worldplan --help` answers at once.
"""

from typing import Any

from worldplan.commands.base import Verb as Verb, one_of
from worldplan.commands.bench import Bench
from worldplan.commands.collect import Collect
from worldplan.commands.compare import Compare
from worldplan.commands.convert import Convert
from worldplan.commands.diagnose import Diagnose
from worldplan.commands.doctor import Doctor
from worldplan.commands.dose import Dose
from worldplan.commands.export import Export
from worldplan.commands.fit import Fit
from worldplan.commands.identify import Identify
from worldplan.commands.lab import Lab
from worldplan.commands.plan import Plan
from worldplan.commands.pretrain import Pretrain
from worldplan.commands.push import Push
from worldplan.commands.reproduce import Reproduce
from worldplan.commands.sweep import Sweep
from worldplan.commands.train_sac import TrainSac
from worldplan.commands.verify import Verify

VERBS: dict[str, type[Verb | Collect]] = {
    "doctor": Doctor,
    "collect": Collect,
    "convert": Convert,
    "diagnose": Diagnose,
    "pretrain": Pretrain,
    "fit": Fit,
    "plan": Plan,
    "train-sac": TrainSac,
    "verify": Verify,
    "dose": Dose,
    "identify": Identify,
    "compare": Compare,
    "reproduce": Reproduce,
    "lab": Lab,
    "bench": Bench,
    "export": Export,
    "sweep": Sweep,
    "push": Push,
}
Command: Any = one_of(VERBS)
