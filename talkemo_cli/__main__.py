"""python -m talkemo_cli"""

from .app import main

main()
