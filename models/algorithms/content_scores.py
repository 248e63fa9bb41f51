"""The content-based recommender that ships in a bundle beside the promoted one, wherever the films' words are known."""

from __future__ import annotations

import numpy as np

from models.algorithms.content_based import ContentBased, ContentConfig
from models.data.features import TrainingFeatures
from models.data.interactions import Interactions
from models.data.item_content import ItemContent


def fit_content(interactions: Interactions, content: ItemContent | None) -> ContentBased | None:
    """Fit the recommender on these words; return None if there are none, or none that two movies share.

    Only the sizes of the index spaces are taken from ``interactions``. Raises ``RecommenderError`` for the words of
    other movies.
    """
    if content is None or not (np.bincount(content.counts.indices) >= ContentConfig().min_items).any():
        return None
    # What is known of users is not looked at, so it need not be carried here.
    nothing = np.empty((len(interactions), 0), dtype=np.float32)
    return ContentBased().fit(interactions, TrainingFeatures(nothing, (), (), content))
