"""Restart a fleet of managed search clusters within limits that hold."""
