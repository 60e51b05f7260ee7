"""Where stimuli, ratings and captions come from, and the synthetic world.

Each source becomes a :class:`Study`, four tables with the columns of ``schemas/tables``. Choosing triplets, judging
and writing tables do not belong here.
"""

from affectlake.stimuli.emotion import load_emotion
from affectlake.stimuli.names import CATEGORIES, DIMENSIONS
from affectlake.stimuli.study import Study, prototypes
from affectlake.stimuli.synthetic import SyntheticWorld, make_synthetic

__all__ = ["CATEGORIES", "DIMENSIONS", "Study", "SyntheticWorld", "load_emotion", "make_synthetic", "prototypes"]
