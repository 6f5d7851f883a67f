# UperNet with OverLoCK-T on ADE20K, 512x512, 160k iterations: the authors' recipe, tested on whole images, but without
# their resize of test images, bicubic and to multiples of 32. In float32 like theirs, which gives NaN in mixed
# precision; here the logits of the kernels and the response norms are float32 there too.
# Give it what overlock_t_imagenet.py trains as PELK_MM_PRETRAINED.
_base_ = [
    './_base_/models/upernet_pretrained.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/schedule_160k.py',
    './_base_/runtime_segmentation.py',
]
crop_size = (512, 512)
channels = [64, 128, 384, 640]
model = dict(
    data_preprocessor=dict(size=crop_size),
    # Without layer scale: its residuals have scales instead, which start from 1.
    backbone=dict(
        {key: value for key, value in _base_.model.backbone.items() if key != 'layer_scale_init_value'},
        _delete_=True,
        type='pelk_mm.OverLoCK',
        arch='tiny',
        drop_path_rate=0.2,
        branch_norm_cfg=dict(type='SyncBN'),
        output_norm_cfg=dict(type='LN2d', eps=1e-6),
        # As the authors train for dense tasks, though not on ImageNet.
        normed_trunk=True,
    ),
    decode_head=dict(in_channels=channels),
    auxiliary_head=dict(in_channels=channels[2]),
)
# Everything decays, biases too, but the norms that are called so in the authors' code: those of the outputs and the
# two LayerNorms of each block of the second look.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    constructor='pelk_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        # No layer decay.
        decay_rate=1.0,
        norm_decay_mult=1.0,
        bias_decay_mult=1.0,
        flat_decay_mult=1.0,
        custom_keys={name: dict(decay_mult=0.0) for name in ('backbone.norm', '.norm1.', '.norm2.')},
    ),
)
