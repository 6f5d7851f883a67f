"""Errors a user can act on. The command-line tools print them as one line; a library caller catches them by class."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .resources import explain_resources

# Under these names an exception carries what was being done.
_WORK, _FOLDER = '_pelk_mm_work', '_pelk_mm_folder'

# What mmengine's registries and the constructors behind them raise for a wrong config.
_BUILD_ERRORS = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    ImportError,
    AssertionError,
    OSError,
    RuntimeError,  # and with it NotImplementedError
)


class UserError(Exception):
    """Something the caller can put right; the message says what and how.

    Attributes:
        exit_status: What a command-line tool that stops on this error returns.
    """

    exit_status = 2


class ConfigError(UserError):
    """The config, or a flag in its light, cannot be used."""


class DataError(UserError):
    """A data set is missing, empty or does not fit the model."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, unsafe or belongs to another model."""


class LaunchError(UserError):
    """Processes, devices or ports asked for are not to be had."""


class OutputError(UserError):
    """The place for the results is taken or cannot be written."""


class SaveError(UserError):
    """Writing failed while running, a full disk above all."""

    exit_status = 1


class InterruptedTrainingError(UserError):
    """A signal such as that of Ctrl-C, after everything that must stay whole has been left whole."""

    exit_status = 130


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Turn the errors of a constructor into a ``ConfigError`` that says what could not be built.

    Raises:
        ConfigError: The cause is kept; ``PELK_MM_LOG=debug`` makes the tools show its traceback.
    """
    try:
        yield
    except UserError:
        raise
    except _BUILD_ERRORS as error:
        if explain_resources(error) is not None:  # nothing is wrong with what was to be built
            raise
        text = error.args[0] if isinstance(error, KeyError) and error.args else str(error)
        reason = str(text).strip().split('\n')[0]
        raise ConfigError(
            f'cannot build {what}: {type(error).__name__}: {reason or "no reason given"} '
            '(PELK_MM_LOG=debug shows the traceback)'
        ) from error


@contextmanager
def doing(what: str, folder: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Note on an exception that leaves the block what was being done, for the line a tool ends with.

    Args:
        what: Such as 'training with a.py'. The innermost block has the say.
        folder: Where a traceback may be written.
    """
    try:
        yield
    except Exception as error:
        notes = vars(error)
        notes.setdefault(_WORK, what)
        if folder is not None:
            notes.setdefault(_FOLDER, folder)
        raise


def work_of(error: BaseException) -> str:
    """What was being done when an exception was raised: what :func:`doing` noted, else the command."""
    return vars(error).get(_WORK) or ' '.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])[:200]


def folder_of(error: BaseException) -> str | os.PathLike[str] | None:
    """The folder that :func:`doing` noted on an exception, or None."""
    return vars(error).get(_FOLDER)


def first_names(names: Sequence[str], count: int = 3) -> str:
    """Join the first few names for a message, and count the rest."""
    return ', '.join(names[:count]) + (f' and {len(names) - count} more' if len(names) > count else '')
