"""Files, terminals, pages and pictures: what comes from outside and what goes there.

Knows no network."""
