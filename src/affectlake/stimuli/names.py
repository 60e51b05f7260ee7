"""The rated emotion categories and affective dimensions of Cowen & Keltner 2017, spelled as in their file.

Tables contain these names in lower case.
"""

from __future__ import annotations

from affectlake.stimuli.study import Family

CATEGORY = Family("category", 0.0, 1.0, are_categories=True)
"""The proportion of raters who felt the category."""

DIMENSION = Family("dimension", 1.0, 9.0)
"""Mean ratings on nine-point scales. The published study compares them as they are: no neutral score is declared."""

CATEGORIES = (
    "Admiration",
    "Adoration",
    "Aesthetic Appreciation",
    "Amusement",
    "Anger",
    "Anxiety",
    "Awe",
    "Awkwardness",
    "Boredom",
    "Calmness",
    "Confusion",
    "Contempt",
    "Craving",
    "Disappointment",
    "Disgust",
    "Empathic Pain",
    "Entrancement",
    "Envy",
    "Excitement",
    "Fear",
    "Guilt",
    "Horror",
    "Interest",
    "Joy",
    "Nostalgia",
    "Pride",
    "Relief",
    "Romance",
    "Sadness",
    "Satisfaction",
    "Sexual Desire",
    "Surprise",
    "Sympathy",
    "Triumph",
)
"""The 34 categories; a score is the proportion of raters who felt the category, 0 to 1."""

DIMENSIONS = (
    "approach",
    "arousal",
    "attention",
    "certainty",
    "commitment",
    "control",
    "dominance",
    "effort",
    "fairness",
    "identity",
    "obstruction",
    "safety",
    "upswing",
    "valence",
)
"""The 14 dimensions; a score is the mean rating on a nine-point scale, 1 to 9."""
