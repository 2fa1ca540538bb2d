"""`python -m datasites`: the command line `datasite`."""

from datasites.cli.main import main

if __name__ == "__main__":
    main()
