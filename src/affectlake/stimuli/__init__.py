"""Sources of stimuli, ratings, captions and videos, and the synthetic study.

Each source returns a :class:`Study`, four tables with the columns of ``schemas/tables``. Sampling and judging triplets
and writing tables do not belong here.
"""

from affectlake.stimuli.emotion import load_emotion
from affectlake.stimuli.names import CATEGORIES, DIMENSIONS
from affectlake.stimuli.study import Study, prototypes
from affectlake.stimuli.synthetic import SyntheticWorld, make_synthetic

__all__ = ["CATEGORIES", "DIMENSIONS", "Study", "SyntheticWorld", "load_emotion", "make_synthetic", "prototypes"]
