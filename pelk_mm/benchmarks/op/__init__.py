"""One convolution against every other way to compute it."""
