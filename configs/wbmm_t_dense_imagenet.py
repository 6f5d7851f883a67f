# WBMM-T with windows in the first stage too, on ImageNet-1K at 224 px: what segmentation and detection start from. The
# authors train it like the classifier and report no accuracy.
_base_ = './wbmm_t_imagenet.py'
model = dict(backbone=dict(windows_in_first_stage=True))
