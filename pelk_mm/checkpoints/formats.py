"""What a file is by its first bytes: safetensors are read, and what is no checkpoint at all is called by its name."""

from typing import BinaryIO

from torch import Tensor

from ..utils.errors import CheckpointError

HEAD = 512  # bytes that are looked at
#: What installs safetensors and huggingface_hub.
INSTALL = 'pip install "pelk_mm[hub]"'
_LONGEST_HEADER = 100 << 20  # of safetensors' own library


def is_safetensors(head: bytes, size: int) -> bool:
    """Tell from the first bytes of a file of ``size`` bytes: the length of a JSON header, and its brace."""
    length = int.from_bytes(head[:8], 'little')
    return len(head) > 8 and head[8:9] == b'{' and 2 <= length <= min(size - 8, _LONGEST_HEADER)


def read_safetensors(stream: BinaryIO) -> dict[str, Tensor]:
    """Return the tensors of a file of safetensors, on the CPU.

    Raises:
        ValueError: The file is damaged.
        ImportError: The package safetensors is not installed; the message holds the command that installs it.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load
    except ImportError as error:
        raise ImportError(f'it is a file of safetensors, which needs: {INSTALL}') from error
    try:
        return load(stream.read())
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def refuse_other_kinds(head: bytes, name: str) -> None:
    """Name what is often saved under a checkpoint's name, by the first bytes of the file.

    Raises:
        CheckpointError: It is a page, a pointer or a text.
    """
    text = head.lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    if text.startswith((b'<!doctype html', b'<html', b'<head', b'<?xml')):
        raise CheckpointError(
            f'checkpoint {name} is an HTML page, not a checkpoint: its address is that of a page about the file, or of '
            'an error; download the file itself'
        )
    if text.startswith(b'version https://git-lfs'):
        raise CheckpointError(f'checkpoint {name} is a pointer of Git LFS, not the file: run git lfs pull there')
    if head and all(byte in b'\t\r\n' or 32 <= byte < 127 for byte in head):
        raise CheckpointError(f'checkpoint {name} is a text file, not a checkpoint')
