# Table 5: a 33 x 33 kernel, every tap with a weight of its own; no h.
# The paper gives grids for K = 33 and no plan of stages. Ours: 33 in the first three stages and PeLK's own 13 in the
# last, as in every plan the paper prints. At 224 px the last stage's map is 7 x 7, which 13 covers from any pixel: the
# rest of a 33 x 33 kernel would never see a pixel there, and the grids would differ in weights that do nothing.
_base_ = './pelk_t_imagenet.py'
half_grid = [1] * 17
grid = [*half_grid, *half_grid[-2::-1]]
model = dict(backbone=dict(kernel_sizes=(33, 33, 33, 13), grids=(grid, grid, grid, None), pos_embed=None))
