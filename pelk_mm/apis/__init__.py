"""What the tools call: train, test, predict, and models and backbones loaded by config."""
