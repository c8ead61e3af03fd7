"""Figures as tables for people, and beside the budgets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.candidates import MAILSTACK, RESOLVER_PART
from bench.figures import BARE, Figures, Point, Spread, ratio
