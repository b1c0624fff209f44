"""What answers are made of, as values: pure, and below everything else, errors included."""
