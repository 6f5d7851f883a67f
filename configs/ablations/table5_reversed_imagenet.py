# Table 5: half grid 1 1 2 4 8 1, fine outside and coarse inside, outermost segment first.
_base_ = './table5_ones_imagenet.py'
half_grid = [1, 1, 2, 4, 8, 1]
grid = [*half_grid, *half_grid[-2::-1]]
model = dict(backbone=dict(grids=(grid, grid, grid, None)))
