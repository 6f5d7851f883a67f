# Mask R-CNN with OverLoCK-T on COCO, 3x schedule, multi-scale crops: learning rate, weight decay, batch and drop path
# are the authors'; what decays is taken from their segmentation, and the warm-up is ours. In float32 like theirs, which
# gives NaN in mixed precision; here the logits of the kernels and the response norms are float32 there too.
# Give it what overlock_t_imagenet.py trains as PELK_MM_PRETRAINED.
_base_ = [
    './_base_/models/mask_rcnn_pretrained.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/schedule_3x.py',
    './_base_/runtime_detection.py',
]
model = dict(
    # Without layer scale: its residuals have scales instead, which start from 1.
    backbone=dict(
        {key: value for key, value in _base_.model.backbone.items() if key != 'layer_scale_init_value'},
        _delete_=True,
        type='pelk_mm.OverLoCK',
        arch='tiny',
        drop_path_rate=0.2,
        branch_norm_cfg=dict(type='SyncBN'),
        output_norm_cfg=dict(type='LN2d', eps=1e-6),
        # As the authors train for dense tasks, though not on ImageNet; the overview's features in the last output are
        # for detection alone.
        normed_trunk=True,
        context_output=True,
    ),
    neck=dict(in_channels=[64, 128, 384, 640]),
)
# Everything decays, biases too, but the norms of the outputs and the two LayerNorms of each block of the second look.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='pelk_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        # No layer decay.
        decay_rate=1.0,
        norm_decay_mult=1.0,
        bias_decay_mult=1.0,
        flat_decay_mult=1.0,
        custom_keys={
            name: dict(decay_mult=0.0) for name in ('backbone.norm', 'context_output.0.', '.norm1.', '.norm2.')
        },
    ),
)
