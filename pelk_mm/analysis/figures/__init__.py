"""Figures of nets: kernels, receptive fields, parameters and multiply-adds."""
