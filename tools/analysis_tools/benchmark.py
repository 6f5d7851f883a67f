"""Time the peripheral convolution, rivals' operators, whole backbones, a training step or the masks of sparse training.

Where numbers can be wrong they are checked first; then medians and spread. `report` writes docs/benchmarks/.
`predict` says, without a GPU, what the Triton kernels and a PeLK-T should take on an H100, from their machine code.

python tools/analysis_tools/benchmark.py op --kernel-size 51 --central-size 5
python tools/analysis_tools/benchmark.py operators --backward
python tools/analysis_tools/benchmark.py model --arch tiny --size 224 --batch 4
python tools/analysis_tools/benchmark.py train --arch tiny --size 224 --batch 2
python tools/analysis_tools/benchmark.py sparsity --arch tiny --size 224 --batch 8
python tools/analysis_tools/benchmark.py report --device cpu
python tools/analysis_tools/benchmark.py predict --json predicted.json
"""

from __future__ import annotations

import argparse
import shlex
import sys
from importlib.util import find_spec
from json import dumps
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]
import early_signals  # noqa: F401
import torch

from pelk_mm.benchmarks.harness import GateError, Measured
from pelk_mm.benchmarks.machine import check_device, describe_machine
from pelk_mm.benchmarks.nets.evaluation import benchmark_model
from pelk_mm.benchmarks.nets.operators import benchmark_operators
from pelk_mm.benchmarks.nets.rivals import NETS
from pelk_mm.benchmarks.nets.sparsity import benchmark_sparsity
from pelk_mm.benchmarks.nets.train_step import benchmark_train
from pelk_mm.benchmarks.op.measure import benchmark_op
from pelk_mm.benchmarks.op.table import op_table
from pelk_mm.benchmarks.op.variants import op_variants
from pelk_mm.benchmarks.tables import describe, net_table, operator_table, plain_table
from pelk_mm.utils.cli import run_tool
from pelk_mm.utils.errors import ConfigError
from pelk_mm.utils.files import claim_file, claim_folder, write_files

