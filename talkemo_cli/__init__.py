"""The command line of talkemo: it parses and reports, and holds no maths."""

import os

# The networks are small: a second thread makes them no quicker, and beside other processes threads that wait for each
# other cost tenfold. Read by the libraries when they are loaded, so it is set before numpy and torch are imported. Videos
# are drawn by threads of their own, and training asks for all cores, see train.py.
THREADS_CHOSEN = "OMP_NUM_THREADS" in os.environ  # by the user
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
