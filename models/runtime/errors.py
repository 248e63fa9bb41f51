"""Errors of recommenders, which everything here may raise."""

from __future__ import annotations


class RecommenderError(ValueError):
    """Something the recommender was asked for or given cannot be; the message says what."""


class UnknownUser(RecommenderError):
    """The recommender knows users by their index only, and the batch holds one it was not trained on (-1)."""
