"""A fuzzer of the reader, run by hand: a checkpoint or a CheckpointError, and not more memory than the bar.

``python tests/checkpoints/fuzz_reading.py CORPUS -max_total_time=3600`` needs the package ``atheris``. The options are
libFuzzer's. The first byte of an input says what the rest is: the pickle of an archive whose checksums are then made to
fit, a whole archive, a whole file in the format before archives, or its pickle between a valid head and valid storages.
A crash is kept by adding its bytes to ``corpus.py``.
"""

import os
import resource
import sys
import tempfile
import warnings
from random import Random

import atheris
import torch

with atheris.instrument_imports(include=['pelk_mm.checkpoints']):
    from pelk_mm.checkpoints import archive, reading, states, tree, unpickler, vocabulary

import corpus

from pelk_mm.utils.errors import CheckpointError

BAR = 64 << 20
_INSTRUMENTED = (archive, states, tree, unpickler, vocabulary)


def read(data: bytes) -> None:
    """Read a file made of an input; anything but content or a CheckpointError ends the fuzzer."""
    content = corpus.file_of(data)
    with tempfile.TemporaryFile(dir='/dev/shm') as file:
        file.write(content)
        file.seek(0)
        try:
            found = reading.unpickle(file)
        except CheckpointError as error:
            # PyTorch's allocator reports the address space that is used up as one error among others.
            if "can't allocate" in str(error) or 'MemoryError' in repr(error.__cause__):
                raise MemoryError(str(error)) from error
            return
    # Memory that was never written to is no part of the file.
    if b'big' not in content:
        for value in found.values() if isinstance(found, dict) else ():
            if isinstance(value, torch.Tensor):
                assert bytes(value.detach().untyped_storage()) in content


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change single bytes, or in every second pickle whole opcodes, so that what follows is still read."""
    random = Random(seed)
    if data[:1] not in (bytes([corpus.PICKLE]), bytes([corpus.LEGACY_PICKLE])) or random.random() < 0.5:
        return atheris.Mutate(data, max_size)
    parts = corpus.opcodes(data[1:])
    for _ in range(random.randint(1, 4)):
        at, other = random.randrange(len(parts) + 1), random.randrange(len(parts) + 1)
        length = random.choice((1, 1, 1, 2, 5, 20))
        change = random.randrange(4)
        if change == 0:
            del parts[at : at + length]
        elif change == 1:
            parts[at:at] = parts[other : other + length]
        elif change == 2:
            parts[at : at + 1] = parts[other : other + 1]
        else:
            parts[at:at] = [random.choice(corpus.OPCODES)]
    return (data[:1] + b''.join(parts))[:max_size]


def limit_memory() -> None:
    """Let the process grow by little more than the bar; what the fuzzer itself gathers has to fit too."""
    with open('/proc/self/statm') as file:
        size = int(file.read().split()[0]) * os.sysconf('SC_PAGE_SIZE')
    resource.setrlimit(resource.RLIMIT_AS, (size + 4 * BAR, resource.RLIM_INFINITY))


if __name__ == '__main__':
    warnings.simplefilter('ignore')
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    for name, seed in corpus.seeds().items():
        with open(os.path.join(folder, name), 'wb') as file:
            file.write(seed)
        read(seed)
    limit_memory()
    atheris.Setup(sys.argv, read, custom_mutator=mutate)
    atheris.Fuzz()
