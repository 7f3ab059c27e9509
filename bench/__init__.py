"""Measurements: parity with recorded istiod, compile and recompile times, connect storms. Never part of the tests."""
