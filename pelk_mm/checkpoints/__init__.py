"""Checkpoints read without running code, put into a model, and their deployed form."""
