"""`worldplan reproduce`: the published table and figure, made again."""
