"""Errors a user can act on. The command-line tools print them as one line; a library caller catches them by class."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# What mmengine's registries and the constructors behind them raise for a wrong config.
_BUILD_ERRORS = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    ImportError,
    AssertionError,
    OSError,
    NotImplementedError,
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
    """Ctrl-C, after everything that must stay whole has been left whole."""

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
        text = error.args[0] if isinstance(error, KeyError) and error.args else str(error)
        reason = str(text).strip().split('\n')[0]
        raise ConfigError(
            f'cannot build {what}: {type(error).__name__}: {reason or "no reason given"} '
            '(PELK_MM_LOG=debug shows the traceback)'
        ) from error


def first_names(names: Sequence[str], count: int = 3) -> str:
    """Join the first few names for a message, and count the rest."""
    return ', '.join(names[:count]) + (f' and {len(names) - count} more' if len(names) > count else '')
