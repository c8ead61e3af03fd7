"""The benchmark: what authenticating mail costs here, beside other set-ups of the same parts, in one run.

"python -m bench --help"; README.md beside this file says what is measured, and how.
"""
