"""What to do where the machine has run out of something: the errors of the system and of PyTorch name no remedy."""

import re
from collections.abc import Iterator

_SHARED_MEMORY = (
    '/dev/shm, through which data workers hand on their samples, is too small: enlarge it '
    '(docker run --shm-size=8g), lower num_workers, or set num_workers=0'
)
# An error that a data worker met reaches the main process as text only, so text is what is looked at.
_REMEDIES = (
    (
        r'Too many open files|received \d+ items of ancdata',
        'too many open files: raise the limit (ulimit -n 65536), or lower num_workers',
    ),
    (r'/torch_\d+_|shared memory|killed by signal: Bus error', _SHARED_MEMORY),
    (
        r'worker.*(?:killed by signal: Killed|exited unexpectedly)',
        'a data worker was killed, most often for want of memory: lower num_workers or the batch size',
    ),
    (
        r'CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED',
        'the memory of the GPU does not suffice: lower the batch size or the crop size, or train with --amp',
    ),
    (
        r"can't allocate memory|not enough memory|Cannot allocate memory|Unable to allocate|MemoryError|"
        r'Storage size calculation overflowed',
        'the memory does not suffice: lower the sizes of the model or the input, the batch size or num_workers',
    ),
)
_BYTES = re.compile(r'(?:allocate|buy) (?P<size>[\d.]+) ?(?P<unit>bytes|GB|[KMGTPE]iB)')


def explain_resources(error: BaseException) -> str | None:
    """Tell which resource an error is about, how much was asked for where that is known, and what to do.

    Args:
        error: What was raised; the errors that caused it are looked at as well.

    Returns:
        Words for a message, or None: the error is about something else.
    """
    for text in _texts(error):
        for pattern, remedy in _REMEDIES:
            if re.search(pattern, text):
                return f'{remedy}{_asked_for(text)}'
    return None


def _texts(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield f'{type(error).__name__}: {error}'
        error = error.__cause__ or error.__context__


def _asked_for(text: str) -> str:
    found = _BYTES.search(text)
    if found is None:
        return ''
    size = f'{int(found["size"]) / 2**30:.3g} GiB' if found['unit'] == 'bytes' else f'{found["size"]} {found["unit"]}'
    return f' (it asked for {size} at once)'
