"""What trained nets score, beside what an untrained one and a constant answer score."""
