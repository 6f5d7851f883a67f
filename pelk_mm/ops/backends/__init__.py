"""How a depthwise convolution is computed: one file a back-end, and the choice between them."""
