"""The experiments, in the order of the theorems."""

from __future__ import annotations

from worldplan.eval.laboratory.bound import BOUND_EXPERIMENT
from worldplan.eval.laboratory.experiment import Experiment
from worldplan.eval.laboratory.mixings import MIXINGS_EXPERIMENT
from worldplan.eval.laboratory.selection import SELECTION_EXPERIMENT
from worldplan.eval.laboratory.width import WIDTH_EXPERIMENT

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (MIXINGS_EXPERIMENT, BOUND_EXPERIMENT, WIDTH_EXPERIMENT, SELECTION_EXPERIMENT)
}
"""Experiments by name."""
