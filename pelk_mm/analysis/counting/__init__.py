"""Parameters and multiply-adds of nets, beside the published ones."""
