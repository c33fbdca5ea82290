"""Probes: what a frozen encoder has learnt."""
