"""S1.7: a walk through a network, forward and back, number by number; and the same walk through any
model of the library."""
