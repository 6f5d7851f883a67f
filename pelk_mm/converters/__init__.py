"""Weights in and out: authors' checkpoints, deployed forms, dense checkpoints of sparse nets."""
