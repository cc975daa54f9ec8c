"""The command line of talkemo: it parses options and reports results; talkemo computes them."""

import os

from .standard_streams import open_standard_streams

open_standard_streams()  # before any file is opened

# One thread per process, set before numpy and torch are imported: the networks are so small that
# more threads do not help, and threads that compete with those of other processes are about ten
# times slower. Videos are drawn by threads of their own; training uses all cores, see
# options.use_all_cores.
THREADS_CHOSEN = "OMP_NUM_THREADS" in os.environ  # by the user
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
