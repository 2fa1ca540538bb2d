"""`python -m datasites.runner.parent`, as 0.1.0 had it: see `datasites.jobs.parent`."""

import sys

from datasites.jobs.parent import main

if __name__ == "__main__":
    main(sys.argv[1:])
