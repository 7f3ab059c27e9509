"""`python -m pypilot`."""

from pypilot.cli.main import main

if __name__ == "__main__":
    main()
