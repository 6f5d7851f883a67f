"""The runner that loses nothing, and resuming bit by bit."""

from .runner import SafeRunner, build_runner

__all__ = ['SafeRunner', 'build_runner']
