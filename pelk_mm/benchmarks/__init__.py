"""Speed and memory: one convolution, whole nets, and the zoo."""
