# Overfit check: trained and tested on the same eight images, the first of the training set that have an annotation.
# The score says whether the net can learn them by heart, nothing about COCO.
_base_ = './cascade_mask_rcnn_pelk_atto_coco.py'
eight = dict(
    ann_file='annotations/instances_train2017.json',
    data_prefix=dict(img='train2017/'),
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
    indices=8,
)
train_pipeline = [step for step in _base_.train_pipeline if step.type != 'RandomFlip']
train_dataloader = dict(dataset=dict(**eight, pipeline=train_pipeline))
# Out of test mode the same images are filtered out as in training.
val_dataloader = dict(dataset=dict(**eight, test_mode=False))
test_dataloader = val_dataloader
# Without an annotation file the metric takes the truth of the images it is given: these eight.
val_evaluator = dict(ann_file=None)
test_evaluator = val_evaluator
