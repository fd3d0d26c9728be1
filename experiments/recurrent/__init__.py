"""S4.4: a deep recurrent network on two real tasks: digits read row by row, and sums over long
spans."""
