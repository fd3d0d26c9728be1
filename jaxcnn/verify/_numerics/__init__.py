"""When two arrays agree, what wrong elements have in common, and derivatives by differences that
know their own error."""
