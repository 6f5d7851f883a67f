"""Every check before the first iteration, so that a mistake costs seconds and overwrites nothing."""
