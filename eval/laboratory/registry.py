"""The experiments, in the order of the theorems."""

from __future__ import annotations

from worldplan.eval.laboratory.bound import BOUND_EXPERIMENT
from worldplan.eval.laboratory.converse import CONVERSE_EXPERIMENT
from worldplan.eval.laboratory.dirichlet import DIRICHLET_EXPERIMENT
from worldplan.eval.laboratory.experiment import Experiment
from worldplan.eval.laboratory.mixings import MIXINGS_EXPERIMENT
from worldplan.eval.laboratory.scaling import SCALING_EXPERIMENT
from worldplan.eval.laboratory.selection import SELECTION_EXPERIMENT
from worldplan.eval.laboratory.sigreg import SIGREG_EXPERIMENT
from worldplan.eval.laboratory.why_gaussian import WHY_GAUSSIAN_EXPERIMENT
from worldplan.eval.laboratory.width import WIDTH_EXPERIMENT
from worldplan.eval.laboratory.window import WINDOW_EXPERIMENT

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        MIXINGS_EXPERIMENT,
        SCALING_EXPERIMENT,
        CONVERSE_EXPERIMENT,
        BOUND_EXPERIMENT,
        WINDOW_EXPERIMENT,
        WIDTH_EXPERIMENT,
        WHY_GAUSSIAN_EXPERIMENT,
        SELECTION_EXPERIMENT,
        DIRICHLET_EXPERIMENT,
        SIGREG_EXPERIMENT,
    )
}
"""Experiments by name."""
