"""Nets by name."""
