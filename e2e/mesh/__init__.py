"""A small mesh on one machine: real agents, real Envoys, each pod a network namespace."""
