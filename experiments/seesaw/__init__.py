"""S1.8: which of three small networks learns first on which side a seesaw goes down, from many
random starts."""
