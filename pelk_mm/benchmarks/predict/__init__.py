"""What kernels cost on a GPU, counted from their machine code where none is at hand."""
