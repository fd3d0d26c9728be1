"""Rules that are wrong at some geometry only, one a file: what the search must find."""
