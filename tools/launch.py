"""Start train.py or test.py in several processes, one GPU each. dist_train.sh and dist_test.sh are its short forms."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
sys.path.insert(0, str(TOOLS.parent))
import early_signals  # noqa: F401

from pelk_mm.engine.config import load_config
from pelk_mm.engine.launch import start_processes
from pelk_mm.utils.cli import run_tool


def main(argv: Sequence[str]) -> int:
    """Check what can be checked once for all processes, then start them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--gpus', type=int, required=True, help='processes on this machine')
    parser.add_argument('--nnodes', type=int, default=1, help='machines in all (default: 1)')
    parser.add_argument('--node-rank', type=int, default=0, help='which machine this is, from 0 (default: 0)')
    parser.add_argument('--master-addr', default='127.0.0.1', help='address of machine 0 (default: this machine)')
    parser.add_argument('--port', type=int, default=29500, help='where the processes meet (default: 29500)')
    parser.add_argument('tool', choices=['train.py', 'test.py'])
    parser.add_argument('config', help='config file')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, help='further arguments of the tool')
    args = vars(parser.parse_args(argv))
    tool, config, arguments = args.pop('tool'), args.pop('config'), args.pop('arguments')
    load_config(config)
    return start_processes(str(TOOLS / tool), [config, *arguments, '--launcher', 'pytorch'], **args)


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))
