"""Compiled program of a sweep: plan, draws, refilled queue of lanes, measures of the limits."""
