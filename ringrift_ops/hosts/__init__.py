"""Where work runs: the one job protocol (submit, adopt, poll, kill, collect) and its transports."""
