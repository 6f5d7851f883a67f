"""Time the peripheral convolution, whole backbones or the masks of sparse training.

Where numbers can be wrong they are checked first; then medians and spread.

python tools/analysis_tools/benchmark.py op --kernel-size 51 --central-size 5
python tools/analysis_tools/benchmark.py model --arch tiny --size 224 --batch 4
python tools/analysis_tools/benchmark.py sparsity --arch tiny --size 224 --batch 8
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from pelk_mm.analysis.benchmark import GateError, Timing, benchmark_model, benchmark_op, describe_machine
from pelk_mm.engine.sparsity_benchmark import benchmark_sparsity

DTYPES = {'fp32': torch.float32, 'fp64': torch.float64, 'fp16': torch.float16, 'bf16': torch.bfloat16}


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest='what', required=True)
    op = what.add_parser('op', help='one peripheral convolution on every back-end')
    op.add_argument('--kernel-size', type=int, default=51)
    op.add_argument('--central-size', type=int, default=5)
    op.add_argument('--channels', type=int, default=36)
    op.add_argument('--size', type=int, nargs=2, default=(56, 56), metavar=('H', 'W'))
    op.add_argument('--batch', type=int, default=8)
    op.add_argument('--dtype', choices=DTYPES, default='fp32')
    op.add_argument('--backward', action='store_true', help='forward and all gradients')
    model = what.add_parser('model', help='deployed backbones, evaluation mode')
    model.add_argument('--arch', default='tiny')
    model.add_argument('--size', type=int, default=224)
    model.add_argument('--batch', type=int, default=4)
    sparsity = what.add_parser('sparsity', help='the masks of dynamic sparsity beside a training iteration')
    sparsity.add_argument('--arch', default='tiny')
    sparsity.add_argument('--size', type=int, default=224)
    sparsity.add_argument('--batch', type=int, default=8)
    sparsity.add_argument('--sparsity', type=float, default=0.4)
    for command in (op, model, sparsity):
        command.add_argument('--device', default='cpu')
        command.add_argument('--repeats', type=int, default=9)
        command.add_argument('--json', type=Path, metavar='FILE', help='write the figures here too')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0 when the figures stand, 1 when the gate stopped them, 2 for bad arguments."""
    args = vars(parse_args(argv))
    what, json_file = args.pop('what'), args.pop('json')
    options = {name: str(value) for name, value in args.items()}
    skipped: dict[str, str] = {}
    try:
        args['device'] = torch.device(args['device'])
        if args['device'].type == 'cuda' and not torch.cuda.is_available():
            raise ValueError("device is 'cuda', but torch sees no CUDA GPU here; use --device cpu")
        if what == 'op':
            args['dtype'], args['size'] = DTYPES[args['dtype']], tuple(args['size'])
            timings, baseline = benchmark_op(**args), 'stock'
        elif what == 'sparsity':
            timings, baseline = benchmark_sparsity(**args), 'iteration'
        else:
            (timings, skipped), baseline = benchmark_model(**args), 'pelk'
    except GateError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except (ValueError, RuntimeError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    machine = describe_machine(args['device'])
    print(' | '.join(f'{key} {value}' for key, value in machine.items()))
    print(f'{what}: ' + ', '.join(f'{key}={value}' for key, value in options.items()))
    print_table(timings, baseline)
    for name, reason in skipped.items():
        print(f'{name} skipped: {reason}')
    if json_file is not None:
        report = {'what': what, 'machine': machine, 'options': options, 'skipped': skipped}
        report['timings'] = {timing.name: timing.as_dict() for timing in timings}
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(report, indent=2) + '\n')
    return 0


def print_table(timings: Sequence[Timing], baseline: str) -> None:
    """One row a variant; the last column is the baseline's median over the variant's."""
    base = next(timing.median for timing in timings if timing.name == baseline)
    print(f'{"variant":<12}{"median ms":>12}{"min":>10}{"max":>10}{"error":>10}{baseline + " / it":>16}')
    for t in timings:
        error = '' if t.error is None else f'{t.error:.1e}'
        row = f'{t.name:<12}{1e3 * t.median:>12.2f}{1e3 * t.minimum:>10.2f}{1e3 * t.maximum:>10.2f}'
        print(f'{row}{error:>10}{base / t.median:>16.2f}')


if __name__ == '__main__':
    sys.exit(main())
