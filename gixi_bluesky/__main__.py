"""`python -m gixi_bluesky` is the same as `gixi-bluesky`."""

from gixi_bluesky.cli import main

if __name__ == "__main__":
    main()
