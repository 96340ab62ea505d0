"""`worldplan plan`: reach goals from pixels, and report the outcome."""
