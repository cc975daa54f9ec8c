"""python -m talkemo_cli"""

import sys

from .app import main

sys.exit(main())
