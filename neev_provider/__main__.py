"""`python -m neev_provider`: the same as `neev-gateway`."""

from neev_provider.cli import main

if __name__ == "__main__":
    main()
