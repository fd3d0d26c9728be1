"""How far apart two numbers must be before a check says so; each number with its reason.

>>> OFF * SURE < 1
True
"""

LARGE = 100_000  # numbers: their kinks are many and close, and each look at them takes long
TINY = 1e-300  # keeps a share of nothing from being a division by 0
OFF = 10  # times a slope's estimated error, which rounding may make too small by a few times
SURE = 0.02  # an estimate whose error is a larger share of it decides nothing
NEGLIGIBLE = 1e-6  # share of the gradient's size that slopes by differences do not resolve
STEEP = 1e-7  # the same along one direction, where all elements add up and errors cancel
APART = 20  # times the errors of two one-sided slopes: beyond it they differ, and there is a kink
BENT = 1e-4  # share of two one-sided slopes by which they must differ besides
ALIKE = 1e-6  # relative distance up to which numbers follow a pattern (a factor, a constant gap)
