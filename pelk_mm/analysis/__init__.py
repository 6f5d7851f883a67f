"""Tools that look at data, models and predictions; nothing here is needed to train or run a model."""
