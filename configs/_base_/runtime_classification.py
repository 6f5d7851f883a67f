# Classification with mmpretrain, which counts in epochs.
_base_ = './runtime.py'
default_scope = 'mmpretrain'
visualizer = dict(type='UniversalVisualizer', vis_backends=_base_.vis_backends)
log_processor = dict(by_epoch=True)
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=2, save_best='accuracy/top1'),
    visualization=dict(type='VisualizationHook', enable=False),
)
