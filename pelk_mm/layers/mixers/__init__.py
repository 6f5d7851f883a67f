"""Token mixers, one a file: what mixes the pixels of a block."""
