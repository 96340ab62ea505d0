"""The experiments, in the order of the theorems."""

from __future__ import annotations

from worldplan.eval.laboratory.experiment import Experiment
from worldplan.eval.laboratory.mixings import MIXINGS_EXPERIMENT
from worldplan.eval.laboratory.scaling import SCALING_EXPERIMENT

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment for experiment in (MIXINGS_EXPERIMENT, SCALING_EXPERIMENT)
}
"""Experiments by name."""
