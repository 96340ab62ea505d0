"""`worldplan plan`: reach goals from pixels, and say what happened."""
