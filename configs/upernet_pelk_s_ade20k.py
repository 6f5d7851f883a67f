# UperNet with PeLK-S on ADE20K. Give it what pelk_s_imagenet.py trains as PELK_MM_PRETRAINED.
_base_ = './upernet_pelk_t_ade20k.py'
model = dict(backbone=dict(arch='small', drop_path_rate=0.3))
