"""Temporary re-export until train.py is final."""

from nbcore.train import TrainConfig  # noqa: F401
