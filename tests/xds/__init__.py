"""Tests of the streams: pure sessions, the server over loopback, and a real Envoy."""
