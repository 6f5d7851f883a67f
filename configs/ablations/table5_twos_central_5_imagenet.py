# Table 5: half grid of seven twos and three ones, outermost segment first.
_base_ = './table5_ones_imagenet.py'
half_grid = [2, 2, 2, 2, 2, 2, 2, 1, 1, 1]
grid = [*half_grid, *half_grid[-2::-1]]
model = dict(backbone=dict(grids=(grid, grid, grid, None)))
