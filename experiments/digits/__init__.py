"""S0.9: the strongest network for handwritten digits that a quarter of an hour on two cores gives,
alone and as an ensemble."""
