"""Reading files of unknown origin safely, writing them atomically, arrays, and what is up to date."""
