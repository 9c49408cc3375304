"""Assurance: evidence × policy → a verdict, and the pages that a reviewer reads before staking a name on it."""
