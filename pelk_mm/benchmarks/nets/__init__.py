"""Whole nets side by side: evaluation, training steps, sparse training."""
