"""The run-time checker of the shape contracts: an int passes where a float is asked for, as in
Python's numeric tower."""

from beartype import BeartypeConf, beartype

typechecker = beartype(conf=BeartypeConf(is_pep484_tower=True))
