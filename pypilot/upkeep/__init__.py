"""What is kept right in the API server for users: statuses of ServiceEntries, entries of machines that register.

What to write is decided by pure functions elsewhere (`world.allocation`, `world.registration`); here it is carried to
the API server. Must not know streams.
"""
