"""`python -m san_cli` is the same as `san`; `torchrun -m san_cli` needs it."""

from san_cli.cli.main import main

if __name__ == "__main__":
    main()
