"""How much memory the objects of a file may take."""

import pickle


class MemoryLimitError(pickle.UnpicklingError):
    """A file asks for more memory than any checkpoint of its size needs."""


class Budget:
    """Memory that the objects of one file may take.

    Args:
        size: In bytes.
    """

    def __init__(self, size: int) -> None:
        self._left = size

    def reserve(self, size: int) -> None:
        """Refuse what there is no room for; ``size`` in bytes, needed for a moment only."""
        if size > self._left:
            raise MemoryLimitError('it would take much more memory than the file is large')

    def spend(self, size: int) -> None:
        """Take ``size`` bytes for good."""
        self.reserve(size)
        self._left -= size
