"""The authors' published weights by name. None of them is ours, and no checksum of them is published.

Addresses and names of files are those of the authors' READMEs and code (``docs/guide/weights.md`` names the
repositories). The licence is that of the code; none of the authors states another one for the weights.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from ..utils.errors import ConfigError


@dataclass(frozen=True)
class Published:
    """Weights that somebody publishes.

    Attributes:
        family: Their layout, a name in ``pelk_mm.converters.families.FAMILIES``.
        source: What :func:`pelk_mm.hub.fetch.fetch` takes; '' where the file is to be downloaded by hand.
        page: Where the authors link it.
        licence: Of the code.
    """

    family: str
    source: str
    page: str
    licence: str


def _convnext() -> dict[str, Published]:
    page, place = 'https://github.com/facebookresearch/ConvNeXt', 'https://dl.fbaipublicfiles.com/convnext'
    files = {f'convnext_{arch}.in1k': f'convnext_{arch}_1k_224_ema.pth' for arch in ('tiny', 'small', 'base', 'large')}
    for arch in ('tiny', 'small', 'base', 'large', 'xlarge'):
        files[f'convnext_{arch}.in22k'] = f'convnext_{arch}_22k_224.pth'
        files[f'convnext_{arch}.in22k_in1k'] = f'convnext_{arch}_22k_1k_224{"_ema" if arch == "xlarge" else ""}.pth'
    return {name: Published('convnext', f'{place}/{file}', page, 'MIT') for name, file in files.items()}


def _inceptionnext() -> dict[str, Published]:
    page = 'https://github.com/sail-sg/inceptionnext'
    files = {f'{arch}.in1k': arch for arch in ('atto', 'tiny', 'small', 'base')} | {'base.in1k_384': 'base_384'}
    return {
        f'inceptionnext_{name}': Published(
            'inceptionnext', f'{page}/releases/download/model/inceptionnext_{file}.pth', page, 'Apache-2.0'
        )
        for name, file in files.items()
    }


def _unireplknet() -> dict[str, Published]:
    page = 'https://github.com/AILab-CVC/UniRepLKNet'
    files = {
        'atto.in1k': 'a_in1k_224_acc77.03',
        'femto.in1k': 'f_in1k_224_acc78.58',
        'pico.in1k': 'p_in1k_224_acc80.23',
        'nano.in1k': 'n_in1k_224_acc81.64',
        'tiny.in1k': 't_in1k_224_acc83.21',
        'small.in1k': 's_in1k_224_acc83.91',
        'small.in22k': 's_in22k_pretrain',
        'small.in22k_in1k_384': 's_in22k_to_in1k_384_acc86.44',
        'base.in22k': 'b_in22k_pretrain',
        'base.in22k_in1k_384': 'b_in22k_to_in1k_384_acc87.40',
        'large.in22k': 'l_in22k_pretrain',
        'large.in22k_in1k_384': 'l_in22k_to_in1k_384_acc87.88',
        'xlarge.in22k': 'xl_in22k_pretrain',
        'xlarge.in22k_in1k_384': 'xl_in22k_to_in1k_384_acc87.96',
    }
    return {
        f'unireplknet_{name}': Published(
            'unireplknet', f'hf://DingXiaoH/UniRepLKNet/unireplknet_{file}.pth', page, 'Apache-2.0'
        )
        for name, file in files.items()
    }


def _wbmm() -> dict[str, Published]:
    files = {f'{arch}.in1k': f'wbmm_{arch[0]}_in1k_224_w7' for arch in ('pico', 'nano', 'tiny', 'small')}
    files |= {f'{arch}_dense.in1k': f'wbmm_{arch[0]}_in1k_224_dense_w7' for arch in ('tiny', 'small')}
    files |= {f'{arch}.ade20k': f'upernet_wbmm_{arch[0]}_ade20k_w7' for arch in ('tiny', 'small')}
    files |= {f'{arch}.coco': f'casc_mask_rcnn_wbmm_{arch[0]}_coco_w7' for arch in ('tiny', 'small')}
    return {
        f'wbmm_{name}': Published(
            'wbmm', f'hf://wansong-s/WBMM/{file}.pth', 'https://github.com/wansong-s/WBMM', 'Apache-2.0'
        )
        for name, file in files.items()
    }


def _overlock() -> dict[str, Published]:
    page = 'https://github.com/LMMMEng/OverLoCK'
    shorts = {'xtiny': 'xt', 'tiny': 't', 'small': 's', 'base': 'b'}
    files = {f'{arch}.in1k': f'overlock_{short}_in1k_224' for arch, short in shorts.items()}
    for arch in ('tiny', 'small', 'base'):
        files[f'{arch}.ade20k'] = f'upernet_overlock_{arch}_ade20k'
        files |= {f'{arch}.coco_{schedule}': f'maskrcnn{schedule}_overlock_{arch}_coco' for schedule in ('1x', '3x')}
    return {
        f'overlock_{name}': Published('overlock', f'{page}/releases/download/v1/{file}.pth', page, 'Apache-2.0')
        for name, file in files.items()
    }


def _uniconvnet() -> dict[str, Published]:
    averaged = {f'{arch}{i}': f'{arch[0]}{i}' for arch, count in (('pico', 3), ('nano', 4)) for i in range(count)}
    averaged |= {arch: arch[0] for arch in ('tiny', 'small', 'base')}
    files = {f'{arch}.in1k': f'uniconvnet_{short}_1k_224_ema' for arch, short in averaged.items()}
    files |= {'atto.in1k': 'uniconvnet_a_1k_224', 'nano1.in1k': 'uniconvnet_n1_1k_224'}
    files |= {f'{arch}.in1k_384': f'uniconvnet_{arch[0]}_1k_384' for arch in ('tiny', 'small', 'base')}
    for arch, short in (('large', 'l'), ('xlarge', 'xl')):
        files[f'{arch}.in22k'] = f'uniconvnet_{short}_22k_224'
        files[f'{arch}.in22k_in1k_384'] = f'uniconvnet_{short}_22k_1k_384'
    return {
        f'uniconvnet_{name}': Published(
            'uniconvnet',
            f'hf://ai-modelwithcode/UniConvNet/{file}.pth',
            'https://github.com/ai-paperwithcode/UniConvNet',
            'MIT',
        )
        for name, file in files.items()
    }


def _by_hand() -> dict[str, Published]:
    """Linked to drives whose files have no address of their own."""
    slak, replknet = 'https://github.com/VITA-Group/SLaK', 'https://github.com/DingXiaoH/RepLKNet-pytorch'
    found = {f'slak_{arch}.in1k': Published('slak', '', slak, 'MIT') for arch in ('tiny', 'small', 'base')}
    found |= {f'replknet_{name}': Published('replknet', '', replknet, 'MIT') for name in ('31b.in1k', '31l.in22k_in1k')}
    found |= {
        f'wtconvnext_{arch}.in1k': Published('wtconvnext', '', 'https://github.com/BGU-CS-VIL/WTConv', 'MIT')
        for arch in ('tiny', 'small', 'base')
    }
    found['shiftwise_tiny.in1k'] = Published('shiftwise', '', 'https://github.com/lidc54/shift-wiseConv', 'MIT')
    return found


PUBLISHED = _convnext() | _inceptionnext() | _unireplknet() | _wbmm() | _overlock() | _uniconvnet() | _by_hand()


def find_published(name: str) -> Published | None:
    """What is published under a name, None if nothing is.

    Raises:
        ConfigError: It has to be downloaded by hand; the message says from where.
    """
    found = PUBLISHED.get(name)
    if found is not None and not found.source:
        raise ConfigError(
            f'the weights {name} have no address of their own: download them from {found.page}, and convert the file '
            f'with tools/model_converters/convert_weights.py {found.family} FILE OUT'
        )
    return found


def near_names(name: str) -> str:
    """Published names like ``name``, for messages."""
    return ', '.join(difflib.get_close_matches(name, PUBLISHED, 5, 0.4)) or 'convert_weights.py --list has them all'