DTYPES = {'fp32': torch.float32, 'fp64': torch.float64, 'fp16': torch.float16, 'bf16': torch.bfloat16}


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest='what', required=True)
    op = what.add_parser('op', help='one peripheral convolution on every back-end, beside its rivals')
    op.add_argument('--kernel-size', type=int, default=51)
    op.add_argument('--central-size', type=int, default=5)
    op.add_argument('--channels', type=int, default=36)
    op.add_argument('--size', type=int, nargs=2, default=(56, 56), metavar=('H', 'W'))
    op.add_argument('--batch', type=int, default=8)
    op.add_argument('--dtype', choices=DTYPES, default='fp32')
    op.add_argument('--backward', action='store_true', help='forward and the gradients of image and weight')
    op.add_argument('--hot', action='store_true', help='read one image again and again: it may stay in cache')
    op.add_argument('--variants', nargs='+', metavar='NAME', help=f'some of {", ".join(op_variants())}')
    operators = what.add_parser('operators', help="WTConv's and OverLoCK's operators beside their authors' torch forms")
    operators.add_argument('--batch', type=int, default=4)
    operators.add_argument('--backward', action='store_true', help='forward and all gradients')
    model = what.add_parser('model', help='deployed backbones, evaluation mode')
    train = what.add_parser('train', help='one training step of a classifier')
    for command, batch in ((model, 4), (train, 2)):
        command.add_argument('--arch', default='tiny')
        command.add_argument('--channels', type=int, nargs=4, metavar='C', help="of the stages, instead of the arch's")
        command.add_argument('--size', type=int, default=224)
        command.add_argument('--batch', type=int, default=batch)
        command.add_argument('--dtype', choices=('fp32', 'bf16', 'fp16'), default='fp32', help='by autocast')
        command.add_argument('--compile', action='store_true', help='every net through torch.compile')
        command.add_argument('--channels-last', action='store_true', help='images and weights in this layout')
        command.add_argument('--nets', nargs='+', metavar='NAME', help=f'some of {", ".join(NETS)}')
    sparsity = what.add_parser('sparsity', help='the masks of dynamic sparsity beside a training iteration')
    sparsity.add_argument('--arch', default='tiny')
    sparsity.add_argument('--size', type=int, default=224)
    sparsity.add_argument('--batch', type=int, default=8)
    sparsity.add_argument('--sparsity', type=float, default=0.4)
    report = what.add_parser('report', help='write the tables and curves of docs/benchmarks/index.md for one device')
    report.add_argument('--out', type=Path, default=Path('docs/benchmarks'), help='folder; its files are replaced')
    report.add_argument('--quick', action='store_true', help='few points and samples')
    report.add_argument('--parts', nargs='+', metavar='PART', default=['op', 'sweeps', 'nets'])
    report.add_argument('--dtype', choices=DTYPES, help='default: fp32 on a CPU, bf16 on CUDA')
    predict = what.add_parser('predict', help='what an H100 should take, from the machine code of the kernels')
    predict.add_argument('--json', type=Path, metavar='FILE', help='write the figures here')
    predict.add_argument('--out', type=Path, metavar='FOLDER', help='put predicted.md here, docs/benchmarks for one')
    predict.add_argument('--device', help='cuda: measure the convolutions there too')
    for command in (op, model, train):
        command.add_argument('--tf32', action='store_true', help='let CUDA round float32 to TF32')
        command.add_argument('--limit', type=float, metavar='SECONDS', help='a call above this is not timed')
    for command in (op, operators, model, train, sparsity):
        command.add_argument('--repeats', type=int, default=9)
        command.add_argument('--json', type=Path, metavar='FILE', help='write the figures here too')
    for command in (op, operators, model, train, sparsity, predict):
        command.add_argument('--overwrite', action='store_true', help='replace the file of --json if it exists')
    for command in (op, operators, model, train, sparsity, report):
        command.add_argument('--device', default='cpu', help='cpu or cuda')
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Run; 0 when the figures stand, 1 when the gate stopped them."""
    args = vars(parse_args(argv))
    what = args.pop('what')
    if args.get('json') is not None:
        claim_file(args['json'], args['overwrite'])
    args.pop('overwrite', None)
    try:
        if what == 'predict':
            predict(**args, command=shlex.join(['python', 'tools/analysis_tools/benchmark.py', *argv]))
            return 0
        args['device'] = check_device(args['device'])
        if what == 'report':
            write_report(command=shlex.join(['python', 'tools/analysis_tools/benchmark.py', *argv]), **args)
        else:
            run(what, args.pop('json'), args)
    except GateError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except (ValueError, RuntimeError) as error:
        raise ConfigError(str(error)) from error
    return 0


def run(what: str, json_file: Path | None, args: dict[str, Any]) -> None:
    """Time, print, and keep the figures in ``json_file``."""
    options = {name: _text(value) for name, value in args.items() if value is not None}
    if 'dtype' in args:
        args['dtype'] = DTYPES[args['dtype']]
    if what == 'op':
        result = benchmark_op(**args | {'size': tuple(args['size'])})
        table = op_table(result)
    elif what == 'operators':
        result = benchmark_operators(**args)
        table = operator_table(result)
    elif what == 'sparsity':
        result = Measured(benchmark_sparsity(**args))
        table = plain_table(result, 'iteration')
    else:
        result = (benchmark_model if what == 'model' else benchmark_train)(**args)
        table = net_table(result, args['batch'])
    machine = describe_machine(args['device'])
    print(f'{describe(machine)}\n{what}: {describe(options)}\n\n{table}')
    if json_file is not None:
        report = {'what': what, 'machine': machine, 'options': options, 'skipped': result.skipped}
        report['timings'] = {timing.name: timing.as_dict() for timing in result.timings}
        write_files({json_file: dumps(report, indent=2) + '\n'})


def predict(*, json: Path | None, out: Path | None, device: str | None, command: str) -> None:
    """Print the predictions, beside measurements where a GPU is named, and keep them."""
    if find_spec('triton') is None:
        raise ConfigError('predict compiles kernels with Triton, which is not installed: pip install triton')
    from pelk_mm.benchmarks.predict import report

    if out is not None:
        claim_folder(out, overwrite=True)  # the page is this tool's own
    machine = describe_machine(check_device(device or 'cpu'))
    found = report.predictions()
    measured = {} if device is None else report.measure(check_device(device))
    page = report.page(found, measured, command, describe(machine))
    print(page)
    files: dict[Path, str | bytes] = {}
    if json is not None:
        files[json] = dumps(report.as_json(found, measured, machine), indent=2) + '\n'
    if out is not None:
        files[out / 'predicted.md'] = page
    write_files(files)


def write_report(
    *, out: Path, quick: bool, parts: list[str], dtype: str | None, device: torch.device, command: str
) -> None:
    """Write the files of ``parts`` to the folder ``out``, each part when it is measured."""
    from pelk_mm.benchmarks.report import PARTS, default_plan  # matplotlib

    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f'--parts must be some of {", ".join(PARTS)}, but got {", ".join(unknown)}')
    claim_folder(out, overwrite=True)  # its pages and tables are this tool's own
    changes = {} if dtype is None else {'dtype': DTYPES[dtype]}
    if dtype == 'fp64' and 'nets' in parts:
        raise ValueError('--dtype fp64 is for convolutions: nets run in fp32, bf16 or fp16; add --parts op sweeps')
    plan = default_plan(device, quick, command=command, progress=lambda line: print(line, flush=True), **changes)
    for part in dict.fromkeys(parts):
        files = PARTS[part](plan)
        write_files({out / name: content for name, content in files.items()})
        print(f'written: {", ".join(str(out / name) for name in files)}', flush=True)


def _text(value: Any) -> str:
    return ' '.join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


if __name__ == '__main__':
    sys.exit(run_tool(lambda: main(sys.argv[1:])))
