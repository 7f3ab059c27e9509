"""The command line: one thin file a command. A command imports what it needs when it runs."""
