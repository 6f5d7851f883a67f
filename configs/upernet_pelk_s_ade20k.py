# UperNet with PeLK-S on ADE20K, 512x512, 160k iterations: the paper's recipe without its dynamic sparsity.
_base_ = [
    './_base_/models/upernet_pelk.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/schedule_160k.py',
    './_base_/default_runtime.py',
]
# File or URL of an ImageNet-1K classifier with this backbone. None trains from scratch, far below the mIoU of
# the paper. To set it without touching this file: --cfg-options model.backbone.init_cfg.type=Pretrained
# model.backbone.init_cfg.checkpoint=FILE model.backbone.init_cfg.prefix=backbone.
pretrained = None
crop_size = (512, 512)
channels = [124, 249, 499, 998]
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(arch='small', drop_path_rate=0.3),
    decode_head=dict(in_channels=channels, num_classes=150),
    auxiliary_head=dict(in_channels=channels[2], num_classes=150),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)),
)
if pretrained is not None:
    model['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.')
