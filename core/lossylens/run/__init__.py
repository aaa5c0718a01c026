"""Doing it: encoding, answering, scoring, measuring, in workers."""
