"""`python -m remoterun`: the command line."""

import sys

from remoterun.cli import main

sys.exit(main())
