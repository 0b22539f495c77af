"""``python -m ringrift_ops.cli``: what jobs call, where the command ``ringrift`` need not be installed."""

import sys

from ringrift_ops.cli import main

sys.exit(main())
