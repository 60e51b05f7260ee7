"""Sparse positive similarity embeddings (SPoSE): the choice model, its fit, and the dimensions it finds.

The names below are loaded when first used: importing this package loads neither torch nor Numba.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from affectlake.lazily import loaded_when_used

if TYPE_CHECKING:
    from affectlake.spose.curve import Epoch as Epoch
    from affectlake.spose.curve import Score as Score
    from affectlake.spose.data import TrainingData as TrainingData
    from affectlake.spose.data import training_data as training_data
    from affectlake.spose.fitting import Fit as Fit
    from affectlake.spose.fitting import fit as fit
    from affectlake.spose.fitting import fit_seeds as fit_seeds
    from affectlake.spose.model import choice_probabilities as choice_probabilities
    from affectlake.spose.model import score as score
    from affectlake.spose.proposing import choose_settings as choose_settings
    from affectlake.spose.proposing import draw_informative as draw_informative
    from affectlake.spose.proposing import expected_information as expected_information
    from affectlake.spose.proposing import fit_members as fit_members
    from affectlake.spose.settings import FewJudgments as FewJudgments
    from affectlake.spose.settings import Settings as Settings

_HOME = {
    "Epoch": "curve",
    "FewJudgments": "settings",
    "Fit": "fitting",
    "Score": "curve",
    "Settings": "settings",
    "TrainingData": "data",
    "choice_probabilities": "model",
    "choose_settings": "proposing",
    "draw_informative": "proposing",
    "expected_information": "proposing",
    "fit": "fitting",
    "fit_members": "proposing",
    "fit_seeds": "fitting",
    "score": "model",
    "training_data": "data",
}

__all__ = list(_HOME)
__getattr__ = loaded_when_used(__name__, _HOME)
