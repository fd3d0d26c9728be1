"""Networks that learn through other backwards than the true one: the same forward, the same data,
five ways back."""
