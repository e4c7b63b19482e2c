"""Proposes candidates and learns from rewards: strategies, journal, ranking. No Ray, no training."""
