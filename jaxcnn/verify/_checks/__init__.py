"""The checks, one file a family. Each is listed in `CHECKS` of verify/_check.py, in the order in
which they are made."""
