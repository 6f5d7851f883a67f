"""Kill the training of a config at random moments, resume it, and compare its end with that of a run never killed."""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOOLS.parent), str(TOOLS)]
import early_signals  # noqa: F401

from pelk_mm.analysis.resume.kill_and_compare import kill_and_compare, kill_tree
from pelk_mm.engine.config import load_config
from pelk_mm.utils.cli import run_tool
from pelk_mm.utils.errors import ConfigError

# Every iteration must show in the log, since that is what tells when to kill.
LOGGING = ['default_hooks.logger.type=LoggerHook', 'default_hooks.logger.interval=1']


class Training(subprocess.Popen):
    """``train.py`` or ``launch.py``, killed together with everything it has started."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        with open(log, 'a') as file:
            super().__init__(command, stdout=file, stderr=subprocess.STDOUT)

    def kill(self) -> None:
        """Send SIGKILL to the whole tree of processes."""
        kill_tree(self.pid)


def main(argv: Sequence[str]) -> int:
    """Print a verdict for each kill; return 1 if one of them is that something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--kills', type=int, default=20, help='how many runs to kill (default: 20)')
    parser.add_argument(
        '--work-dir', default='work_dirs/check_resume', help='new folder for the runs (default: %(default)s)'
    )
    parser.add_argument('--gpus', type=int, help='processes, as for dist_train.sh (default: train.py by itself)')
    parser.add_argument(
        '--signals',
        nargs='+',
        default=['SIGKILL'],
        metavar='NAME',
        help='what ends them, in turn, such as SIGKILL SIGTERM SIGINT (default: SIGKILL)',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the moments (default: 0)')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='as for train.py')
    args = parser.parse_args(argv)
    if args.kills < 1:
        raise ConfigError(f'--kills must be at least 1, but got {args.kills}')
    unknown = [name for name in args.signals if name not in signal.Signals.__members__]
    if unknown:
        raise ConfigError(f'--signals takes names such as SIGKILL and SIGTERM, but got {unknown[0]}')
    load_config(args.config)
    folder = Path(args.work_dir)
    log = folder.with_name(f'{folder.name}.log')
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(TOOLS / 'train.py')]
    if args.gpus is not None:
        command = [sys.executable, str(TOOLS / 'launch.py'), '--gpus', str(args.gpus), 'train.py']

    def start(work_dir: Path, resume: bool) -> Training:
        words = [args.config, '--work-dir', str(work_dir), *(['--resume'] if resume else [])]
        return Training([*command, *words, '--cfg-options', *LOGGING, *args.cfg_options], log)

    print(f'The trainings run in {folder}; what they print goes to {log}', flush=True)
    failures = 0
    began = time.monotonic()
    for number, verdict in enumerate(kill_and_compare(start, folder, args.kills, args.seed, args.signals), 1):
        print(f'kill {number:2}: {verdict}', flush=True)
        failures += bool(verdict.differences)
    print(
        f'{args.kills - failures} of {args.kills} killed runs end as the run never killed '
        f'({time.monotonic() - began:.0f} s)'
    )
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))
