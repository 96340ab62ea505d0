"""Measures of control: closed-loop episodes, baselines, open-loop plans, the cost ledger, step times."""
