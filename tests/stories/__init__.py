"""Whole runs: in virtual time over the pure service, and in real time over real HTTP."""
