"""`python -m raptr_dsl …` is `raptr …`: what launchers of several processes start (`torchrun -m raptr_dsl train …`)."""

import sys

from raptr_dsl.cli import main

if __name__ == "__main__":
    sys.exit(main())
