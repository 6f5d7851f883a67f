# The same on scenes of 64 pixels (tools/make_toy_data.py --size 64), at a third of the cost: what tools/demo.sh trains.
_base_ = './upernet_pelk_atto_toy.py'
crop_size = (64, 64)
mean = 1 / (0.41 * 8 * crop_size[0] * crop_size[1])  # the mean of the loss, as there
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(loss_decode=dict(loss_weight=mean)),
    auxiliary_head=dict(loss_decode=dict(loss_weight=0.4 * mean)),
)
