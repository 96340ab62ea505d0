"""What control costs: closed-loop episodes, baselines, open-loop plans, the cost ledger, times."""
