# Cascade Mask R-CNN whose backbone starts from an ImageNet classifier of this package.
_base_ = './cascade_mask_rcnn.py'
# File or URL of the classifier that the leaf names; its zeros stay zero where training is sparse. 'none' trains from
# scratch, far below the published figures.
pretrained = '{{$PELK_MM_PRETRAINED:none}}'
if pretrained != 'none':
    model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.')))
