"""Old module paths, kept for one release: importing one warns and gives the module that took its place."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PACKAGE = __name__.rpartition('.')[0]

#: By old path, below the package: the new one, or the several between which the names of a module were shared out.
PLACES: Mapping[str, str] = {
    'analysis.baselines': 'analysis.scores.baselines',
    'analysis.benchmark': 'benchmarks.harness',
    'analysis.benchmark_report': 'benchmarks.report',
    'analysis.benchmark_sweeps': 'benchmarks.op.sweeps',
    'analysis.benchmark_tables': 'benchmarks.tables benchmarks.op.table',
    'analysis.charts': 'analysis.figures.charts',
    'analysis.complexity': 'analysis.counting.complexity',
    'analysis.component_chart': 'analysis.figures.component_chart',
    'analysis.flop_formulas': 'analysis.counting.flop_formulas',
    'analysis.image_folder': 'analysis.figures.image_folder',
    'analysis.kernel_pictures': 'analysis.figures.kernel_pictures',
    'analysis.machine': 'benchmarks.machine',
    'analysis.model_benchmark': 'benchmarks.nets.evaluation',
    'analysis.op_benchmark': 'benchmarks.op.measure',
    'analysis.op_case': 'benchmarks.op.case',
    'analysis.op_counter': 'analysis.counting.op_counter',
    'analysis.op_variants': 'benchmarks.op.variants',
    'analysis.paper_convention': 'analysis.counting.paper_convention',
    'analysis.parameter_curve': 'analysis.figures.parameter_curve',
    'analysis.pictures': 'utils.pictures',
    'analysis.public_rivals': 'benchmarks.op.public_rivals',
    'analysis.published_rows': 'analysis.counting.published_figures analysis.counting.published_rows',
    'analysis.receptive_field': 'analysis.figures.receptive_field',
    'analysis.rival_nets': 'benchmarks.nets.rivals',
    'analysis.rotation': 'benchmarks.rotation',
    'analysis.run_table': 'analysis.scores.run_table',
    'analysis.segmentation_report': 'analysis.scores.segmentation_report',
    'analysis.tensor_forward': 'analysis.counting.tensor_forward',
    'analysis.train_benchmark': 'benchmarks.nets.train_step',
    'analysis.untrained': 'analysis.scores.untrained',
    'analysis.weightless': 'analysis.counting.weightless',
    'analysis.zoo': 'benchmarks.zoo.table',
    'analysis.zoo_benchmark': 'benchmarks.zoo.forms',
    'engine.atomic': 'utils.files',
    'engine.backbone': 'apis.load_backbone',
    'engine.build': 'engine.runner.runner',
    'engine.checkpoint': 'checkpoints.reading checkpoints.loading',
    'engine.checkpoint_diff': 'analysis.resume.checkpoint_diff',
    'engine.checkpoint_hook': 'engine.runner.checkpoint_hook',
    'engine.class_numbering': 'preflight.classes',
    'engine.cli': 'utils.cli',
    'engine.coco_check': 'preflight.coco preflight.files',
    'engine.convert_weights': 'converters.convert_weights',
    'engine.convnext_to_pelk': 'converters.convnext_to_pelk',
    'engine.count_config': 'analysis.counting.count_config',
    'engine.data_check': 'preflight.loaders',
    'engine.deploy': 'checkpoints.deploy',
    'engine.errors': 'utils.errors',
    'engine.evaluation': 'apis.test',
    'engine.evaluation_flags': 'apis.test_flags',
    'engine.figure_files': 'utils.files',
    'engine.image_check': 'preflight.images preflight.walk',
    'engine.inference': 'apis.load_model',
    'engine.label_check': 'preflight.labels preflight.walk',
    'engine.model_index': 'hub.model_index',
    'engine.predict': 'apis.predict',
    'engine.prediction_files': 'apis.prediction_files',
    'engine.preflight': 'preflight.files preflight.walk',
    'engine.pretrained_check': 'preflight.pretrained',
    'engine.published_rows': 'analysis.counting.published_rows utils.files',
    'engine.random_state': 'engine.runner.random_state',
    'engine.remove_masks': 'converters.remove_masks',
    'engine.reparameterize': 'converters.reparameterize',
    'engine.repeatable_data': 'engine.runner.repeatable_data',
    'engine.resume_check': 'analysis.resume.kill_and_compare',
    'engine.run_settings': 'engine.runner.run_settings',
    'engine.run_state': 'engine.runner.run_state',
    'engine.sparsity': 'sparsity.rules',
    'engine.sparsity_benchmark': 'benchmarks.nets.sparsity',
    'engine.sparsity_hook': 'sparsity.hook',
    'engine.sparsity_masked': 'sparsity.masked',
    'engine.sparsity_snip': 'sparsity.snip',
    'engine.sparsity_state': 'sparsity.state',
    'engine.sparsity_units': 'sparsity.units',
    'engine.sparsity_weights': 'sparsity.weights',
    'engine.train_loops': 'engine.runner.loops',
    'engine.training': 'apis.train',
    'engine.unbuilt_data': 'preflight.unbuilt',
    'engine.vis_backends': 'preflight.visualizers',
    'engine.weight_families': 'converters.families',
    'engine.weight_rules': 'converters.rules',
    'engine.zoo': 'benchmarks.zoo.measure',
    'layers.dense': 'layers.mixers.dense',
    'layers.depthwise': 'layers.mixers.depthwise',
    'layers.dilated': 'layers.mixers.dilated',
    'layers.inception': 'layers.mixers.inception',
    'layers.mixer': 'layers.mixers.base',
    'layers.mixer_table': 'layers.mixers.table',
    'layers.partial': 'layers.mixers.partial layers.mixers.pos_embed',
    'layers.peripheral': 'layers.mixers.peripheral',
    'layers.shiftwise': 'layers.mixers.shiftwise',
    'layers.shuffles': 'layers.mixers.shuffles',
    'layers.stripe': 'layers.mixers.stripe',
    'ops.checks': 'ops.arguments utils.checks ops.tracing',
    'ops.dense': 'ops.backends.dense ops.tracing',
    'ops.fft': 'ops.backends.fft',
    'ops.library': 'ops.backends.library ops.tracing',
    'ops.ranking': 'ops.backends.ranking',
    'ops.triton_kernels': 'ops.backends.triton_kernels',
    'ops.triton_launch': 'ops.backends.triton_launch',
    'ops.triton_support': 'ops.backends.triton_support',
}


class MovedModules(MetaPathFinder, Loader):
    """Finds modules by their old paths. It stands last, so that it is asked only for what nobody else finds."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of an old path, None for any other name."""
        package, _, name = fullname.partition('.')
        return ModuleSpec(fullname, self) if package == PACKAGE and name in PLACES else None

    def exec_module(self, module: ModuleType) -> None:
        """Warn, and put the module that took the place of ``module`` where importers look for it."""
        places = [f'{PACKAGE}.{place}' for place in PLACES[module.__name__.partition('.')[2]].split()]
        warnings.warn(
            f'{module.__name__} has moved: import from {" or ".join(places)}. The old path goes with the next release.',
            DeprecationWarning,
            stacklevel=2,
        )
        if len(places) == 1:
            sys.modules[module.__name__] = import_module(places[0])
            return
        for place in reversed(places):  # where two have a name, that of the first, which kept most of the old module
            vars(module).update({k: v for k, v in vars(import_module(place)).items() if not k.startswith('__')})


def keep_old_paths() -> None:
    """Let old module paths be imported; a second call changes nothing."""
    if not any(type(finder).__name__ == MovedModules.__name__ for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
