# PeLK-B on ImageNet-1K at 384 px: 30 epochs from the net trained at 224 px. The paper's main text gives no schedule
# for this; ConvNeXt-B's fine-tune is ours to choose, its drop path and the absence of mixup, cutmix and averaging too.
_base_ = [
    './_base_/models/pelk.py',
    './_base_/datasets/imagenet_384.py',
    './_base_/schedules/imagenet_finetune_30e.py',
    './_base_/runtime_classification.py',
]
# File or URL of the classifier that pelk_b_imagenet.py trains; its zeros stay zero. 'none' trains from scratch.
pretrained = '{{$PELK_MM_PRETRAINED:none}}'
model = dict(backbone=dict(arch='base', drop_path_rate=0.8), head=dict(in_channels=1331))
if pretrained != 'none':
    model['init_cfg'] = dict(type='Pretrained', checkpoint=pretrained)
custom_hooks = [dict(type='pelk_mm.DynamicSparsityHook', mode='fixed')]
