"""S0.8: what a convolutional network has learned: filters, maps, what excites a unit, and where a
decision came from."""
