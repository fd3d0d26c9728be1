"""The search for inputs and settings at which a rule is wrong: what is drawn, the search, the
program that shows what was found."""
