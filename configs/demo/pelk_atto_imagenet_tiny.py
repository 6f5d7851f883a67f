# PeLK-atto on 20 classes of Tiny ImageNet, from scratch, in one process: with its positional embedding h.
# Its controls, by the same recipe: pelk_atto_no_h, dense_atto and convnext_atto.
_base_ = [
    '../_base_/models/pelk_atto.py',
    '../_base_/datasets/imagenet_tiny.py',
    '../_base_/schedules/schedule_scratch_epochs.py',
    '../_base_/runtime_classification.py',
]
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=5, max_keep_ckpts=1),
)
